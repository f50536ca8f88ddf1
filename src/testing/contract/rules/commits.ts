import { equal } from "../expect.ts";
import { ADA, all, append, BOB, draft, mustCommit, numbers, ORDER, stream } from "../store-calls.ts";
import { placed } from "../plain-event.ts";
import type { Rule } from "../rule.ts";

/** What one commit does: all of it is written, or nothing. */
export const commits: readonly Rule[] = [
  {
    name: "a new store is empty",
    async run({ store }) {
      equal(await all(store), [], "all events");
      equal(await stream(store, ADA), [], "events of a stream that does not exist");
      equal(await store.listStreams(), [], "streams");
      equal(await store.head(), 0, "head");
    },
  },
  {
    name: "versions count within a stream and positions over the store, without holes",
    async run({ store }) {
      equal(await store.commit(append(ADA, 0, "A", "B")), { ok: true, position: 2 }, "first commit");
      equal(await store.commit(append(BOB, 0, "C")), { ok: true, position: 3 }, "second commit");
      equal(await store.commit(append(ADA, 2, "D", "E", "F")), { ok: true, position: 6 }, "third commit");
      equal((await stream(store, ADA)).map(placed), ["A@1:1", "B@2:2", "D@3:4", "E@4:5", "F@5:6"], "first stream");
      equal((await stream(store, BOB)).map(placed), ["C@1:3"], "second stream");
      equal((await all(store)).map(placed), ["A@1:1", "B@2:2", "C@1:3", "D@3:4", "E@4:5", "F@5:6"], "all events");
      equal(await store.head(), 6, "head");
    },
  },
  {
    name: "a commit to several streams numbers its events in the order of the request",
    async run({ store }) {
      await mustCommit(store, append(BOB, 0, "Z"));
      const result = await store.commit({
        appends: [
          ...append(ORDER, 0, "A", "B").appends,
          ...append(BOB, 1, "C").appends,
          ...append(ADA, 0, "D").appends,
        ],
      });
      equal(result, { ok: true, position: 5 }, "result");
      equal(
        (await all(store)).map((event) => `${event.stream.id} ${placed(event)}`),
        ["bob Z@1:1", "1 A@1:2", "1 B@2:3", "bob C@2:4", "ada D@1:5"],
        "all events",
      );
      equal((await stream(store, BOB)).map(placed), ["Z@1:1", "C@2:4"], "one of the streams");
    },
  },
  {
    name: "commits to 300 new streams at once all succeed",
    async run({ store }) {
      const streams = numbers(300).map((n) => ({ type: "many", id: `s${n}` }));
      const results = await Promise.all(streams.map((each) => store.commit(append(each, 0, "A", "B"))));
      equal(
        results,
        streams.map((_, i) => ({ ok: true, position: 2 * (i + 1) })),
        "results",
      );
      equal((await store.listStreams("many")).length, 300, "streams");
      equal((await stream(store, { type: "many", id: "s150" })).map(placed), ["A@1:299", "B@2:300"], "one of them");
    },
  },
  {
    name: "a commit stores metadata as it was at the call",
    async run({ store }) {
      const meta = { tags: ["a"] };
      const events = [{ ...draft("A"), meta }];
      const committed = store.commit({ appends: [{ stream: ADA, expectedVersion: 0, events }] });
      meta.tags.push("b");
      equal(await committed, { ok: true, position: 1 }, "result");
      meta.tags.push("c");
      const [event] = await stream(store, ADA);
      equal(event?.meta, { tags: ["a"] }, "meta");
    },
  },
];
