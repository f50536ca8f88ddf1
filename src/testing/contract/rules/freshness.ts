import { CommitSignal } from "../../../event-store/commit-signal.ts";
import type { StreamName } from "../../../event-store/event-store.ts";
import { equal, PATIENCE_MS } from "../expect.ts";
import { placed } from "../plain-event.ts";
import type { Rule } from "../rule.ts";
import { ADA, all, append, BOB, mustCommit, numbers, ORDER, stream } from "../store-calls.ts";

/** After an awaited `refresh`, a handle has seen the commits of all others and called its watchers. */
export const freshness: readonly Rule[] = [
  {
    name: "after a refresh every read sees what another handle has committed",
    needs: "multiProcess",
    async run({ store, second }) {
      await mustCommit(store, append(ADA, 0, "A"));
      const other = await second();
      await mustCommit(other, append(ADA, 1, "B"));
      await mustCommit(other, append(ORDER, 0, "C"));
      const note = { name: "pm", expectedSequence: 0, note: 1, deadLetters: [{ key: "k", letter: { error: "no" } }] };
      equal((await other.commit({ appends: [], consumer: note })).ok, true, "note of the other handle");
      await store.refresh();
      equal((await stream(store, ADA)).map(placed), ["A@1:1", "B@2:2"], "a stream");
      equal((await stream(store, ADA, 2)).map(placed), ["B@2:2"], "the end of a stream");
      equal((await all(store)).map(placed), ["A@1:1", "B@2:2", "C@1:3"], "all events");
      equal(await store.head(), 3, "head");
      equal(await store.listStreams(), [ADA, ORDER], "streams");
      equal(await store.consumerNotes("pm", 0), [{ sequence: 1, note: 1 }], "notes");
      equal((await store.deadLetters("pm")).length, 1, "dead letters");
    },
  },
  {
    name: "a handle reads its own commits without a refresh",
    async run({ store }) {
      for (const n of numbers(5)) {
        await mustCommit(store, append(ADA, n - 1, `E${n}`));
        equal((await stream(store, ADA, n)).map(placed), [`E${n}@${n}:${n}`], `the stream after commit ${n}`);
        equal(await store.head(), n, `head after commit ${n}`);
      }
    },
  },
  {
    name: "refreshNow, if a store has it, sees what another handle has committed",
    needs: "multiProcess",
    async run({ store, second }) {
      if (store.refreshNow === undefined) return;
      const other = await second();
      const foreign: string[] = [];
      const end = store.watchForeign(({ id }) => void foreign.push(id));
      await mustCommit(other, append(ADA, 0, "A"));
      store.refreshNow();
      equal(foreign, ["ada"], "foreign watchers called before it returned");
      end();
    },
  },
  {
    name: "refresh resolves after the watchers have been called, also when calls overlap",
    needs: "multiProcess",
    async run({ store, second }) {
      const other = await second();
      for (const n of numbers(10)) {
        const told = new Set<string>();
        const end = store.watchForeign(({ type, id }: StreamName) => void told.add(`${type}/${id}`));
        await mustCommit(other, append(ADA, n - 1, "A"));
        const checked = async (): Promise<void> => {
          await store.refresh();
          equal([...told], ["account/ada"], `streams told before a refresh resolved, in round ${n}`);
        };
        await Promise.all([checked(), checked(), checked()]);
        end();
      }
    },
  },
  {
    name: "commits of a store are never told to its own foreign watchers, also between those of another handle",
    needs: "multiProcess",
    async run({ store, second }) {
      const other = await second();
      const foreign = new Set<string>();
      const end = store.watchForeign(({ type, id }) => void foreign.add(`${type}/${id}`));
      await Promise.all(
        numbers(30).flatMap((n) => [
          mustCommit(store, append({ type: "own", id: `${n}` }, 0, "A")),
          mustCommit(other, append({ type: "other", id: `${n}` }, 0, "A")),
          store.refresh(),
        ]),
      );
      await store.refresh();
      equal(
        [...foreign].sort(),
        numbers(30)
          .map((n) => `other/${n}`)
          .sort(),
        "streams that the watcher received",
      );
      end();
    },
  },
  {
    name: "a watcher is called for the other handle's commits: by polling as often as the store says, or without",
    needs: "multiProcess",
    async run({ store, second }) {
      const other = await second();
      const { pollInterval } = store;
      if (pollInterval !== undefined && !(pollInterval > 0 && pollInterval <= 60_000))
        throw new Error(`pollInterval: expected 1 to 60,000 ms or undefined, got ${String(pollInterval)}`);
      const commits = new CommitSignal(store);
      try {
        await mustCommit(other, append(BOB, 0, "A"));
        const end = Date.now() + PATIENCE_MS;
        while (!(await commits.wait(100)))
          if (Date.now() > end) throw new Error(`no watcher was called within ${PATIENCE_MS} ms`);
      } finally {
        commits.close();
      }
      await store.refresh();
      equal(await store.head(), 1, "head");
    },
  },
];
