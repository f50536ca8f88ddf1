import { CUT_TYPES, type CutData } from "../../../cut.ts";
import type { Commit, EventStore, StreamName } from "../../../event-store/event-store.ts";
import { equal } from "../expect.ts";
import { placed } from "../plain-event.ts";
import type { Rule } from "../rule.ts";
import { ADA, all, append, BOB, draft, keepSnapshot, mustCommit, SNAPSHOT, stream } from "../store-calls.ts";

/** A commit that deletes a stream. */
function deletion(name: StreamName, expectedVersion: number, more: Partial<CutData> = {}): Commit {
  const data: CutData = { version: expectedVersion + 1, final: false, ...more };
  const events = [draft(CUT_TYPES.deleted, JSON.stringify(data))];
  return { appends: [{ stream: name, expectedVersion, events, cut: "deleted" }] };
}

async function ids(store: EventStore, type?: string): Promise<string[]> {
  return (await store.listStreams(type)).map(({ id }) => id);
}

/** Two streams with the events A B X Y, the first of which is deleted at position 5. */
async function withDeletion(store: EventStore): Promise<void> {
  await mustCommit(store, append(ADA, 0, "A", "B"));
  await mustCommit(store, append(BOB, 0, "X"));
  await mustCommit(store, append(BOB, 1, "Y"));
  await mustCommit(store, deletion(ADA, 2));
}

/** Cuts drop the earlier events of their stream for every reader. */
export const cuts: readonly Rule[] = [
  {
    name: "after a deletion, readers of the stream get the deletion alone",
    async run({ store }) {
      await withDeletion(store);
      equal((await stream(store, ADA)).map(placed), ["$deleted@3:5"], "events of the stream");
      equal((await stream(store, ADA, 2)).map(placed), ["$deleted@3:5"], "from a dropped version");
      equal((await stream(store, ADA, 4)).map(placed), [], "from after the deletion");
      equal((await stream(store, ADA))[0]?.data, { version: 3, final: false }, "payload of the deletion");
      equal((await stream(store, BOB)).map(placed), ["X@1:3", "Y@2:4"], "events of the other stream");
    },
  },
  {
    name: "after a deletion, readers of all events get the deletion and not the events before",
    async run({ store }) {
      await withDeletion(store);
      const rest = ["X@1:3", "Y@2:4", "$deleted@3:5"];
      equal((await all(store)).map(placed), rest, "all events");
      equal((await all(store, 2)).map(placed), rest, "from a dropped position");
      equal((await all(store, 5)).map(placed), ["$deleted@3:5"], "from the deletion");
      equal(await store.head(), 5, "head");
      const wanted = new Map([["account", new Set(["$deleted", "A"])]]);
      const found: string[] = [];
      for await (const batch of store.readAll({ wanted }))
        for (const event of batch) if (event.type === "A" || event.type === "$deleted") found.push(placed(event));
      equal(found, ["$deleted@3:5"], "wanted events");
    },
  },
  {
    name: "a store tells which positions were dropped",
    async run({ store }) {
      equal(await store.isDropped(1), false, "of an empty store");
      await withDeletion(store);
      const dropped: boolean[] = [];
      for (const position of [1, 2, 3, 4, 5, 6]) dropped.push(await store.isDropped(position));
      equal(dropped, [true, true, false, false, false, false], "dropped positions");
    },
  },
  {
    name: "a reader that asks for dropped events gets their streams, versions and positions",
    async run({ store }) {
      await withDeletion(store);
      const found: string[] = [];
      for await (const batch of store.readAll({ dropped: true }))
        for (const { stream: name, version, position } of batch) found.push(`${name.id}@${version}:${position}`);
      equal(found, ["ada@1:1", "ada@2:2", "bob@1:3", "bob@2:4", "ada@3:5"], "places");
    },
  },
  {
    name: "a deleted stream is listed again when it has a new event",
    async run({ store }) {
      await withDeletion(store);
      equal(await ids(store), ["bob"], "streams");
      equal(await ids(store, "account"), ["bob"], "streams of the type");
      await mustCommit(store, append(ADA, 3, "C"));
      equal(await ids(store), ["ada", "bob"], "streams with the new life");
      await mustCommit(store, deletion(ADA, 4));
      equal(await ids(store), ["bob"], "streams after the second deletion");
    },
  },
  {
    name: "a deletion goes on with the version, so that a new life repeats none",
    async run({ store }) {
      await withDeletion(store);
      for (const version of [0, 2]) {
        const result = await store.commit(append(ADA, version, "C"));
        equal(result, { ok: false, stream: ADA, actualVersion: 3 }, `commit at version ${version}`);
      }
      await mustCommit(store, append(ADA, 3, "C", "D"));
      equal((await stream(store, ADA)).map(placed), ["$deleted@3:5", "C@4:6", "D@5:7"], "the new life");
      await mustCommit(store, append(ADA, 5, "E"));
      await mustCommit(store, deletion(ADA, 6));
      await mustCommit(store, append(ADA, 7, "F"));
      equal((await stream(store, ADA)).map(placed), ["$deleted@7:9", "F@8:10"], "the life after that");
      equal((await all(store)).map(placed), ["X@1:3", "Y@2:4", "$deleted@7:9", "F@8:10"], "all events");
    },
  },
  {
    name: "a deletion on an old version is refused and drops nothing",
    async run({ store }) {
      await mustCommit(store, append(ADA, 0, "A", "B"));
      equal(await store.commit(deletion(ADA, 1)), { ok: false, stream: ADA, actualVersion: 2 }, "result");
      equal((await all(store)).map(placed), ["A@1:1", "B@2:2"], "events");
    },
  },
  {
    name: "a deletion in a commit of several streams drops the events of its own stream",
    async run({ store }) {
      await mustCommit(store, append(ADA, 0, "A"));
      await mustCommit(store, append(BOB, 0, "X"));
      const [cut] = deletion(ADA, 1).appends;
      const [more] = append(BOB, 1, "Y").appends;
      if (cut === undefined || more === undefined) throw new Error("a commit has appends");
      await mustCommit(store, { appends: [more, cut] });
      equal((await all(store)).map(placed), ["X@1:2", "Y@2:3", "$deleted@2:4"], "events");
    },
  },
  {
    name: "a deletion and its stream's neighbours in time share a flush without harm",
    async run({ store }) {
      const results = await Promise.all([
        store.commit(append(ADA, 0, "A")),
        store.commit(deletion(ADA, 1)),
        store.commit(append(ADA, 2, "B")),
        store.commit(deletion(ADA, 3)),
        store.commit(append(ADA, 4, "C", "D")),
      ]);
      equal(
        results.map(({ ok }) => ok),
        [true, true, true, true, true],
        "results",
      );
      equal((await stream(store, ADA)).map(placed), ["$deleted@4:4", "C@5:5", "D@6:6"], "the stream");
      equal((await all(store)).map(placed), ["$deleted@4:4", "C@5:5", "D@6:6"], "all events");
    },
  },
  {
    name: "a snapshot from before a deletion is not loaded, also one that is saved late",
    async run({ store }) {
      await mustCommit(store, append(ADA, 0, "A", "B"));
      await keepSnapshot(store, ADA, SNAPSHOT);
      await mustCommit(store, deletion(ADA, 2));
      equal(await store.loadSnapshot(ADA, "f1"), undefined, "snapshot after the deletion");
      await store.saveSnapshot(ADA, SNAPSHOT);
      equal(await store.loadSnapshot(ADA, "f1"), undefined, "snapshot that was saved late");
      await mustCommit(store, append(ADA, 3, "C"));
      const fresh = { ...SNAPSHOT, version: 4, position: 4 };
      await keepSnapshot(store, ADA, fresh);
      equal((await store.loadSnapshot(ADA, "f1"))?.version, 4, "snapshot of the new life");
    },
  },
  {
    name: "a deletion is there after reopening",
    needs: "durable",
    async run({ store, reopened }) {
      await withDeletion(store);
      await mustCommit(store, append(BOB, 2, "Z"));
      const again = await reopened();
      equal((await all(again)).map(placed), ["X@1:3", "Y@2:4", "$deleted@3:5", "Z@3:6"], "all events");
      equal((await stream(again, ADA)).map(placed), ["$deleted@3:5"], "events of the stream");
      equal(await ids(again), ["bob"], "streams");
      equal(await again.isDropped(2), true, "whether position 2 was dropped");
      await mustCommit(again, append(ADA, 3, "C"));
      equal((await stream(again, ADA)).map(placed), ["$deleted@3:5", "C@4:7"], "the new life");
    },
  },
  {
    name: "a deletion of another handle is seen after a refresh",
    needs: "multiProcess",
    async run({ store, second }) {
      await mustCommit(store, append(ADA, 0, "A", "B"));
      await mustCommit(store, append(BOB, 0, "X"));
      const other = await second();
      equal((await stream(other, ADA)).map(placed), ["A@1:1", "B@2:2"], "the stream before");
      const told: string[] = [];
      other.watchForeign(({ id }) => told.push(id));
      await mustCommit(store, deletion(ADA, 2));
      await other.refresh();
      equal(told, ["ada"], "streams that the other handle reported");
      equal((await stream(other, ADA)).map(placed), ["$deleted@3:4"], "the stream");
      equal((await all(other)).map(placed), ["X@1:3", "$deleted@3:4"], "all events");
      equal(await ids(other), ["bob"], "streams");
      await mustCommit(other, append(ADA, 3, "C"));
      await store.refresh();
      equal((await stream(store, ADA)).map(placed), ["$deleted@3:4", "C@4:5"], "the new life, here");
    },
  },
];
