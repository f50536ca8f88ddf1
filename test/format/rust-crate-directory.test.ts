import * as fs from "node:fs";
import * as path from "node:path";
import { aggregate, AggregateStore, data, type RecordedEvent } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { collect } from "../support/collect.ts";
import { allLines, linesOf, oneTo, streamFile, treeOf } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

/** A directory that the Rust crate, eventfold-es 0.2.0, wrote. */
const FIXTURE = path.resolve(import.meta.dirname, "../../../shared/fixtures/eventfold-es-0.2.0");
const GRÖSSE = "größe-日本-🦀";
const COUNTERS = [
  "c-1",
  GRÖSSE,
  "injected",
  "mirror-c-1",
  "mirror-injected",
  "mirror-order.2024.v1",
  "order.2024.v1",
  "with space",
];

const Counter = aggregate("counter", {
  initial: { value: 0 },
  events: { Incremented: data(), Added: data<{ by: number }>() },
  commands: { Increment: data(), Add: data<{ by: number }>() },
}).define({
  handle: { Increment: ({ emit }) => emit.Incremented(), Add: ({ data, emit }) => emit.Added(data) },
  apply: { Incremented: (s) => ({ value: s.value + 1 }), Added: (s, { by }) => ({ value: s.value + by }) },
});

interface ProbeState {
  readonly zeta: number;
  readonly alpha: null;
  readonly ratio: number;
  readonly log: readonly string[];
}
function logged(state: ProbeState, entry: string): ProbeState {
  return { ...state, zeta: state.zeta + 1, ratio: 1, log: [...state.log, entry] };
}
/** `NewtypeUnit` is omitted on purpose: the Rust crate does not fold it either. */
const Probe = aggregate("probe", {
  initial: { zeta: 0, alpha: null, ratio: 0, log: [] } as ProbeState,
  events: {
    Unit: data(),
    Newtype: data<string>(),
    Tuple: data<[number, string]>(),
    Struct: data<{ aa: null; mid: number; zz: number }>(),
    EmptyStruct: data<Record<string, never>>(),
    NewtypeOpt: data<number | null>(),
    Map: data<Record<string, unknown>>(),
    "renamed-évent": data<{ x: number }>(),
  },
  commands: {},
}).define({
  handle: {},
  apply: {
    Unit: (s) => logged(s, "Unit"),
    Newtype: (s, text) => logged(s, `Newtype("${text}")`),
    Tuple: (s, [a, b]) => logged(s, `Tuple(${a}, "${b}")`),
    Struct: (s, { zz, mid }) => logged(s, `Struct { zz: ${zz}, aa: None, mid: ${mid.toFixed(1)} }`),
    EmptyStruct: (s) => logged(s, "EmptyStruct"),
    NewtypeOpt: (s, n) => logged(s, `NewtypeOpt(${n === null || n === undefined ? "None" : `Some(${n})`})`),
    Map: (s) => logged(s, 'Map({"k1": Object {"a": Number(2), "b": Number(1)}, "k2": Number(1)})'),
    "renamed-évent": (s, { x }) => logged(s, `Renamed { x: ${x} }`),
  },
});

function fixtureCopy(): string {
  const directory = path.join(temporaryDirectory(), "store");
  fs.cpSync(FIXTURE, directory, { recursive: true });
  return directory;
}

function open(directory: string) {
  return AggregateStore.builder(directory).aggregate(Counter).aggregate(Probe).onUnknownEvent("skip").open();
}

async function positionsByPlace(directory: string): Promise<Map<string, number>> {
  const store = await open(directory);
  const positions = new Map<string, number>();
  for (const { type, id } of await store.listStreams()) {
    for await (const event of store.readEvents(type, id))
      positions.set(`${type}/${id}#${event.version}`, event.position);
  }
  await store.close();
  return positions;
}

function readJson(...segments: string[]): unknown {
  return JSON.parse(fs.readFileSync(path.join(FIXTURE, ...segments), "utf8"));
}

const title = fs.existsSync(FIXTURE)
  ? "a directory of the Rust crate"
  : "SKIPPED, the fixture ../shared/fixtures/eventfold-es-0.2.0 is not there: a directory of the Rust crate";

describe.skipIf(!fs.existsSync(FIXTURE))(title, () => {
  test("opens without a change to its streams", async () => {
    const directory = fixtureCopy();
    await (await open(directory)).close();
    for (const folder of ["streams", "projections", "process_managers"])
      expect(treeOf(path.join(directory, folder))).toEqual(treeOf(path.join(FIXTURE, folder)));
    expect(linesOf(path.join(directory, "meta/streams.jsonl"))).toEqual(
      linesOf(path.join(FIXTURE, "meta/streams.jsonl")),
    );
  });

  test("lists exactly its ids", async () => {
    await using store = await open(fixtureCopy());
    expect(await store.list(Counter)).toEqual(COUNTERS);
    expect(await store.listStreams()).toEqual([
      ...COUNTERS.map((id) => ({ type: "counter", id })),
      { type: "probe", id: "shapes" },
    ]);
  });

  test("has the states that its snapshots and checkpoints say", async () => {
    await using store = await open(fixtureCopy());
    const value = async (id: string): Promise<number> => (await store.get(Counter, id).state()).value;
    for (const id of ["c-1", "order.2024.v1"])
      expect(await store.get(Counter, id).state()).toEqual(
        (readJson("streams/counter", id, "views/state.snapshot.json") as { state: unknown }).state,
      );
    expect(await value("c-1")).toBe(9);
    expect(await value(GRÖSSE)).toBe(14);
    expect(await value("order.2024.v1")).toBe(9);
    expect(await value("injected")).toBe(3);
    expect(await value("with space")).toBe(0);
    expect(await store.get(Probe, "shapes").state()).toEqual(
      (readJson("streams/probe/shapes/views/state.snapshot.json") as { state: unknown }).state,
    );
    // The snapshot of größe… is one command old: it has the state after the first event.
    expect(await store.get(Counter, GRÖSSE).state({ version: 1 })).toEqual(
      (readJson("streams/counter", GRÖSSE, "views/state.snapshot.json") as { state: unknown }).state,
    );
    const totals = readJson("projections/totals/checkpoint.json") as {
      state: { total: number; events: number };
      cursors: Record<string, unknown>;
    };
    let total = 0;
    let events = 0;
    for (const cursor of Object.keys(totals.cursors)) {
      const id = cursor.slice("counter/".length);
      total += await value(id);
      events += (await collect(store.readEvents("counter", id))).length;
    }
    expect({ total, events }).toEqual(totals.state);
  });

  test("gets positions by time, type, id and place", async () => {
    await using store = await open(fixtureCopy());
    const events: RecordedEvent[] = [];
    for (const { type, id } of await store.listStreams()) events.push(...(await collect(store.readEvents(type, id))));
    events.sort((a, b) => a.position - b.position);
    expect(events.map(({ position }) => position)).toEqual(oneTo(26));
    const order = events.map(({ aggregate: type, id, version }) => `${type}/${id}#${version}`);
    const all = (stream: string, count: number): string[] => oneTo(count).map((version) => `${stream}#${version}`);
    expect(order).toEqual([
      ...all("counter/injected", 3),
      ...all("counter/c-1", 5),
      ...all(`counter/${GRÖSSE}`, 2),
      ...["counter/mirror-c-1#1", "counter/mirror-injected#1", "counter/mirror-order.2024.v1#1"],
      ...all("counter/order.2024.v1", 3),
      ...all("probe/shapes", 10),
    ]);
  });

  test("has the fields of its events", async () => {
    await using store = await open(fixtureCopy());
    const [event] = await collect(store.get(Counter, GRÖSSE).events({ from: 2 }));
    expect(event).toEqual({
      type: "Added",
      data: { by: 13 },
      aggregate: "counter",
      id: GRÖSSE,
      eventId: "5e48bd59-90e8-4c43-bbaf-c1689987edb2",
      version: 2,
      position: 10,
      timestamp: 1795415061000,
      actor: 'user-42 "Zoë"',
      correlationId: "req-abc-123",
      sourceDevice: "device-é-1",
      metadata: { attempt: 1, nested: { a: true, b: [1, 2.5, null] }, zone: "eu" },
    });
    const injected = await collect(store.get(Counter, "injected").events());
    expect(injected.map(({ timestamp }) => timestamp)).toEqual([1700000000000, 1700000000000, 1700000000000]);
    expect(injected[1]?.eventId).toBe("own-id-1");
  });

  test("is continued with lines that the Rust crate reads", async () => {
    const directory = fixtureCopy();
    const store = await AggregateStore.builder(directory)
      .aggregate(Counter)
      .clock(() => 1800000000123)
      .ids(() => "id-1")
      .open();
    const result = await store
      .get(Counter, GRÖSSE)
      .execute({ type: "Add", data: { by: 2 } }, { actor: "u", correlationId: "c", metadata: { a: 1 } });
    expect(result).toMatchObject({ version: 3, position: 27, state: { value: 16 } });
    await store.get(Counter, "with space").execute({ type: "Increment" });
    await store.get(Counter, "new").execute({ type: "Increment" });
    await store.close();

    const before = fs.readFileSync(streamFile(FIXTURE, "counter", GRÖSSE));
    const after = fs.readFileSync(streamFile(directory, "counter", GRÖSSE));
    expect(after.subarray(0, before.length).equals(before)).toBe(true);
    expect(after.subarray(before.length).toString()).toBe(
      '{"type":"Added","data":{"by":2},"ts":1800000000,"id":"id-1","actor":"u","meta":{"a":1,"correlation_id":"c"},"ms":123,"pos":27}\n',
    );
    expect(linesOf(streamFile(directory, "counter", "with space"))).toEqual([
      '{"type":"Incremented","data":null,"ts":1800000000,"id":"id-1","ms":123,"pos":28}',
    ]);
    expect(linesOf(path.join(directory, "meta/streams.jsonl"))).toEqual([
      ...linesOf(path.join(FIXTURE, "meta/streams.jsonl")),
      '{"id":"new","ts":1800000000,"type":"counter"}',
    ]);

    await using again = await open(directory);
    expect(await again.get(Counter, GRÖSSE).state()).toEqual({ value: 16 });
    expect(await again.get(Counter, "with space").state()).toEqual({ value: 1 });
    expect(await again.list(Counter)).toEqual([...COUNTERS, "new"].sort());
  });

  test("keeps its positions when the commit log is lost", async () => {
    const directory = fixtureCopy();
    const store = await open(directory);
    await store.get(Counter, "c-1").execute({ type: "Increment" });
    await store.get(Counter, "new").execute({ type: "Add", data: { by: 4 } });
    await store.close();
    const before = await positionsByPlace(directory);
    expect(before.size).toBe(28);
    fs.rmSync(path.join(directory, "commit_log"), { recursive: true });
    expect(await positionsByPlace(directory)).toEqual(before);
    await using again = await open(directory);
    expect((await again.get(Counter, "c-1").execute({ type: "Increment" })).position).toBe(29);
  });

  test("adopts lines that the Rust crate appended while the store was closed", async () => {
    const directory = fixtureCopy();
    await (await open(directory)).close();
    const file = streamFile(directory, "counter", "c-1");
    fs.appendFileSync(file, '{"type":"Added","data":{"by":100},"ts":1795415062,"id":"foreign-1"}\n');
    fs.appendFileSync(file, '{"type":"Incremented","data":null,"ts":1795415062}\n');
    const before = fs.readFileSync(file);

    const store = await open(directory);
    const counter = store.get(Counter, "c-1");
    expect(await counter.state()).toEqual({ value: 110 });
    expect((await collect(counter.events({ from: 6 }))).map(({ position }) => position)).toEqual([27, 28]);
    expect(await counter.execute({ type: "Increment" })).toMatchObject({
      version: 8,
      position: 29,
      state: { value: 111 },
    });
    await store.close();
    expect(fs.readFileSync(file).subarray(0, before.length).equals(before)).toBe(true);
    await using again = await open(directory);
    expect(await again.get(Counter, "c-1").state()).toEqual({ value: 111 });
  });

  test.each([1, 2])("adopts %i lines that the Rust crate appended while the store is open", async (lines) => {
    const directory = fixtureCopy();
    await using store = await open(directory);
    const counter = store.get(Counter, "c-1");
    await counter.execute({ type: "Increment" });
    const file = streamFile(directory, "counter", "c-1");
    for (let i = 0; i < lines; i++) fs.appendFileSync(file, '{"type":"Added","data":{"by":100},"ts":1795415062}\n');
    const results = await Promise.all(oneTo(3).map(() => counter.execute({ type: "Increment" })));
    expect(results.map(({ version }) => version)).toEqual([7 + lines, 8 + lines, 9 + lines]);
    expect(await counter.state()).toEqual({ value: 13 + 100 * lines });
    const events = await collect(counter.events());
    expect(events.map(({ version }) => version)).toEqual(oneTo(9 + lines));
    expect(events.slice(5).map(({ position }) => position)).toEqual(oneTo(4 + lines).map((n) => 26 + n));
  });

  test("does not join an incomplete line of the Rust crate to the next", async () => {
    const directory = fixtureCopy();
    const file = streamFile(directory, "counter", "c-1");
    fs.appendFileSync(file, '{"type":"Added","data":{"by":10');
    const store = await open(directory);
    expect(await store.get(Counter, "c-1").state()).toEqual({ value: 9 });
    expect(await store.get(Counter, "c-1").execute({ type: "Increment" })).toMatchObject({
      version: 6,
      state: { value: 10 },
    });
    await store.close();
    expect(linesOf(file)).toHaveLength(6);
    expect(JSON.parse(linesOf(file)[5] ?? "")).toMatchObject({ type: "Incremented", pos: 27 });
    const quarantine = treeOf(path.join(directory, "meta/quarantine"));
    expect([...quarantine.values()].map(String)).toEqual(['{"type":"Added","data":{"by":10']);
  });

  test("opens with an incomplete line in a stream with the longest id", async () => {
    const id = "i".repeat(255);
    const directory = temporaryDirectory();
    const store = await open(directory);
    await store.get(Counter, id).execute({ type: "Increment" });
    await store.close();
    fs.appendFileSync(streamFile(directory, "counter", id), '{"type":"Incr');
    await using again = await open(directory);
    expect(await again.get(Counter, id).execute({ type: "Increment" })).toMatchObject({ version: 2 });
  });

  test("keeps numbers in the files that JavaScript cannot hold", async () => {
    const directory = fixtureCopy();
    const store = await open(directory);
    await collect(store.readEvents("counter", "injected"));
    await store.get(Counter, "injected").execute({ type: "Increment" });
    await store.close();
    const texts = allLines(directory)
      .filter(({ stream }) => stream === "counter/injected")
      .map(({ text }) => text);
    for (const number of ["9007199254740993", "18446744073709551615", "-9223372036854775808", "-0.0", "1e21"])
      expect(texts[2]).toContain(number);
    expect(texts.slice(0, 3)).toEqual(linesOf(streamFile(FIXTURE, "counter", "injected")));
  });
});
