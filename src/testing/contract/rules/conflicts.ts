import type { Commit } from "../../../event-store/event-store.ts";
import { equal, within } from "../expect.ts";
import { ADA, all, append, BOB, mustCommit, numbers, ORDER, stream } from "../store-calls.ts";
import { placed } from "../plain-event.ts";
import type { Rule } from "../rule.ts";

/** A commit that expects another version, or another sequence, writes nothing. */
export const conflicts: readonly Rule[] = [
  {
    name: "a commit that expects another version writes nothing and returns the actual version",
    async run({ store }) {
      await mustCommit(store, append(ADA, 0, "A", "B"));
      for (const expected of [0, 1, 3, 1000]) {
        const result = await store.commit(append(ADA, expected, "X"));
        equal(result, { ok: false, stream: ADA, actualVersion: 2 }, `commit that expects version ${expected}`);
      }
      equal(await store.commit(append(BOB, 1, "X")), { ok: false, stream: BOB, actualVersion: 0 }, "a new stream");
      equal((await all(store)).map(placed), ["A@1:1", "B@2:2"], "all events");
      equal(await store.listStreams(), [ADA], "streams");
      equal(
        await store.commit(append(ADA, 2, "C")),
        { ok: true, position: 3 },
        "the next commit has no hole before it",
      );
    },
  },
  {
    name: "a conflict in one stream keeps the commit out of every stream",
    async run({ store }) {
      await mustCommit(store, append(BOB, 0, "Z"));
      const result = await store.commit({
        appends: [...append(ADA, 0, "A").appends, ...append(BOB, 0, "B").appends, ...append(ORDER, 0, "C").appends],
      });
      equal(result, { ok: false, stream: BOB, actualVersion: 1 }, "result");
      equal((await all(store)).map(placed), ["Z@1:1"], "all events");
      equal(await stream(store, ADA), [], "the stream before the conflict");
      equal(await stream(store, ORDER), [], "the stream after the conflict");
      equal(await store.listStreams(), [BOB], "streams");
    },
  },
  {
    name: "an append without events only checks the version",
    async run({ store }) {
      await mustCommit(store, append(BOB, 0, "Z"));
      const commit = (version: number): Commit => ({
        appends: [...append(BOB, version).appends, ...append(ADA, 0, "A").appends],
      });
      equal(await store.commit(commit(0)), { ok: false, stream: BOB, actualVersion: 1 }, "wrong version");
      equal(await store.commit(commit(1)), { ok: true, position: 2 }, "right version");
      equal(await within(store.commit(append(BOB, 1))), { ok: true, position: 2 }, "nothing else in the commit");
      equal(await within(store.commit(append(ORDER, 0))), { ok: true, position: 2 }, "a stream that does not exist");
      equal(await store.listStreams(), [ADA, BOB], "streams");
    },
  },
  {
    name: "of concurrent commits to one version exactly one is written",
    async run({ store }) {
      for (const round of [0, 1, 2]) {
        const results = await Promise.all(numbers(20).map((n) => store.commit(append(ADA, round, `E${n}`))));
        equal(results.filter(({ ok }) => ok).length, 1, `commits written in round ${round}`);
        for (const result of results)
          if (!result.ok) equal(result, { ok: false, stream: ADA, actualVersion: round + 1 }, "a conflict");
      }
      equal(
        (await all(store)).map(({ version, position }) => [version, position]),
        [
          [1, 1],
          [2, 2],
          [3, 3],
        ],
        "all events",
      );
    },
  },
];
