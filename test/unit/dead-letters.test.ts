import * as fs from "node:fs";
import * as path from "node:path";
import { aggregate, AggregateStore, data, type EventStore, memory, processManager } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { MemoryEventStore } from "../../src/event-store/memory-event-store.ts";
import { collect } from "../support/collect.ts";
import { Counter } from "../support/counter.ts";
import { Relay, Sink, taken } from "../support/relay.ts";
import { linesOf } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const TIME = Date.UTC(2026, 0, 2, 3, 4, 5, 678);
const open = (directory: string) =>
  AggregateStore.builder(directory)
    .aggregate(Counter)
    .aggregate(Sink)
    .processManager(Relay)
    .processManagerMode("manual")
    .clock(() => TIME)
    .open();
const lettersFile = (directory: string): string => path.join(directory, "process_managers/relay/dead_letters.jsonl");
const add = (by: number) => Counter.at("a").Add({ by });

test("replaying and dropping a letter does not read the others", async () => {
  const target = new MemoryEventStore();
  let read = 0;
  const events = new Proxy<EventStore>(target, {
    get(store, property) {
      if (property === "deadLetters")
        return async (name: string) => {
          const letters = await store.deadLetters(name);
          read += letters.length;
          return letters;
        };
      const value: unknown = Reflect.get(store, property, store);
      return typeof value === "function" ? (value as (...args: unknown[]) => unknown).bind(store) : value;
    },
  });
  const storage = { name: "a store that counts letters", open: async () => events };
  await using store = await AggregateStore.builder(storage)
    .aggregate(Counter)
    .aggregate(Sink)
    .processManager(Relay)
    .processManagerMode("manual")
    .open();
  for (let i = 0; i < 20; i++) await store.dispatch(add(-2));
  await store.runProcessManagers();
  expect(read).toBe(0);
  const letters = await store.deadLetters();
  expect(read).toBe(20);
  for (const { key } of letters.slice(10).toReversed()) await store.dropDeadLetter(key);
  for (const { key } of letters.slice(0, 10))
    await expect(store.replayDeadLetter(key)).rejects.toMatchObject({ code: "COMMAND_REJECTED" });
  expect(read).toBe(20);
  expect(await store.deadLetters()).toEqual(letters.slice(0, 10));
});

describe("a command that cannot succeed", () => {
  test("becomes a dead letter at once when it is rejected or meets a bug", async () => {
    await using store = await open(temporaryDirectory());
    for (const by of [1, -2, 666, 4]) await store.dispatch(add(by), { correlationId: "r" });
    expect(await store.runProcessManagers()).toEqual({ dispatched: 2, deadLettered: 2 });
    expect(await taken(store, "a")).toEqual([1, 4]);
    const letters = await store.deadLetters(Relay);
    expect(letters).toMatchObject([
      {
        processManager: "relay",
        aggregate: "sink",
        id: "a",
        command: { type: "Take", data: { n: -2 } },
        error: 'command execution failed: sink "a" rejected Take: Negative',
        timestamp: TIME,
        cause: { aggregate: "counter", id: "a", version: 2, position: 2 },
      },
      { command: { type: "Take", data: { n: 666 } }, error: "command execution failed: 666 is a bug" },
    ]);
    expect(await store.deadLetters("relay")).toEqual(letters);
    expect(await store.deadLetters()).toEqual(letters);
    expect(await store.deadLetters("ghost")).toEqual([]);
  });

  test.each([
    ["for an aggregate that is not in its dispatches", "counter", "a", "Clear", "unknown aggregate type: counter"],
    ["for an aggregate that is not registered", "ghost", "a", "Clear", "unknown aggregate type: ghost"],
    ["that the aggregate does not have", "sink", "a", "Explode", "command deserialization failed: "],
    ["for an id that cannot be stored", "sink", "", "Take", "command execution failed: "],
  ])("becomes one, too, %s", async (_, type, id, command, error) => {
    const Wild = processManager("wild", { dispatches: [Sink] }).on(Counter, {
      Added: () => ({ aggregate: type as "sink", id, command: { type: command as "Take", data: { n: 1 } } }),
    });
    await using store = await AggregateStore.builder(memory())
      .aggregate(Counter)
      .aggregate(Sink)
      .processManager(Wild)
      .processManagerMode("manual")
      .open();
    await store.dispatch(add(1));
    expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 1 });
    expect((await store.deadLetters())[0]?.error.startsWith(error)).toBe(true);
  });

  test("is kept in the Rust crate's form, with its cause added", async () => {
    const directory = temporaryDirectory();
    await using store = await open(directory);
    const { events } = await store.dispatch(add(-2), { correlationId: "r" });
    await store.runProcessManagers();
    const [line = ""] = linesOf(lettersFile(directory));
    const letter = JSON.parse(line) as Record<string, unknown>;
    expect(Object.keys(letter).slice(0, 3)).toEqual(["envelope", "error", "ts"]);
    expect(Object.keys(letter["envelope"] as object)).toEqual(["aggregate_type", "instance_id", "command", "context"]);
    expect(letter).toMatchObject({
      envelope: {
        aggregate_type: "sink",
        instance_id: "a",
        context: { actor: null, correlation_id: "r", metadata: null },
      },
      ts: Math.floor(TIME / 1000),
      code: "COMMAND_REJECTED",
      rejection: { type: "Negative", data: { n: -2 } },
      cause: { aggregate: "counter", id: "a", version: 1, position: 1, eventId: events[0]?.eventId },
    });
  });
});

describe("a dead letter", () => {
  test("is replayed on demand, takes effect once, and is then gone, also after a restart", async () => {
    const directory = temporaryDirectory();
    const rules = { negative: false };
    const Till = aggregate("sink", {
      initial: { taken: [] as readonly number[] },
      events: { Taken: data<{ n: number }>() },
      commands: { Take: data<{ n: number }>() },
      rejections: { Negative: data() },
    }).define({
      handle: { Take: ({ data: d, emit, reject }) => (d.n < 0 && !rules.negative ? reject.Negative() : emit.Taken(d)) },
      apply: { Taken: (s, { n }) => ({ taken: [...s.taken, n] }) },
    });
    const ToTill = processManager("relay", { dispatches: [Till] }).on(Counter, {
      Added: (_, e) => Till.at(e.id).Take({ n: e.data.by }),
    });
    const openTill = (negative: boolean) => {
      rules.negative = negative;
      return AggregateStore.builder(directory)
        .aggregate(Counter)
        .aggregate(Till)
        .processManager(ToTill)
        .processManagerMode("manual")
        .open();
    };
    const first = await openTill(false);
    await first.dispatch(add(-2), { correlationId: "r" });
    await first.dispatch(add(-3));
    await first.runProcessManagers();
    const [two, three] = (await first.deadLetters()).map(({ key }) => key);
    if (two === undefined || three === undefined) throw new Error("there are two");
    await expect(first.replayDeadLetter(two)).rejects.toMatchObject({
      code: "COMMAND_REJECTED",
      rejection: { type: "Negative" },
    });
    expect(await first.deadLetters()).toHaveLength(2);
    await first.close();

    const second = await openTill(true);
    await second.replayDeadLetter(two);
    await expect(second.replayDeadLetter(two)).rejects.toMatchObject({ code: "UNKNOWN_DEAD_LETTER" });
    const [event] = await collect(second.readEvents("sink", "a"));
    const [cause] = await collect(second.readEvents("counter", "a"));
    expect(event).toMatchObject({ data: { n: -2 }, correlationId: "r", causationId: cause?.eventId });
    await second.dropDeadLetter(three);
    await expect(second.dropDeadLetter(three)).rejects.toMatchObject({ code: "UNKNOWN_DEAD_LETTER" });
    expect(await second.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
    await second.close();

    await using third = await openTill(true);
    expect(await third.deadLetters()).toEqual([]);
    await third.runProcessManagers();
    expect(await third.get(Till, "a").state()).toEqual({ taken: [-2] });
  });

  test("whose command had taken effect is settled by a replay without a second effect", async () => {
    const directory = temporaryDirectory();
    const store = await open(directory);
    await store.dispatch(add(-2));
    await store.dispatch(add(5));
    await store.runProcessManagers();
    await store.close();
    // The letter of a command that has taken effect, as its identity shows.
    const [line = ""] = linesOf(lettersFile(directory));
    const letter = JSON.parse(line) as { key: string; envelope: { command: { data: { n: number } } } };
    const { key } = letter;
    letter.key = letter.key.replace("/1:0", "/2:0");
    letter.envelope.command.data.n = 5;
    fs.writeFileSync(lettersFile(directory), `${JSON.stringify(letter)}\n`);
    await using again = await open(directory);
    await again.replayDeadLetter(letter.key);
    // The other letter, which only its file has lost, is still there.
    expect((await again.deadLetters()).map(({ key }) => key)).toEqual([key]);
    expect(await taken(again, "a")).toEqual([5]);
  });

  test("is read from the commit log, whatever happens to its file", async () => {
    const directory = temporaryDirectory();
    const store = await open(directory);
    await store.dispatch(add(-2));
    await store.runProcessManagers();
    const letters = await store.deadLetters();
    expect(letters).toHaveLength(1);
    await store.close();
    const text = fs.readFileSync(lettersFile(directory), "utf8");
    for (const damaged of [text.replace('"n":-2', '"n":7'), text.slice(0, 20), "", undefined]) {
      if (damaged === undefined) fs.rmSync(lettersFile(directory));
      else fs.writeFileSync(lettersFile(directory), damaged);
      await using again = await open(directory);
      const found = await again.deadLetters();
      expect(found.filter(({ key }) => key === letters[0]?.key)).toEqual(letters);
    }
  });

  const ORIGINALS = [
    '{"envelope":{"aggregate_type":"sink","instance_id":"o","command":{"Take":{"n":1}},"context":{"actor":"u","correlation_id":"c","metadata":{"k":1},"source_device":"d"}},"error":"I/O error: x","ts":1795415061}',
    '{"envelope":{"aggregate_type":"ghost","instance_id":"g","command":"Increment","context":{"actor":null,"correlation_id":null,"metadata":null}},"error":"unknown aggregate type: ghost","ts":1795415061}',
    "this is not JSON",
    '{"envelope":{"aggregate_type":"sink","instance_id":"o","command":{"Take":{"n":2}},"context":{"actor":null,"correlation_id":null,"metadata":null}},"error":"I/O error: x","ts":1795415062}',
  ];

  test("of the Rust crate can be listed, replayed and dropped, in any order", async () => {
    const directory = temporaryDirectory();
    fs.mkdirSync(path.dirname(lettersFile(directory)), { recursive: true });
    fs.writeFileSync(lettersFile(directory), ORIGINALS.map((line) => `${line}\n`).join(""));
    await using store = await open(directory);
    const letters = await store.deadLetters();
    expect(letters.map(({ aggregate, id, timestamp }) => [aggregate, id, timestamp])).toEqual([
      ["sink", "o", 1795415061000],
      ["ghost", "g", 1795415061000],
      ["", "", 0],
      ["sink", "o", 1795415062000],
    ]);
    const [one, ghost, unreadable, two] = letters.map(({ key }) => key);
    expect(new Set(letters.map(({ key }) => key)).size).toBe(4);
    await store.replayDeadLetter(one ?? "");
    // The other letters keep their keys.
    await expect(store.replayDeadLetter(ghost ?? "")).rejects.toMatchObject({ code: "UNKNOWN_AGGREGATE" });
    await expect(store.replayDeadLetter(unreadable ?? "")).rejects.toMatchObject({
      message: expect.stringContaining("cannot be read"),
    });
    await store.replayDeadLetter(two ?? "");
    await store.dropDeadLetter(ghost ?? "");
    await store.dropDeadLetter(unreadable ?? "");
    expect(await store.deadLetters()).toEqual([]);
    expect(await taken(store, "o")).toEqual([1, 2]);
    const [event] = await collect(store.readEvents("sink", "o"));
    expect(event).toMatchObject({ actor: "u", correlationId: "c", sourceDevice: "d", metadata: { k: 1 } });
    expect(event).not.toHaveProperty("causationId");
  });

  test("of the Rust crate that was dropped stays dropped, and the others stay, when recovery applies the drop again", async () => {
    const directory = temporaryDirectory();
    fs.mkdirSync(path.dirname(lettersFile(directory)), { recursive: true });
    fs.writeFileSync(lettersFile(directory), ORIGINALS.map((line) => `${line}\n`).join(""));
    const store = await open(directory);
    const keys = (await store.deadLetters()).map(({ key }) => key);
    await store.dropDeadLetter(keys[0] ?? "");
    await store.close();
    for (let i = 0; i < 3; i++) {
      // Recovery starts at the first record.
      fs.rmSync(path.join(directory, "meta/marker.json"));
      const again = await open(directory);
      expect((await again.deadLetters()).map(({ key }) => key)).toEqual(keys.slice(1));
      await again.close();
    }
  });

  test("of the Rust crate keeps its key when others are dropped and the Rust crate writes identical ones", async () => {
    const directory = temporaryDirectory();
    fs.mkdirSync(path.dirname(lettersFile(directory)), { recursive: true });
    const [line = ""] = ORIGINALS;
    fs.writeFileSync(lettersFile(directory), `${line}\n${line}\n`);
    await using store = await open(directory);
    const keys = async (): Promise<string[]> => (await store.deadLetters()).map(({ key }) => key);
    const [one = "", two = ""] = await keys();
    await store.dropDeadLetter(one);
    fs.appendFileSync(lettersFile(directory), `${line}\n`);
    const [still, more = "", ...others] = await keys();
    expect([still, others]).toEqual([two, []]);
    expect(more).not.toBe(two);
    await store.dropDeadLetter(more);
    expect(await keys()).toEqual([two]);
  });
});
