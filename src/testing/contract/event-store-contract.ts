import { isEventfoldError, type ErrorCode } from "../../errors.ts";
import type {
  Commit,
  CommitResult,
  EventDraft,
  EventStore,
  EventStoreCapabilities,
  Snapshot,
  StoredEvent,
  StreamName,
} from "../../event-store/event-store.ts";

export interface EventStoreContractOptions {
  /** Registers a test: `test` of Vitest, Jest or `node:test`. */
  readonly test: (name: string, run: () => Promise<void>) => unknown;
  /** Makes a new, empty store. The suite closes it. */
  readonly create: () => Promise<EventStore>;
  /**
   * Opens what `store` has written once more. `store` is closed by then, or still open if the store can do with several
   * processes. Needed for a store that is durable or lets several processes in.
   */
  readonly reopen?: (store: EventStore) => Promise<EventStore>;
  /** What of the store's abilities is tested, beyond what every store has; none if left out. */
  readonly capabilities?: Partial<EventStoreCapabilities>;
}

type Reopen = (store: EventStore) => Promise<EventStore>;

/** What a test gets: stores that are closed when it is over. */
interface Stage {
  readonly store: EventStore;
  /** Closes `store` and opens what it has written. */
  readonly reopened: () => Promise<EventStore>;
  /** Opens what `store` has written, with `store` still open. */
  readonly second: () => Promise<EventStore>;
}

type Needs = keyof EventStoreCapabilities | undefined;

/** What every event store has to do, whatever it keeps its events in. Imports no test runner. */
export function eventStoreContract(options: EventStoreContractOptions): void {
  const { durable = false, multiProcess = false } = options.capabilities ?? {};
  const capabilities: EventStoreCapabilities = { durable, multiProcess };
  const reopen: Reopen =
    options.reopen ?? (() => Promise.reject(new Error("the contract of a durable store needs `reopen`")));
  for (const [name, run, needs] of [
    ...commits,
    ...reading,
    ...fields,
    ...names,
    ...caches,
    ...consumers,
    ...watching,
    ...closing,
    ...durability,
    ...processes,
  ]) {
    if (needs === undefined || capabilities[needs]) {
      options.test(name, () => onStage(options.create, reopen, run));
    }
  }
  options.test("says what it can do", () =>
    onStage(options.create, reopen, async ({ store }) => {
      for (const name of Object.keys(capabilities) as (keyof EventStoreCapabilities)[])
        if (capabilities[name]) equal(store.capabilities[name], true, name);
    }),
  );
}

async function onStage(create: () => Promise<EventStore>, reopen: Reopen, run: Contract[1]): Promise<void> {
  const store = await create();
  const opened = [store];
  const keep = async (another: Promise<EventStore>): Promise<EventStore> => {
    opened.unshift(await another);
    return another;
  };
  try {
    await run({
      store,
      reopened: async () => {
        await store.close();
        return keep(reopen(store));
      },
      second: () => keep(reopen(store)),
    });
  } finally {
    for (const each of opened) await each.close();
  }
}

type Contract = readonly [name: string, run: (stage: Stage) => Promise<void>, needs?: Needs];

const ADA: StreamName = { type: "account", id: "ada" };
const BOB: StreamName = { type: "account", id: "bob" };
const ORDER: StreamName = { type: "order", id: "1" };

const commits: readonly Contract[] = [
  [
    "a new store is empty",
    async ({ store }) => {
      equal(await all(store), [], "all events");
      equal(await stream(store, ADA), [], "events of a stream that does not exist");
      equal(await store.listStreams(), [], "streams");
      equal(await store.head(), 0, "head");
    },
  ],
  [
    "versions count within a stream and positions over the store, without holes",
    async ({ store }) => {
      equal(await store.commit(append(ADA, 0, "A", "B")), { ok: true, position: 2 }, "first commit");
      equal(await store.commit(append(BOB, 0, "C")), { ok: true, position: 3 }, "second commit");
      equal(await store.commit(append(ADA, 2, "D", "E", "F")), { ok: true, position: 6 }, "third commit");
      equal((await stream(store, ADA)).map(placed), ["A@1:1", "B@2:2", "D@3:4", "E@4:5", "F@5:6"], "first stream");
      equal((await stream(store, BOB)).map(placed), ["C@1:3"], "second stream");
      equal((await all(store)).map(placed), ["A@1:1", "B@2:2", "C@1:3", "D@3:4", "E@4:5", "F@5:6"], "all events");
      equal(await store.head(), 6, "head");
    },
  ],
  [
    "a commit that expects another version writes nothing and tells the actual one",
    async ({ store }) => {
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
  ],
  [
    "a commit to several streams has positions in the order of the request",
    async ({ store }) => {
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
  ],
  [
    "a commit to several streams is written as a whole or not at all",
    async ({ store }) => {
      await mustCommit(store, append(BOB, 0, "Z"));
      const result = await store.commit({
        appends: [...append(ADA, 0, "A").appends, ...append(BOB, 0, "B").appends, ...append(ORDER, 0, "C").appends],
      });
      equal(result, { ok: false, stream: BOB, actualVersion: 1 }, "result");
      equal((await all(store)).map(placed), ["Z@1:1"], "all events");
      equal(await stream(store, ADA), [], "the stream before the conflict");
      equal(await stream(store, ORDER), [], "the stream behind the conflict");
      equal(await store.listStreams(), [BOB], "streams");
    },
  ],
  [
    "an append without events only checks the version",
    async ({ store }) => {
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
  ],
  [
    "commits are applied in the order of the calls",
    async ({ store }) => {
      const results = await Promise.all(
        numbers(100).map((n) => store.commit(append(n % 3 === 0 ? BOB : ADA, versionBefore(n), `E${n}`))),
      );
      equal(
        results,
        numbers(100).map((n) => ({ ok: true, position: n })),
        "results",
      );
      equal(
        (await all(store)).map(({ type }) => type),
        numbers(100).map((n) => `E${n}`),
        "all events",
      );

      /** The version of the n-th commit's stream, if every third goes to one and the others to another. */
      function versionBefore(n: number): number {
        return n % 3 === 0 ? n / 3 - 1 : n - 1 - Math.floor(n / 3);
      }
    },
  ],
  [
    "of concurrent commits to one version exactly one is written",
    async ({ store }) => {
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
  ],
  [
    "many streams at once",
    async ({ store }) => {
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
  ],
  [
    "metadata that is changed after the call is stored as it was",
    async ({ store }) => {
      const meta = { tags: ["a"] };
      const events = [{ ...draft("A"), meta }];
      const committed = store.commit({ appends: [{ stream: ADA, expectedVersion: 0, events }] });
      meta.tags.push("b");
      equal(await committed, { ok: true, position: 1 }, "result");
      meta.tags.push("c");
      const [event] = await stream(store, ADA);
      equal(event?.meta, { tags: ["a"] }, "meta");
    },
  ],
];

const reading: readonly Contract[] = [
  [
    "a stream can be read from any version",
    async ({ store }) => {
      await mustCommit(store, append(BOB, 0, "X"));
      await mustCommit(store, append(ADA, 0, "A", "B", "C"));
      await mustCommit(store, append(BOB, 1, "Y"));
      await mustCommit(store, append(ADA, 3, "D"));
      const expected = ["A@1:2", "B@2:3", "C@3:4", "D@4:6"];
      // Twice: a store may remember how far somebody has read.
      for (const from of [1, 2, 3, 4, 5, 6, 1000, 4, 3, 2, 1])
        equal((await stream(store, ADA, from)).map(placed), expected.slice(from - 1), `from version ${from}`);
    },
  ],
  [
    "the store can be read from any position",
    async ({ store }) => {
      for (const n of numbers(12)) await mustCommit(store, append(n % 2 === 0 ? ADA : BOB, (n - 1) >> 1, `E${n}`));
      const expected = numbers(12).map((n) => `E${n}@${(n + 1) >> 1}:${n}`);
      for (const from of [1, 2, 7, 12, 13, 1000])
        equal((await all(store, from)).map(placed), expected.slice(from - 1), `from position ${from}`);
    },
  ],
  [
    "a bookmark changes nothing, not even a wrong one",
    async ({ store }) => {
      for (const n of numbers(20)) await mustCommit(store, append(ADA, n - 1, `E${n}`));
      await all(store);
      const bookmarks = [store.bookmark(9), store.bookmark(3), store.bookmark(20), store.bookmark(99), null, "?", {}];
      for (const bookmark of bookmarks) {
        const read = await collect(store.readAll({ from: 10, bookmark: JSON.parse(JSON.stringify(bookmark ?? null)) }));
        equal(
          read.map(({ position }) => position),
          numbers(20).slice(9),
          `positions read with the bookmark ${JSON.stringify(bookmark)}`,
        );
      }
    },
  ],
  [
    "long streams are read whole, across batches",
    async ({ store }) => {
      const filler = JSON.stringify("x".repeat(100));
      for (const round of numbers(5)) {
        await mustCommit(store, {
          appends: [
            {
              stream: round % 2 === 0 ? BOB : ADA,
              expectedVersion: round % 2 === 0 ? (round / 2 - 1) * 1500 : ((round - 1) / 2) * 1500,
              events: numbers(1500).map(() => draft("E", filler)),
            },
          ],
        });
      }
      equal(
        (await stream(store, ADA)).map(({ version }) => version),
        numbers(4500),
        "versions",
      );
      equal(
        (await stream(store, ADA, 2999)).map(({ position }) => position),
        [...numbers(2).map((n) => 4498 + n), ...numbers(1500).map((n) => 6000 + n)],
        "positions from version 2999 on",
      );
      equal(
        (await all(store)).map(({ position }) => position),
        numbers(7500),
        "positions",
      );
      equal(
        (await all(store, 4321)).map(({ position }) => position),
        numbers(7500).slice(4320),
        "positions from 4321 on",
      );
    },
  ],
  [
    "reading ends where the store was when it began",
    async ({ store }) => {
      await mustCommit(store, append(ADA, 0, "A", "B"));
      let seen = 0;
      for await (const batch of store.readAll()) {
        if (seen === 0) await mustCommit(store, append(ADA, 2, "C"));
        seen += batch.length;
      }
      equal(seen, 2, "events of the store");
      seen = 0;
      for await (const batch of store.readStream(ADA)) {
        if (seen === 0) await mustCommit(store, append(ADA, 3, "D"));
        seen += batch.length;
      }
      equal(seen, 3, "events of the stream");
      equal((await all(store)).length, 4, "events in the end");
    },
  ],
  [
    "what a reader does to an event reaches nobody else",
    async ({ store }) => {
      const event = { ...draft("A", '{"list":[1]}'), meta: { list: [1] } };
      await mustCommit(store, { appends: [{ stream: ADA, expectedVersion: 0, events: [event] }] });
      for (const read of [() => stream(store, ADA), () => all(store), () => stream(store, ADA)]) {
        const [stored] = await read();
        equal([stored?.data, stored?.meta], [{ list: [1] }, { list: [1] }], "data and meta");
        for (const value of [stored?.data, stored?.meta]) {
          const { list } = value as { readonly list: number[] };
          if (!Object.isFrozen(list)) list.push(2);
        }
      }
    },
  ],
];

const fields: readonly Contract[] = [
  [
    "events come back field by field",
    async ({ store }) => {
      const drafts: EventDraft[] = [
        draft("Plain"),
        {
          type: "Größe_日本",
          data: JSON.stringify({
            text: 'größe\u2028日本🦀\n\t"\\\u0000',
            "k\u00e9y": [1, -1.5e-7, true, null, {}, []],
          }),
          schemaVersion: 3,
          timestamp: 1_795_415_061_123,
          eventId: "1fddda98-1cd4-4942-a243-b43afdad1a2c",
          actor: "Ada “the” 🦀\u0000",
          meta: { correlation_id: "r-1", nested: { ü: [1, { deep: null }] }, ts: 5, data: "x" },
        },
        // Names that a store may use itself, and texts that look like its own.
        draft("Tricky", JSON.stringify({ type: "T", data: { ts: 1, data: 2 }, ts: 3, id: "i", pos: 4, ms: 5, v: 6 })),
        draft("Tricky", JSON.stringify('{"type":"T","data":1,"ts":2,"ms":3,"pos":4}')),
        draft("Tricky", JSON.stringify(['","ts":1', ',"ts":2,"ms":0,"pos":1}', "\\", '\\"'])),
        draft("Tricky", JSON.stringify("\n")),
        ...['""', "0", "-1", "false", "[]", "{}", "1.7976931348623157e308", "[[[[[[[[1]]]]]]]]"].map((data) =>
          draft("Json", data),
        ),
        ...[0, 1, 999, 1000, 1001, 1_795_415_061_000, 253_402_300_799_999].map((timestamp) => ({
          ...draft("Timed"),
          timestamp,
        })),
        { ...draft("Empty"), eventId: "e", actor: "", meta: {} },
      ];
      await mustCommit(store, { appends: [{ stream: ADA, expectedVersion: 0, events: drafts }] });
      const expected = drafts.map((event, i) => stored(event, i + 1));
      equal((await stream(store, ADA)).map(plain), expected, "read from the stream");
      equal((await all(store)).map(plain), expected, "read from the store");
      // Fields may be read lazily and in any order.
      for (const event of await stream(store, ADA)) {
        const { meta, data, timestamp, type } = event;
        const { meta: m, data: d, timestamp: t, type: y } = stored(drafts[event.version - 1] ?? draft(""), 0);
        equal({ meta, data, timestamp, type }, { meta: m, data: d, timestamp: t, type: y }, "fields in another order");
      }
    },
  ],
  [
    "an event without a payload has null, and leaves out what it has not",
    async ({ store }) => {
      await mustCommit(store, append(ADA, 0, "A"));
      const [event] = await stream(store, ADA);
      equal(
        [event?.data, event?.eventId, event?.actor, event?.meta, event?.schemaVersion],
        [null, undefined, undefined, undefined, 0],
        "data, eventId, actor, meta, schemaVersion",
      );
    },
  ],
  [
    "keys of a payload cannot reach a prototype",
    async ({ store }) => {
      const data = '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}';
      await mustCommit(store, { appends: [{ stream: ADA, expectedVersion: 0, events: [draft("A", data)] }] });
      const [event] = await stream(store, ADA);
      equal(JSON.stringify(event?.data), data, "data");
      equal(({} as { polluted?: number }).polluted, undefined, "the prototype of all objects");
    },
  ],
];

const STRANGE_IDS: readonly string[] = [
  "..",
  ".",
  "../ada",
  "/ada",
  "ada/",
  "ada/bob",
  "ada\\bob",
  "C:",
  "%",
  "%ada",
  "%61da",
  "%2e%2e",
  "ada.",
  "ada ",
  " ada",
  "con",
  "nul.txt",
  "-",
  "*",
  '"',
  "\u0000",
  "\n",
  "größe-日本-🦀",
  "e\u0301",
  "\u00e9",
  "__proto__",
  "constructor",
];

const names: readonly Contract[] = [
  [
    "streams are listed in the order of their code points",
    async ({ store }) => {
      const ids = ["b", "a", "aa", "a b", "Z", "ä", "1", "10", "2", "\u{1F980}", "\uFFFD", "日"];
      const sorted = ["1", "10", "2", "Z", "a", "a b", "aa", "b", "ä", "日", "\uFFFD", "\u{1F980}"];
      await mustCommit(store, append({ type: "zebra", id: "1" }, 0, "A"));
      for (const id of ids) await mustCommit(store, append({ type: "order", id }, 0, "A"));
      await mustCommit(store, append({ type: "ord", id: "1" }, 0, "A"));
      equal(
        await store.listStreams("order"),
        sorted.map((id) => ({ type: "order", id })),
        "streams of one type",
      );
      equal(
        (await store.listStreams()).map(({ type, id }) => `${type} ${id}`),
        ["ord 1", ...sorted.map((id) => `order ${id}`), "zebra 1"],
        "all streams",
      );
      equal(await store.listStreams("or"), [], "streams of a type that does not exist");
    },
  ],
  [
    "ids may be any text, and no two share a stream",
    async ({ store }) => {
      for (const id of STRANGE_IDS) {
        store.checkName({ type: "account", id });
        const event = draft("A", JSON.stringify(id));
        await mustCommit(store, {
          appends: [{ stream: { type: "account", id }, expectedVersion: 0, events: [event] }],
        });
      }
      for (const id of STRANGE_IDS) {
        const events = await stream(store, { type: "account", id });
        equal(
          events.map(({ data, stream: name }) => [data, name]),
          [[id, { type: "account", id }]],
          `events of ${JSON.stringify(id)}`,
        );
      }
      equal(
        (await all(store)).map((event) => event.stream.id),
        STRANGE_IDS,
        "ids of all events",
      );
      equal(
        new Set((await store.listStreams("account")).map(({ id }) => id)).size,
        STRANGE_IDS.length,
        "number of streams",
      );
    },
  ],
  [
    "ids that differ in case only are two streams, or the second is refused",
    async ({ store }) => {
      await mustCommit(store, append({ type: "account", id: "Ada" }, 0, "A"));
      let refused = false;
      try {
        await mustCommit(store, append({ type: "account", id: "ada" }, 0, "B"));
      } catch (error) {
        if (!isEventfoldError(error, "ID_COLLISION")) throw error;
        refused = true;
      }
      equal((await stream(store, { type: "account", id: "Ada" })).map(placed), ["A@1:1"], "the first stream");
      if (!refused) equal((await stream(store, { type: "account", id: "ada" })).map(placed), ["B@1:2"], "the second");
    },
  ],
  [
    "streams of different types may have the same id",
    async ({ store }) => {
      await mustCommit(store, append({ type: "a", id: "1" }, 0, "A"));
      await mustCommit(store, append({ type: "b", id: "1" }, 0, "B", "C"));
      equal((await stream(store, { type: "a", id: "1" })).map(placed), ["A@1:1"], "one type");
      equal((await stream(store, { type: "b", id: "1" })).map(placed), ["B@1:2", "C@2:3"], "the other type");
    },
  ],
  [
    "a stream that is not in use any more is as it was",
    async ({ store }) => {
      await mustCommit(store, append(ADA, 0, "A", "B"));
      store.release(ADA);
      store.release(BOB);
      equal((await stream(store, ADA, 2)).map(placed), ["B@2:2"], "read after the release");
      store.release(ADA);
      equal(await store.commit(append(ADA, 1, "X")), { ok: false, stream: ADA, actualVersion: 2 }, "a conflict");
      store.release(ADA);
      equal(await store.commit(append(ADA, 2, "C")), { ok: true, position: 3 }, "commit after the release");
      const committed = store.commit(append(ADA, 3, "D"));
      store.release(ADA);
      equal(await committed, { ok: true, position: 4 }, "commit that was under way");
      equal((await stream(store, ADA)).map(placed), ["A@1:1", "B@2:2", "C@3:3", "D@4:4"], "events");
    },
  ],
];

const SNAPSHOT = { state: { balance: 5, list: [null, "ü"] }, version: 2, position: 2, fingerprint: "f1" };

const caches: readonly Contract[] = [
  [
    "a snapshot is given to the code that made it, and to no other",
    async ({ store }) => {
      equal(await store.loadSnapshot(ADA, "f1"), undefined, "snapshot of a stream that does not exist");
      await mustCommit(store, append(ADA, 0, "A", "B"));
      await mustCommit(store, append(BOB, 0, "C"));
      equal(await store.loadSnapshot(ADA, "f1"), undefined, "snapshot before there is one");
      await keep(store, ADA, SNAPSHOT);
      const { state, version, position, fingerprint } = (await store.loadSnapshot(ADA, "f1")) ?? {};
      equal({ state, version, position, fingerprint }, SNAPSHOT, "snapshot");
      equal(await store.loadSnapshot(ADA, "f2"), undefined, "snapshot for other code");
      equal(await store.loadSnapshot(BOB, "f1"), undefined, "snapshot of another stream");
      equal((await stream(store, ADA)).map(placed), ["A@1:1", "B@2:2"], "events after loading a snapshot");
    },
  ],
  [
    "a new snapshot takes the place of the old one",
    async ({ store }) => {
      await mustCommit(store, append(ADA, 0, "A", "B"));
      await keep(store, ADA, SNAPSHOT);
      await mustCommit(store, append(ADA, 2, "C"));
      equal((await store.loadSnapshot(ADA, "f1"))?.version, 2, "version of the older snapshot");
      await keep(store, ADA, { state: 7, version: 3, position: 3, fingerprint: "f2" });
      equal(await store.loadSnapshot(ADA, "f1"), undefined, "old snapshot");
      const loaded = await store.loadSnapshot(ADA, "f2");
      equal([loaded?.state, loaded?.version, loaded?.position], [7, 3, 3], "new snapshot");
      equal((await stream(store, ADA, 4)).map(placed), [], "events behind the snapshot");
      await mustCommit(store, append(ADA, 3, "D"));
      equal((await stream(store, ADA, 4)).map(placed), ["D@4:4"], "events behind the snapshot, later");
    },
  ],
  [
    "checkpoints are kept by kind and name",
    async ({ store }) => {
      await mustCommit(store, append(ADA, 0, "A", "B"));
      equal(await store.loadCheckpoint("projection", "p"), undefined, "before there is one");
      const checkpoint = (position: number) => ({ state: { n: position, s: "ü" }, position, fingerprint: "f" });
      await store.saveCheckpoint("projection", "p", checkpoint(2));
      await store.saveCheckpoint("projection", "q", checkpoint(1));
      await store.saveCheckpoint("subscription", "p", checkpoint(0));
      await store.saveCheckpoint("projection", "q", checkpoint(2));
      const loaded = async (kind: "projection" | "subscription" | "process-manager", name: string) => {
        const { state, position, fingerprint } = (await store.loadCheckpoint(kind, name)) ?? {};
        return { state, position, fingerprint };
      };
      equal(await loaded("projection", "p"), checkpoint(2), "first");
      equal(await loaded("projection", "q"), checkpoint(2), "replaced");
      equal(await loaded("subscription", "p"), checkpoint(0), "of another kind");
      equal(await store.loadCheckpoint("process-manager", "p"), undefined, "of a kind that has none");
    },
  ],
];

const consumers: readonly Contract[] = [
  [
    "a consumer's notes count from 1 and are written with its events or not at all",
    async ({ store }) => {
      const note = (name: string, expectedSequence: number, value: unknown, events?: Commit): Promise<CommitResult> =>
        store.commit({ appends: events?.appends ?? [], consumer: { name, expectedSequence, note: value } });
      equal(await store.consumerNotes("pm", 0), [], "before there are any");
      equal((await within(note("pm", 0, { at: 1 }, append(ADA, 0, "A")))).ok, true, "first note");
      equal((await within(note("pm", 1, "only a note"))).ok, true, "a note without events");
      equal((await within(note("other", 0, [1]))).ok, true, "a note of another consumer");
      equal(
        await within(note("pm", 1, "late", append(BOB, 0, "X"))),
        { ok: false, consumer: "pm", actualSequence: 2 },
        "a note that comes too late",
      );
      equal(
        await within(note("pm", 2, "conflict", append(ADA, 0, "X"))),
        { ok: false, stream: ADA, actualVersion: 1 },
        "a note with events that conflict",
      );
      equal((await all(store)).map(placed), ["A@1:1"], "events");
      const notes = [
        { sequence: 1, note: { at: 1 } },
        { sequence: 2, note: "only a note" },
      ];
      for (const after of [0, 1, 2, 3])
        equal(await store.consumerNotes("pm", after), notes.slice(after), `notes behind ${after}`);
      equal(await store.consumerNotes("other", 0), [{ sequence: 1, note: [1] }], "notes of another consumer");
    },
  ],
  [
    "dead letters are kept until they are dropped",
    async ({ store }) => {
      const letter = (key: string) => ({ key, letter: { error: `no ${key}`, list: [1, null] } });
      const commit = (expectedSequence: number, keys: readonly string[], dropped: readonly string[]) =>
        within(
          store.commit({
            appends: [],
            consumer: {
              name: "pm",
              expectedSequence,
              note: null,
              deadLetters: keys.map(letter),
              droppedLetters: dropped,
            },
          }),
        );
      equal(await store.deadLetters("pm"), [], "before there are any");
      equal((await commit(0, ["a", "b"], [])).ok, true, "two letters");
      equal((await commit(1, ["c"], ["a"])).ok, true, "one more, one settled");
      equal((await commit(1, ["d"], ["b"])).ok, false, "too late");
      equal(await store.deadLetters("pm"), [letter("b"), letter("c")], "letters");
      equal(await store.deadLetters("other"), [], "letters of another consumer");
    },
  ],
  [
    "notes and dead letters are there after a reopening",
    async ({ store, reopened }) => {
      const consumer = {
        name: "pm",
        expectedSequence: 0,
        note: { at: 1 },
        deadLetters: [{ key: "k", letter: { error: "no" } }],
      };
      equal((await within(store.commit({ ...append(ADA, 0, "A"), consumer }))).ok, true, "commit");
      const again = await reopened();
      equal(await again.consumerNotes("pm", 0), [{ sequence: 1, note: { at: 1 } }], "notes");
      equal(await again.deadLetters("pm"), [{ key: "k", letter: { error: "no" } }], "dead letters");
      equal(
        await within(again.commit({ appends: [], consumer })),
        { ok: false, consumer: "pm", actualSequence: 1 },
        "the same note again",
      );
    },
    "durable",
  ],
];

const watching: readonly Contract[] = [
  [
    "a watcher is called after each commit until it is ended",
    async ({ store }) => {
      const heads: Promise<number>[] = [];
      const end = store.watch(() => void heads.push(store.head().catch(() => -1)));
      await mustCommit(store, append(ADA, 0, "A"));
      const first = await Promise.all(heads);
      equal(first.length > 0 && first.every((head) => head === 1), true, "called when the commit can be seen");
      await mustCommit(store, append(ADA, 1, "B"));
      equal((await Promise.all(heads)).at(-1), 2, "head that it saw last");
      const calls = heads.length;
      end();
      await mustCommit(store, append(ADA, 2, "C"));
      equal(heads.length, calls, "calls after it was ended");
    },
  ],
  [
    "a store's own commits are not those of another process",
    async ({ store }) => {
      let calls = 0;
      const end = store.watchForeign(() => calls++);
      await mustCommit(store, append(ADA, 0, "A"));
      await store.refresh();
      equal(calls, 0, "calls");
      end();
    },
  ],
];

const closing: readonly Contract[] = [
  [
    "a closed store refuses to work",
    async ({ store }) => {
      await mustCommit(store, append(ADA, 0, "A"));
      await store.close();
      await refused("STORE_CLOSED", "commit", () => store.commit(append(ADA, 1, "B")));
      await refused("STORE_CLOSED", "readStream", () => stream(store, ADA));
      await refused("STORE_CLOSED", "readAll", () => all(store));
      await refused("STORE_CLOSED", "listStreams", () => store.listStreams());
      await refused("STORE_CLOSED", "refresh", () => store.refresh());
      await refused("STORE_CLOSED", "head", () => store.head());
    },
  ],
  [
    "closing twice is closing once, and waits for commits that were given before",
    async ({ store }) => {
      const given = numbers(10).map((n) => store.commit(append(ADA, n - 1, `E${n}`)));
      await Promise.all([store.close(), store.close()]);
      await store.close();
      equal(
        await Promise.all(given),
        numbers(10).map((n) => ({ ok: true, position: n })),
        "results",
      );
    },
  ],
];

const durability: readonly Contract[] = [
  [
    "everything is there after a reopening, and goes on",
    async ({ store, reopened }) => {
      const event: EventDraft = {
        ...draft("B", '{"ü":"🦀"}'),
        schemaVersion: 2,
        timestamp: 1_795_415_061_123,
        eventId: "e",
        actor: "u",
        meta: { correlation_id: "r" },
      };
      await mustCommit(store, append(ADA, 0, "A"));
      await mustCommit(store, {
        appends: [{ stream: BOB, expectedVersion: 0, events: [event] }, ...append(ADA, 1, "C").appends],
      });
      await store.commit(append(ADA, 0, "X"));
      const before = (await all(store)).map(plain);
      const again = await reopened();
      equal((await all(again)).map(plain), before, "all events");
      equal((await stream(again, BOB)).map(plain), [before[1]], "one stream");
      equal(await again.listStreams(), [ADA, BOB], "streams");
      equal(await again.head(), 3, "head");
      equal(await again.commit(append(ADA, 1, "X")), { ok: false, stream: ADA, actualVersion: 2 }, "a conflict");
      equal(await again.commit(append(ADA, 2, "D")), { ok: true, position: 4 }, "the next commit");
      equal((await all(again)).map(placed), ["A@1:1", "B@1:2", "C@2:3", "D@3:4"], "all events in the end");
    },
    "durable",
  ],
  [
    "strange ids are the same after a reopening",
    async ({ store, reopened }) => {
      for (const id of STRANGE_IDS) await mustCommit(store, append({ type: "account", id }, 0, "A"));
      const listed = await store.listStreams();
      const again = await reopened();
      equal(await again.listStreams(), listed, "streams");
      equal(
        (await all(again)).map((event) => event.stream.id),
        STRANGE_IDS,
        "ids of all events",
      );
      for (const id of STRANGE_IDS)
        equal((await stream(again, { type: "account", id })).length, 1, `events of ${JSON.stringify(id)}`);
    },
    "durable",
  ],
  [
    "snapshots and checkpoints are there after a reopening",
    async ({ store, reopened }) => {
      await mustCommit(store, append(ADA, 0, "A", "B"));
      await keep(store, ADA, SNAPSHOT);
      await store.saveCheckpoint("projection", "p", { state: [1], position: 2, fingerprint: "f" });
      const again = await reopened();
      const snapshot = await again.loadSnapshot(ADA, "f1");
      equal([snapshot?.state, snapshot?.version], [SNAPSHOT.state, 2], "snapshot");
      const checkpoint = await again.loadCheckpoint("projection", "p");
      equal([checkpoint?.state, checkpoint?.position], [[1], 2], "checkpoint");
    },
    "durable",
  ],
];

const processes: readonly Contract[] = [
  [
    "two at a time see each other's commits",
    async ({ store, second }) => {
      await mustCommit(store, append(ADA, 0, "A"));
      const other = await second();
      equal((await stream(other, ADA)).map(placed), ["A@1:1"], "what was there before");
      await mustCommit(store, append(ADA, 1, "B"));
      equal((await stream(other, ADA)).map(placed), ["A@1:1", "B@2:2"], "a stream");
      await mustCommit(other, append(BOB, 0, "C"));
      equal((await all(store)).map(placed), ["A@1:1", "B@2:2", "C@1:3"], "all events");
      equal(await store.listStreams(), [ADA, BOB], "streams");
      equal(await store.head(), 3, "head");
    },
    "multiProcess",
  ],
  [
    "of two at a time only one gets a version",
    async ({ store, second }) => {
      const other = await second();
      await mustCommit(store, append(ADA, 0, "A"));
      equal(await other.commit(append(ADA, 0, "X")), { ok: false, stream: ADA, actualVersion: 1 }, "a conflict");
      for (const round of numbers(10)) {
        const results = await Promise.all([store, other].map((each) => each.commit(append(ADA, round, "B"))));
        equal(results.filter(({ ok }) => ok).length, 1, `commits written in round ${round}`);
      }
      equal(
        (await all(other)).map(({ version, position }) => [version, position]),
        numbers(11).map((n) => [n, n]),
        "versions and positions",
      );
    },
    "multiProcess",
  ],
  [
    "two at a time write without holes",
    async ({ store, second }) => {
      const other = await second();
      const results = await Promise.all(
        numbers(60).map((n) => (n % 2 === 0 ? store : other).commit(append({ type: "t", id: `${n}` }, 0, "A", "B"))),
      );
      equal(
        results.map((result) => (result.ok ? result.position : 0)).sort((a, b) => a - b),
        numbers(60).map((n) => 2 * n),
        "positions that were told",
      );
      for (const each of [store, other]) {
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
    "multiProcess",
  ],
  [
    "watchers hear of commits of the other",
    async ({ store, second }) => {
      const other = await second();
      const foreign: string[] = [];
      let calls = 0;
      const endForeign = store.watchForeign(({ type, id }) => void foreign.push(`${type}/${id}`));
      const end = store.watch(() => calls++);
      await mustCommit(other, { appends: [...append(ADA, 0, "A", "B").appends, ...append(ORDER, 0, "C").appends] });
      await store.refresh();
      equal(foreign.sort(), ["account/ada", "order/1"], "streams that were told");
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
    "multiProcess",
  ],
];

/** Checks that a closed or broken store says so; a promise that rejects with the code. */
async function refused(code: ErrorCode, what: string, run: () => Promise<unknown>): Promise<void> {
  let outcome: unknown;
  try {
    outcome = await run();
  } catch (error) {
    if (isEventfoldError(error, code)) return;
    throw error;
  }
  throw new Error(`${what}: expected an error with code ${code}, got ${show(outcome)}`);
}

const PATIENCE_MS = 5000;

/** A promise that must not wait for ever. */
async function within<T>(promise: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${PATIENCE_MS} ms`)), PATIENCE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function mustCommit(store: EventStore, commit: Commit): Promise<void> {
  const result = await store.commit(commit);
  if (!result.ok) throw new Error(`the commit was refused: ${show(result)}`);
}

/** Saves a snapshot until it is there: a store may leave it out while it has better things to do. */
async function keep(store: EventStore, name: StreamName, snapshot: Snapshot): Promise<void> {
  const { version, fingerprint } = snapshot;
  for (const end = Date.now() + PATIENCE_MS; Date.now() < end; await new Promise((resolve) => setTimeout(resolve, 5))) {
    await store.saveSnapshot(name, snapshot);
    if ((await store.loadSnapshot(name, fingerprint))?.version === version) return;
  }
  throw new Error(`no snapshot of version ${version} was kept within ${PATIENCE_MS} ms`);
}

function draft(type: string, data = "null"): EventDraft {
  return { type, data, schemaVersion: 0, timestamp: 1_700_000_000_000 };
}

function append(name: StreamName, expectedVersion: number, ...types: string[]): Commit {
  return { appends: [{ stream: name, expectedVersion, events: types.map((type) => draft(type)) }] };
}

function all(store: EventStore, from?: number): Promise<StoredEvent[]> {
  return collect(store.readAll(from === undefined ? undefined : { from }));
}

function stream(store: EventStore, name: StreamName, from?: number): Promise<StoredEvent[]> {
  return collect(store.readStream(name, from === undefined ? undefined : { from }));
}

async function collect(batches: AsyncIterable<readonly StoredEvent[]>): Promise<StoredEvent[]> {
  const events: StoredEvent[] = [];
  for await (const batch of batches) events.push(...batch);
  return events;
}

/** Type, version and position of an event. */
function placed({ type, version, position }: StoredEvent): string {
  return `${type}@${version}:${position}`;
}

function plain(event: StoredEvent): StoredEvent {
  const { stream: name, type, data, schemaVersion, version, position, timestamp, eventId, actor, meta } = event;
  return { stream: name, type, data, schemaVersion, version, position, timestamp, eventId, actor, meta };
}

/** What a draft for the first stream must come back as, if nothing else is in the store. */
function stored(event: EventDraft, version: number): StoredEvent {
  const { type, data, schemaVersion, timestamp, eventId, actor, meta } = event;
  return {
    ...{ stream: ADA, type, data: JSON.parse(data) as unknown, schemaVersion, version, position: version },
    ...{ timestamp, eventId, actor, meta },
  };
}

function numbers(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i + 1);
}

function equal(actual: unknown, expected: unknown, what: string): void {
  const [a, e] = [show(actual), show(expected)];
  if (a === e) return;
  // Long values: from where they differ.
  let from = 0;
  while (a[from] === e[from]) from++;
  from = Math.max(0, from - 40);
  throw new Error(`${what}: expected ${cut(e, from)}, got ${cut(a, from)}`);
}

function cut(text: string, from: number): string {
  return `${from > 0 ? "…" : ""}${text.slice(from, from + 400)}${from + 400 < text.length ? "…" : ""}`;
}

/** A value as text, the same for equal values: keys are sorted, and `undefined` is not left out. */
function show(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(show).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const object = value as Readonly<Record<string, unknown>>;
    const entries = Object.keys(object).sort();
    return `{${entries.map((key) => `${JSON.stringify(key)}:${show(object[key])}`).join(",")}}`;
  }
  return Object.is(value, -0) ? "-0" : (JSON.stringify(value) ?? String(value));
}
