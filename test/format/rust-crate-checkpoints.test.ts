import * as fs from "node:fs";
import * as path from "node:path";
import { aggregate, AggregateStore, data, processManager, projection } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { crateCursor } from "../support/rust-crate.ts";
import { linesOf, oneTo, streamFile } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

/** A directory of the Rust crate, eventfold-es 0.2.0, with a projection `totals` and a process manager `mirror`. */
const FIXTURE = path.resolve(import.meta.dirname, "../../../shared/fixtures/eventfold-es-0.2.0");

const Counter = aggregate("counter", {
  initial: { value: 0 },
  events: { Incremented: data(), Added: data<{ by: number }>() },
  commands: { Increment: data(), Add: data<{ by: number }>() },
}).define({
  handle: { Increment: ({ emit }) => emit.Incremented(), Add: ({ data: d, emit }) => emit.Added(d) },
  apply: { Incremented: (s) => ({ value: s.value + 1 }), Added: (s, { by }) => ({ value: s.value + by }) },
});

const Totals = projection("totals", () => ({ total: 0, events: 0 })).on(Counter, {
  Incremented: (s) => ({ total: s.total + 1, events: s.events + 1 }),
  Added: (s, e) => ({ total: s.total + e.data.by, events: s.events + 1 }),
});

/** Adds one to a counter's mirror for each number that is added to the counter. */
const Mirror = processManager("mirror", { dispatches: [Counter], initial: { seen: 0 } }).on(Counter, {
  Added: (state, e) => ({ state: { seen: state.seen + 1 }, dispatch: Counter.at(`mirror-${e.id}`).Increment() }),
});

function fixtureCopy(): string {
  const directory = path.join(temporaryDirectory(), "store");
  fs.cpSync(FIXTURE, directory, { recursive: true });
  return directory;
}

/** Moves the Rust crate's checkpoint to the end of `counter/c-1`. */
function changeCheckpoint(directory: string, consumer: string, state: object): void {
  const { cursors } = JSON.parse(fs.readFileSync(cratesFile(FIXTURE, consumer), "utf8")) as { cursors: object };
  const text = fs.readFileSync(streamFile(directory, "counter", "c-1"), "utf8");
  const changed = { state, cursors: { ...cursors, "counter/c-1": crateCursor(text) } };
  fs.writeFileSync(cratesFile(directory, consumer), JSON.stringify(changed));
}

const open = (directory: string) =>
  AggregateStore.builder(directory)
    .onUnknownEvent("skip")
    .aggregate(Counter)
    .projection(Totals)
    .processManager(Mirror)
    .processManagerMode("manual")
    .open();
type Store = Awaited<ReturnType<typeof open>>;

const value = async (store: Store, id: string): Promise<number> => (await store.get(Counter, id).state()).value;
/** The checkpoint of the Rust crate. */
const cratesFile = (directory: string, consumer: string): string => path.join(directory, consumer, "checkpoint.json");
const ourFile = (directory: string, consumer: string): string =>
  path.join(directory, consumer, "checkpoint.eventfold.json");
const kept = (directory: string, consumer: string): { position: number; state: unknown } =>
  JSON.parse(fs.readFileSync(ourFile(directory, consumer), "utf8")) as { position: number; state: unknown };

const title = fs.existsSync(FIXTURE)
  ? "a directory of the Rust crate with its checkpoints"
  : "SKIPPED, the fixture ../shared/fixtures/eventfold-es-0.2.0 is not there: a directory of the Rust crate with its checkpoints";

describe.skipIf(!fs.existsSync(FIXTURE))(title, () => {
  test("lets the projection continue from its state: only events that the Rust crate had not folded are folded", async () => {
    const directory = fixtureCopy();
    const store = await open(directory);
    // The checkpoint says 35 in 13 events. The three increments of the mirrors came after it.
    expect(await store.projection(Totals)).toEqual({ total: 38, events: 16 });
    await store.dispatch(Counter.at("c-1").Add({ by: 100 }));
    expect(await store.projection(Totals)).toEqual({ total: 138, events: 17 });
    await store.close();
    expect(kept(directory, "projections/totals")).toMatchObject({ position: 27, state: { total: 138, events: 17 } });
    await using again = await open(directory);
    expect(await again.projection(Totals)).toEqual({ total: 138, events: 17 });
    // From the first event it is one less: the Rust crate counted an event that has no handler here.
    await again.rebuildProjection(Totals);
    expect(await again.projection(Totals)).toEqual({ total: 138, events: 16 });
  });

  test("lets the process manager continue: it repeats no command and handles new events", async () => {
    const directory = fixtureCopy();
    const store = await open(directory);
    expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
    for (const id of ["c-1", "injected", "order.2024.v1"]) expect(await value(store, `mirror-${id}`)).toBe(1);
    await store.dispatch(Counter.at("c-1").Add({ by: 1 }));
    await store.dispatch(Counter.at("new").Add({ by: 1 }));
    expect(await store.runProcessManagers()).toEqual({ dispatched: 2, deadLettered: 0 });
    expect(await value(store, "mirror-c-1")).toBe(2);
    expect(await value(store, "mirror-new")).toBe(1);
    await store.close();
    expect(kept(directory, "process_managers/mirror")).toMatchObject({ state: { state: { seen: 6 } } });
  });

  test("leaves the Rust crate's checkpoints as they are: without them, the crate would send every command again", async () => {
    const directory = fixtureCopy();
    const store = await open(directory);
    await store.runProcessManagers();
    await store.dispatch(Counter.at("c-1").Add({ by: 1 }));
    await store.projection(Totals);
    await store.rebuildProjection(Totals);
    await store.runProcessManagers();
    await store.close();
    for (const consumer of ["process_managers/mirror", "projections/totals"]) {
      expect(fs.readFileSync(cratesFile(directory, consumer))).toEqual(fs.readFileSync(cratesFile(FIXTURE, consumer)));
      expect(kept(directory, consumer).position).toBeGreaterThan(26);
    }
  });

  test("a rebuilt or changed projection does not get the Rust crate's state again", async () => {
    const directory = fixtureCopy();
    const store = await open(directory);
    await store.projection(Totals);
    await store.rebuildProjection(Totals);
    await store.close();
    for (const damage of [() => {}, () => fs.writeFileSync(ourFile(directory, "projections/totals"), '{"state":')]) {
      damage();
      await using again = await open(directory);
      expect(await again.projection(Totals)).toEqual({ total: 38, events: 15 });
    }
  });

  test("a process manager takes over what the Rust crate has dispatched in the meantime", async () => {
    const directory = fixtureCopy();
    await (await open(directory)).close();
    const first = await open(directory);
    await first.runProcessManagers();
    await first.close();
    // The Rust crate appends an event to a counter, and its process manager handles it.
    const file = streamFile(directory, "counter", "c-1");
    fs.appendFileSync(file, '{"type":"Added","data":{"by":1000},"ts":1795415062,"id":"foreign"}\n');
    changeCheckpoint(directory, "process_managers/mirror", { seen: 70 });
    const store = await open(directory);
    await store.dispatch(Counter.at("c-1").Add({ by: 1 }));
    expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
    expect(await value(store, "mirror-c-1")).toBe(2);
    await store.close();
    expect(kept(directory, "process_managers/mirror")).toMatchObject({ state: { state: { seen: 71 } } });
  });

  const losses: [string, (file: string) => void][] = [
    ["kept", () => {}],
    ["deleted", (file) => fs.rmSync(file, { force: true })],
    ["damaged", (file) => fs.writeFileSync(file, '{"state":')],
  ];
  test.each(losses)("repeats no command when its checkpoint is %s after the first run", async (_, lose) => {
    const directory = fixtureCopy();
    for (const _run of oneTo(3)) {
      const store = await open(directory);
      expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
      await store.close();
      lose(ourFile(directory, "process_managers/mirror"));
    }
    await using store = await open(directory);
    await store.dispatch(Counter.at("c-1").Add({ by: 1 }));
    expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
    expect(await store.list(Counter)).toHaveLength(8);
  });

  test("two stores that continue it at once repeat no command", async () => {
    const directory = fixtureCopy();
    await using one = await open(directory);
    await using two = await open(directory);
    const reports = await Promise.all([one.runProcessManagers(), two.runProcessManagers()]);
    expect(reports).toEqual(oneTo(2).map(() => ({ dispatched: 0, deadLettered: 0 })));
    await one.dispatch(Counter.at("c-1").Add({ by: 1 }));
    await Promise.all([one.runProcessManagers(), two.runProcessManagers()]);
    expect(await value(two, "mirror-c-1")).toBe(2);
  });

  test("events that the Rust crate has folded, and our log lacks, are not folded twice", async () => {
    const directory = fixtureCopy();
    await (await open(directory)).close();
    // The Rust crate appends an event, and its projection folds it.
    const file = streamFile(directory, "counter", "c-1");
    fs.appendFileSync(file, '{"type":"Added","data":{"by":1000},"ts":1795415062,"id":"foreign"}\n');
    changeCheckpoint(directory, "projections/totals", { total: 1035, events: 14 });
    const before = await open(directory);
    expect(await before.projection(Totals)).toEqual({ total: 1038, events: 17 });
    await before.close();
    await using store = await open(directory);
    expect(await store.projection(Totals)).toEqual({ total: 1038, events: 17 });
    // Now our log adopts the event.
    expect(await value(store, "c-1")).toBe(1009);
    expect(await store.projection(Totals)).toEqual({ total: 1038, events: 17 });
    await store.dispatch(Counter.at("c-1").Increment());
    expect(await store.projection(Totals)).toEqual({ total: 1039, events: 18 });
  });

  test("lists the dead letter, which can be replayed (and fails with its reason) and dropped", async () => {
    const directory = fixtureCopy();
    const store = await open(directory);
    const [letter, ...others] = await store.deadLetters(Mirror);
    expect(others).toEqual([]);
    expect(letter).toMatchObject({
      processManager: "mirror",
      aggregate: "ghost",
      id: "g-1",
      command: "Increment",
      error: "unknown aggregate type: ghost",
      timestamp: 1795415061000,
    });
    await expect(store.replayDeadLetter(letter?.key ?? "")).rejects.toMatchObject({ code: "UNKNOWN_AGGREGATE" });
    await store.runProcessManagers();
    expect(await store.deadLetters()).toHaveLength(1);
    await store.dropDeadLetter(letter?.key ?? "");
    await store.close();
    await using again = await open(directory);
    expect(await again.deadLetters()).toEqual([]);
    expect(linesOf(path.join(directory, "process_managers/mirror/dead_letters.jsonl"))).toEqual([]);
  });
});
