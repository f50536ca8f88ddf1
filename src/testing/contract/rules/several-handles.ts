import { equal } from "../expect.ts";
import { ADA, all, append, BOB, mustCommit, numbers, ORDER, stream } from "../store-calls.ts";
import { placed } from "../plain-event.ts";
import type { Rule } from "../rule.ts";

/** Several handles on one store, as separate processes have them. */
export const severalHandles: readonly Rule[] = [
  {
    name: "two handles see each other's commits after a refresh",
    needs: "multiProcess",
    async run({ store, second }) {
      await mustCommit(store, append(ADA, 0, "A"));
      const other = await second();
      equal((await stream(other, ADA)).map(placed), ["A@1:1"], "what was there before");
      await mustCommit(store, append(ADA, 1, "B"));
      await other.refresh();
      equal((await stream(other, ADA)).map(placed), ["A@1:1", "B@2:2"], "a stream");
      await mustCommit(other, append(BOB, 0, "C"));
      await store.refresh();
      equal((await all(store)).map(placed), ["A@1:1", "B@2:2", "C@1:3"], "all events");
      equal(await store.listStreams(), [ADA, BOB], "streams");
      equal(await store.head(), 3, "head");
    },
  },
  {
    name: "of two handles that commit the same version, only one succeeds",
    needs: "multiProcess",
    async run({ store, second }) {
      const other = await second();
      await mustCommit(store, append(ADA, 0, "A"));
      equal(await other.commit(append(ADA, 0, "X")), { ok: false, stream: ADA, actualVersion: 1 }, "a conflict");
      for (const round of numbers(10)) {
        const results = await Promise.all([store, other].map((each) => each.commit(append(ADA, round, "B"))));
        equal(results.filter(({ ok }) => ok).length, 1, `commits written in round ${round}`);
      }
      await other.refresh();
      equal(
        (await all(other)).map(({ version, position }) => [version, position]),
        numbers(11).map((n) => [n, n]),
        "versions and positions",
      );
    },
  },
  {
    name: "two handles write positions without holes",
    needs: "multiProcess",
    async run({ store, second }) {
      const other = await second();
      const results = await Promise.all(
        numbers(60).map((n) => (n % 2 === 0 ? store : other).commit(append({ type: "t", id: `${n}` }, 0, "A", "B"))),
      );
      equal(
        results.map((result) => (result.ok ? result.position : 0)).sort((a, b) => a - b),
        numbers(60).map((n) => 2 * n),
        "returned positions",
      );
      for (const each of [store, other]) {
        await each.refresh();
        const events = await all(each);
        equal(
          events.map(({ position }) => position),
          numbers(120),
          "positions",
        );
        for (const result of results) {
          if (result.ok) equal(events[result.position - 2]?.stream, events[result.position - 1]?.stream, "one commit");
        }
      }
    },
  },
  {
    name: "watchers are called for commits of the other handle",
    needs: "multiProcess",
    async run({ store, second }) {
      const other = await second();
      const foreign: string[] = [];
      let calls = 0;
      const endForeign = store.watchForeign(({ type, id }) => void foreign.push(`${type}/${id}`));
      const end = store.watch(() => calls++);
      await mustCommit(other, { appends: [...append(ADA, 0, "A", "B").appends, ...append(ORDER, 0, "C").appends] });
      await store.refresh();
      equal(foreign.sort(), ["account/ada", "order/1"], "streams that the watcher received");
      equal(calls > 0, true, "called for a commit of another process");
      await store.refresh();
      equal(foreign.length, 2, "told once");
      endForeign();
      end();
      const before = calls;
      await mustCommit(other, append(ADA, 2, "D"));
      await store.refresh();
      equal([foreign.length, calls], [2, before], "calls after they were ended");
    },
  },
];
