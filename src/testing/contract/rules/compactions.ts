import { type CompactionData, CUT_TYPES, type CutData } from "../../../cut.ts";
import type { Commit, EventStore, ReadAllOptions, StreamName } from "../../../event-store/event-store.ts";
import { equal } from "../expect.ts";
import { placed } from "../plain-event.ts";
import type { Rule } from "../rule.ts";
import { ADA, all, append, BOB, collect, draft, keepSnapshot, mustCommit, SNAPSHOT, stream } from "../store-calls.ts";

/** A commit that replaces the events of a stream by one of each type. */
function compaction(name: StreamName, expectedVersion: number, ...types: string[]): Commit {
  const data: CompactionData = { version: expectedVersion + 1, events: types.length, keys: ["k"] };
  const events = [draft(CUT_TYPES.compacted, JSON.stringify(data)), ...types.map((type) => draft(type))];
  return { appends: [{ stream: name, expectedVersion, events, cut: "compacted" }] };
}

function deletion(name: StreamName, expectedVersion: number): Commit {
  const data: CutData = { version: expectedVersion + 1, final: false };
  const events = [draft(CUT_TYPES.deleted, JSON.stringify(data))];
  return { appends: [{ stream: name, expectedVersion, events, cut: "deleted" }] };
}

/** Two streams with the events A B X, the first of which is compacted to C D at position 4; then Y and E. */
async function withCompaction(store: EventStore): Promise<void> {
  await mustCommit(store, append(ADA, 0, "A", "B"));
  await mustCommit(store, append(BOB, 0, "X"));
  await mustCommit(store, compaction(ADA, 2, "C", "D"));
  await mustCommit(store, append(BOB, 1, "Y"));
  await mustCommit(store, append(ADA, 5, "E"));
}

async function seen(store: EventStore, options: ReadAllOptions): Promise<string[]> {
  return (await collect(store.readAll(options))).map(placed);
}

const NEW = ["X@1:3", "C@4:5", "D@5:6", "Y@2:7", "E@6:8"];
const OLD = ["A@1:1", "B@2:2", "X@1:3", "Y@2:7", "E@6:8"];

/** Compactions replace the earlier events of their stream, for readers that begin later. */
export const compactions: readonly Rule[] = [
  {
    name: "after a compaction, readers of the stream get the compaction and the new events",
    async run({ store }) {
      await withCompaction(store);
      const events = ["$compacted@3:4", "C@4:5", "D@5:6", "E@6:8"];
      equal((await stream(store, ADA)).map(placed), events, "events of the stream");
      equal((await stream(store, ADA, 2)).map(placed), events, "from a replaced version");
      equal((await stream(store, ADA, 5)).map(placed), events.slice(2), "from a new version");
      equal((await stream(store, ADA))[0]?.data, { version: 3, events: 2, keys: ["k"] }, "payload");
      equal(
        (await store.listStreams()).map(({ id }) => id),
        ["ada", "bob"],
        "streams",
      );
    },
  },
  {
    name: "a reader of all events that begins after a compaction gets the new events in place of the old",
    async run({ store }) {
      await withCompaction(store);
      equal((await all(store)).map(placed), NEW, "all events");
      equal((await all(store, 2)).map(placed), NEW, "from a replaced position");
      equal((await all(store, 4)).map(placed), NEW.slice(1), "from the compaction");
      equal(await store.head(), 8, "head");
      const wanted = new Map([["account", new Set(["A", "C", "E", "$compacted"])]]);
      const found = (await collect(store.readAll({ wanted }))).filter(({ type }) => wanted.get("account")?.has(type));
      equal(found.map(placed), ["C@4:5", "E@6:8"], "wanted events");
    },
  },
  {
    name: "a reader of all events that began before a compaction gets the old events and not the new ones",
    async run({ store }) {
      await withCompaction(store);
      equal(await seen(store, { horizon: 3 }), OLD, "all events");
      equal(await seen(store, { horizon: 3, from: 2 }), OLD.slice(1), "from between the old events");
      equal(await seen(store, { horizon: 3, from: 5 }), OLD.slice(3), "from between the new events");
      equal(await seen(store, { horizon: 6 }), NEW, "of one that began right after the compaction");
      await mustCommit(store, compaction(ADA, 6, "F"));
      equal(await seen(store, { horizon: 3 }), OLD, "all events after a second compaction");
      equal(await seen(store, { horizon: 8 }), NEW, "of one that began between both");
      equal(await seen(store, {}), ["X@1:3", "Y@2:7", "F@8:10"], "of one that begins now");
      const wanted = new Map([["account", new Set(["A", "D", "F"])]]);
      const found = (await collect(store.readAll({ wanted, horizon: 3 }))).filter(({ type }) => "ADF".includes(type));
      equal(found.map(placed), ["A@1:1"], "wanted events");
      const undeclared = new Map([["account", new Set(["B", "X", "Y"])]]);
      const others = (await collect(store.readAll({ undeclared, horizon: 3 }))).filter(
        ({ type }) => !"BXY".includes(type),
      );
      equal(others.map(placed), ["A@1:1", "E@6:8"], "undeclared events");
    },
  },
  {
    name: "a reader that is under way when a compaction is committed goes on with the old events",
    async run({ store }) {
      const types = Array.from({ length: 3000 }, () => "A");
      await mustCommit(store, append(ADA, 0, ...types));
      await mustCommit(store, append(BOB, 0, "X"));
      const reading = store.readAll()[Symbol.asyncIterator]();
      let count = (await reading.next()).value?.length ?? 0;
      await mustCommit(store, compaction(ADA, 3000, "B"));
      for (let next = await reading.next(); next.done !== true; next = await reading.next()) count += next.value.length;
      equal(count, 3001, "events");
      equal((await all(store)).map(placed), ["X@1:3001", "B@3002:3003"], "events of a later reader");
    },
  },
  {
    name: "a store tells which positions a compaction has replaced",
    async run({ store }) {
      await withCompaction(store);
      await mustCommit(store, compaction(ADA, 6));
      const dropped = async (horizon?: number): Promise<number[]> => {
        const found: number[] = [];
        for (let position = 1; position <= 9; position++)
          if (await store.isDropped(position, horizon)) found.push(position);
        return found;
      };
      equal(await dropped(), [1, 2, 4, 5, 6, 8], "replaced positions");
      equal(await dropped(8), [1, 2], "those that were replaced up to position 8");
      equal(await dropped(3), [], "those that were replaced up to position 3");
    },
  },
  {
    name: "a reader that asks for dropped events gets the first events of compactions, too",
    async run({ store }) {
      await withCompaction(store);
      const found: string[] = [];
      for await (const batch of store.readAll({ dropped: true }))
        for (const { stream: name, version, position } of batch) found.push(`${name.id}@${version}:${position}`);
      const places = ["ada@1:1", "ada@2:2", "bob@1:3", "ada@3:4", "ada@4:5", "ada@5:6", "bob@2:7", "ada@6:8"];
      equal(found, places, "places");
      equal((await collect(store.readAll({ dropped: true, from: 4, to: 4 })))[0]?.type, "$compacted", "type");
    },
  },
  {
    name: "a deletion drops what a compaction has replaced for every reader",
    async run({ store }) {
      await withCompaction(store);
      await mustCommit(store, deletion(ADA, 6));
      const rest = ["X@1:3", "Y@2:7", "$deleted@7:9"];
      for (const horizon of [undefined, 3, 8]) equal(await seen(store, { horizon }), rest, `with horizon ${horizon}`);
      equal(
        (await store.listStreams()).map(({ id }) => id),
        ["bob"],
        "streams",
      );
      await mustCommit(store, append(ADA, 7, "F", "G"));
      await mustCommit(store, compaction(ADA, 9, "H"));
      equal(await seen(store, { horizon: 11 }), [...rest, "F@8:10", "G@9:11"], "the new life for an early reader");
      equal(await seen(store, {}), ["X@1:3", "Y@2:7", "H@11:13"], "the new life for a late reader");
    },
  },
  {
    name: "a compaction on an old version is refused and replaces nothing",
    async run({ store }) {
      await mustCommit(store, append(ADA, 0, "A", "B"));
      equal(await store.commit(compaction(ADA, 1, "C")), { ok: false, stream: ADA, actualVersion: 2 }, "result");
      equal((await all(store)).map(placed), ["A@1:1", "B@2:2"], "events");
    },
  },
  {
    name: "a compaction and its stream's neighbours in time share a flush without harm",
    async run({ store }) {
      const results = await Promise.all([
        store.commit(append(ADA, 0, "A")),
        store.commit(compaction(ADA, 1, "B", "C")),
        store.commit(append(ADA, 4, "D")),
        store.commit(compaction(ADA, 5, "E")),
        store.commit(append(ADA, 7, "F")),
      ]);
      equal(
        results.map(({ ok }) => ok),
        [true, true, true, true, true],
        "results",
      );
      equal((await stream(store, ADA)).map(placed), ["$compacted@6:6", "E@7:7", "F@8:8"], "the stream");
      equal(await seen(store, {}), ["E@7:7", "F@8:8"], "all events");
      equal(await seen(store, { horizon: 0 }), ["A@1:1", "D@5:5", "F@8:8"], "all events for an early reader");
    },
  },
  {
    name: "a snapshot from before a compaction is not loaded, also one that is saved late",
    async run({ store }) {
      await mustCommit(store, append(ADA, 0, "A", "B"));
      await keepSnapshot(store, ADA, SNAPSHOT);
      await mustCommit(store, compaction(ADA, 2, "C"));
      equal(await store.loadSnapshot(ADA, "f1"), undefined, "snapshot after the compaction");
      await store.saveSnapshot(ADA, SNAPSHOT);
      equal(await store.loadSnapshot(ADA, "f1"), undefined, "snapshot that was saved late");
      await keepSnapshot(store, ADA, { ...SNAPSHOT, version: 4, position: 4 });
    },
  },
  {
    name: "a compaction is there after reopening",
    needs: "durable",
    async run({ store, reopened }) {
      await withCompaction(store);
      const again = await reopened();
      equal((await all(again)).map(placed), NEW, "all events");
      equal(await seen(again, { horizon: 3 }), OLD, "all events for an early reader");
      equal((await stream(again, ADA)).map(placed), ["$compacted@3:4", "C@4:5", "D@5:6", "E@6:8"], "the stream");
      equal(await again.isDropped(2), true, "whether position 2 was replaced");
      equal(await again.isDropped(5), false, "whether position 5 was replaced");
      await mustCommit(again, compaction(ADA, 6, "F"));
      equal((await stream(again, ADA)).map(placed), ["$compacted@7:9", "F@8:10"], "the stream after another one");
    },
  },
  {
    name: "a compaction of another handle is seen after a refresh",
    needs: "multiProcess",
    async run({ store, second }) {
      await mustCommit(store, append(ADA, 0, "A", "B"));
      const other = await second();
      equal((await stream(other, ADA)).map(placed), ["A@1:1", "B@2:2"], "the stream before");
      const told: string[] = [];
      other.watchForeign(({ id }) => told.push(id));
      await mustCommit(store, compaction(ADA, 2, "C"));
      await other.refresh();
      equal(told, ["ada"], "streams that the other handle reported");
      equal((await stream(other, ADA)).map(placed), ["$compacted@3:3", "C@4:4"], "the stream");
      equal((await all(other)).map(placed), ["C@4:4"], "all events");
      equal(await seen(other, { horizon: 2 }), ["A@1:1", "B@2:2"], "all events for an early reader");
    },
  },
];
