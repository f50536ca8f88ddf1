import type { Commit } from "../../../event-store/event-store.ts";
import { equal, within } from "../expect.ts";
import { placed } from "../plain-event.ts";
import type { Rule } from "../rule.ts";
import { ADA, all, append, BOB, mustCommit, ORDER } from "../store-calls.ts";

/** A decision to write no events rests on the newest version: the store checks it. */
export const checkedVerdicts: readonly Rule[] = [
  {
    name: "progress and dead letters are not written when an append without events expects another version",
    async run({ store }) {
      await mustCommit(store, append(ADA, 0, "A", "B"));
      const settle = (version: number, expectedSequence = 0): Commit => ({
        ...append(ADA, version),
        consumer: { name: "pm", expectedSequence, note: version, deadLetters: [{ key: "k", letter: { error: "no" } }] },
      });
      for (const version of [0, 1, 3]) {
        const expected = { ok: false, stream: ADA, actualVersion: 2 };
        equal(await within(store.commit(settle(version))), expected, `a commit that expects version ${version}`);
      }
      const missing = { ...settle(0), ...append(BOB, 1) };
      equal(
        await within(store.commit(missing)),
        { ok: false, stream: BOB, actualVersion: 0 },
        "a stream that does not exist",
      );
      equal(await store.consumerNotes("pm", 0), [], "notes");
      equal(await store.deadLetters("pm"), [], "dead letters");
      equal((await within(store.commit(settle(2)))).ok, true, "the newest version");
      equal(await store.consumerNotes("pm", 0), [{ sequence: 1, note: 2 }], "notes in the end");
      equal((await all(store)).map(placed), ["A@1:1", "B@2:2"], "events");
      equal(await store.listStreams(), [ADA], "streams");
    },
  },
  {
    name: "an append without events conflicts with a commit of another handle",
    needs: "multiProcess",
    async run({ store, second }) {
      await mustCommit(store, append(ADA, 0, "A"));
      const other = await second();
      equal((await within(other.commit(append(ADA, 1)))).ok, true, "the newest version");
      await mustCommit(store, append(ADA, 1, "B"));
      const expected = { ok: false, stream: ADA, actualVersion: 2 };
      equal(await within(other.commit(append(ADA, 1))), expected, "a version that has become old");
    },
  },
  {
    name: "an append without events sees the commits before it in the same batch",
    async run({ store }) {
      const [written, old, newest] = await Promise.all([
        store.commit(append(ADA, 0, "A")),
        store.commit(append(ADA, 0)),
        store.commit(append(ADA, 1)),
      ]);
      equal(written, { ok: true, position: 1 }, "the events");
      equal(old, { ok: false, stream: ADA, actualVersion: 1 }, "the old version");
      equal(newest.ok, true, "the new version");
    },
  },
  {
    name: "no commit of a chain is written after one that conflicts, whatever it expects",
    async run({ store }) {
      await mustCommit(store, append(ADA, 0, "A"));
      const chain = { broken: false };
      const results = await Promise.all([
        store.commit({ ...append(ADA, 1, "B"), chain }),
        store.commit({ ...append(ADA, 1, "X"), chain }),
        store.commit({ ...append(ADA, 2), chain }),
        store.commit({ ...append(ADA, 2, "Y"), chain }),
        store.commit({ ...append(ORDER, 0, "Z"), chain }),
      ]);
      equal(
        results.map(({ ok }) => ok),
        [true, false, false, false, false],
        "results",
      );
      equal((await all(store)).map(placed), ["A@1:1", "B@2:2"], "events");
      equal(chain.broken, true, "chain.broken");
    },
  },
];
