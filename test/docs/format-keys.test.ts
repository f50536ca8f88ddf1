import * as fs from "node:fs";
import * as path from "node:path";
import { aggregate, AggregateStore, data, processManager, projection } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { crateCursor } from "../support/rust-crate.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { readDocument } from "./documentation.ts";

/** Keys of users' own payloads, states and metadata begin like this. All others are ours, and docs/format.md describes them. */
const OWN = /^my[A-Z]/;

/** The tables of docs/format.md, by section and first column: the keys of each row, and all code in it. */
const tables = new Map<string, Map<string, string>>();
{
  let section = "";
  let table: Map<string, string> | undefined;
  for (const line of readDocument("docs/format.md").text.split("\n")) {
    const heading = /^##+ (.*)/.exec(line)?.[1];
    const title = /^\| (key[^|]*) \| value \|$/.exec(line)?.[1];
    if (heading !== undefined) section = heading.replaceAll("`", "");
    if (title !== undefined) tables.set(`${section}: ${title.replaceAll("`", "")}`, (table = new Map()));
    else if (!line.startsWith("|")) table = undefined;
    else if (table !== undefined) {
      const [, keys = ""] = line.split("|");
      for (const [, key = ""] of keys.matchAll(/`([^`]+)`/g)) {
        table.set(key, line);
      }
    }
  }
}

/** Which table describes an object, and which ones those below it. An object without a table is described in the row of its key. */
interface Shape {
  readonly table: string;
  readonly below?: Readonly<Record<string, Shape>>;
}

const NOTE = "Note of a process manager";
const LETTERS = "process_managers/<name>/dead_letters.jsonl";
const PROJECTION = "projections/<name>/checkpoint.eventfold.json";
const DECLARED = "meta/declared/checkpoint.eventfold.json";
const MANAGER = "process_managers/<name>/checkpoint.eventfold.json";

const box: Shape = { table: "Personal fields: key in personal" };
const cause: Shape = { table: `${NOTE}: key in cause` };
const scheduled: Shape = { table: `${NOTE}: key of a scheduled command`, below: { cause, personal: box } };
const letter: Shape = {
  table: `${LETTERS}: key`,
  below: { cause, personal: box, envelope: { table: `${LETTERS}: key in envelope` } },
};
const samples: Shape = { table: `${PROJECTION}: key in samples` };
const last: Shape = { table: `${PROJECTION}: key in last` };
const EVENTS = "streams/<type>/<name>/app.jsonl";
const event: Shape = {
  table: `${EVENTS}: key`,
  below: {
    data: { table: "Cuts: key in data of a cut" },
    meta: {
      table: `${EVENTS}: key in meta`,
      below: { personal: box, dispatch: { table: `${EVENTS}: key in dispatch` } },
    },
  },
};
const outcome: Shape = {
  ...event,
  below: { ...event.below, data: { table: "Remembered outcomes: key in data of an outcome" } },
};
/** The shape of an event's line. */
const eventOf = (stream: unknown): Shape => (String(stream).startsWith("$outcomes.") ? outcome : event);
const note: Shape = {
  table: `${NOTE}: key in note`,
  below: {
    scheduled,
    handlers: { table: `${NOTE}: key in handlers` },
    adopted: { table: `${NOTE}: key in adopted` },
  },
};
/** The line of a note, of which the first table of its section has the header. */
const noteLine: Shape = {
  table: `${NOTE}: key of the line`,
  below: { note, deadLetters: { table: `${NOTE}: key of a dead letter`, below: { letter } } },
};

/** The files with JSON, but for the log. */
const FILES: readonly (readonly [path: RegExp, shape: Shape])[] = [
  [/^streams\/\$outcomes\.[^/]+\/[^/]+\/app\.jsonl$/, outcome],
  [/^streams\/[^/]+\/[^/]+\/app\.jsonl$/, event],
  [
    /^streams\/[^/]+\/[^/]+\/views\/state\.snapshot\.json$/,
    { table: "streams/<type>/<name>/views/state.snapshot.json: key" },
  ],
  [/^projections\/[^/]+\/checkpoint\.eventfold\.json$/, { table: `${PROJECTION}: key`, below: { last, samples } }],
  [
    /^aggregates\/[^/]+\/checkpoint\.eventfold\.json$/,
    {
      table: `${PROJECTION}: key`,
      below: { state: { table: "aggregates/<type>/checkpoint.eventfold.json: key in state", below: { samples } } },
    },
  ],
  [
    /^meta\/declared\/checkpoint\.eventfold\.json$/,
    {
      table: `${PROJECTION}: key`,
      below: {
        last,
        state: {
          table: `${DECLARED}: key in state`,
          below: {
            declared: { table: `${DECLARED}: key in declared` },
            unknown: { table: `${DECLARED}: key in unknown` },
          },
        },
      },
    },
  ],
  [/^subscriptions\/[^/]+\/checkpoint\.eventfold\.json$/, { table: `${PROJECTION}: key`, below: { last } }],
  [
    /^process_managers\/[^/]+\/checkpoint\.eventfold\.json$/,
    {
      table: `${PROJECTION}: key`,
      below: {
        last,
        samples,
        state: {
          table: `${MANAGER}: key in state`,
          below: { scheduled, handlers: { table: `${MANAGER}: key in handlers` } },
        },
      },
    },
  ],
  [/^process_managers\/[^/]+\/dead_letters\.jsonl$/, letter],
  [
    /^keys\/subjects\.jsonl$/,
    { table: "keys/subjects.jsonl: key", below: { keys: { table: "keys/subjects.jsonl: key in keys" } } },
  ],
  [/^meta\/streams\.jsonl$/, { table: "meta/streams.jsonl: key" }],
  [/^meta\/marker\.json$/, { table: "meta/marker.json: key" }],
  [/^meta\/cuts\.json$/, { table: "meta/cuts.json: key", below: { cuts: { table: "meta/cuts.json: key in cuts" } } }],
];
/** The state of a snapshot or checkpoint that may have personal data. */
const encrypted: Shape = { table: "Personal fields: key of an encrypted state", below: { personal: box } };

/** Described byte by byte, and tested in format.test.ts. */
const NO_JSON = /^(meta\/(head|lock|turn|stream_ends)|subscriptions\/[^/]+\/lock)$/;

const seen = new Set<string>();

/** Keys of an object, and of all that is in it, that docs/format.md does not describe. */
function undescribed(value: unknown, shape: Shape | string, where: string): string[] {
  if (Array.isArray(value)) return value.flatMap((item: unknown) => undescribed(item, shape, where));
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]: [string, unknown]) => {
    if (OWN.test(key)) return [];
    // The metadata of an envelope is the caller's; of an event, it is spread over `meta`.
    if (key === "traceparent" && where.endsWith(".metadata")) return [];
    const place = `${where}.${key}`;
    if (typeof shape === "string") return shape.includes(`\`${key}\``) ? undescribed(inner, shape, place) : [place];
    if (key === "state" && isEncrypted(inner)) return undescribed(inner, encrypted, place);
    const row = tables.get(shape.table)?.get(key);
    if (row === undefined) return [place];
    seen.add(`${shape.table}: ${key}`);
    return undescribed(inner, shape.below?.[key] ?? row.slice(row.indexOf("|", 1)), place);
  });
}

function isEncrypted(state: unknown): boolean {
  return typeof state === "object" && state !== null && "personal" in state;
}

/** The same for all lines of a segment of the log. */
function undescribedInLog(bytes: Buffer): string[] {
  const found: string[] = [];
  let at = 0;
  const next = (shape: Shape, where: string): Record<string, unknown> => {
    const stop = bytes.indexOf("\n", at);
    const line = JSON.parse(bytes.toString("utf8", at, stop)) as Record<string, unknown>;
    at = stop + 1;
    found.push(...undescribed(line, shape, where));
    return line;
  };
  next({ table: "Segment header: key" }, "segment");
  while (at < bytes.length) {
    const record = next({ table: "Record: key" }, "record");
    for (const end = at + Number(record["bytes"]); at < end;) {
      const isNote = bytes.toString("latin1", at, at + 10) === '{"manager"';
      const section = next(
        { table: isNote ? `${NOTE}: key` : "Section of a stream: key" },
        isNote ? "note" : "section",
      );
      for (const stop = at + Number(section["bytes"]); at < stop;)
        next(isNote ? noteLine : eventOf(section["stream"]), isNote ? "note line" : "event");
    }
  }
  return found;
}

const Counter = aggregate("counter", {
  initial: { mySum: 0 },
  events: {
    Added: data<{ myNumber: string }>().to<{ myNumber: number }>((old) => ({ myNumber: Number(old.myNumber) })),
    Noted: data(),
  },
  commands: { Add: data<{ myNumber: number }>(), Note: data() },
  rejections: { Negative: data<{ myNumber: number }>() },
}).define({
  handle: {
    Add: ({ data: added, emit, reject }) => (added.myNumber < 0 ? reject.Negative(added) : emit.Added(added)),
    Note: ({ emit }) => emit.Noted(),
  },
  apply: {
    Noted: (state) => state,
    Added: ({ mySum }, { myNumber }) => ({ mySum: mySum + myNumber }),
  },
  snapshotEvery: 1,
});

const Sums = projection("sums", { mySum: 0 }).on(Counter, {
  Added: ({ mySum }, { data: { myNumber } }) => ({ mySum: mySum + myNumber }),
});

const POLICY = { order: "instance", onError: { reaction: "skip" } } as const;

/** Sends on what is added to counter `from`: at once, later, never, or in vain, by the number. The second version has a new handler. */
const relay = (version: number) =>
  processManager("relay", { dispatches: [Counter], initial: { mySeen: 0 }, ...POLICY }).on(Counter, {
    ...(version > 0
      ? { Noted: () => ({ schedule: [{ in: "9h" as const, dispatch: Counter.at("to").Add({ myNumber: 9 }) }] }) }
      : {}),
    Added: ({ mySeen }, { id, data: { myNumber } }) => {
      if (id !== "from") return undefined;
      if (myNumber === 7) throw new RangeError("7 is a bug");
      const add = (number: number) => ({
        ...Counter.at("to").Add({ myNumber: number }),
        context: { ...CONTEXT, idempotencyKey: `key-${number}` },
      });
      const state = { mySeen: mySeen + 1 };
      if (myNumber === 1) return { state, dispatch: [Counter.at("to").Add({ myNumber: 10 }), add(11)] };
      if (myNumber === 2)
        return {
          state,
          schedule: [
            { in: "1m", dispatch: add(20) },
            { in: "1h", key: "k", dispatch: add(21) },
          ],
        };
      if (myNumber === 3) return { state, cancel: ["k"] };
      if (myNumber === 4) return { state, schedule: [{ in: "2h", key: "open", dispatch: add(40) }] };
      return { state, dispatch: add(-myNumber) };
    },
  });

const CONTEXT = {
  actor: "u-1",
  correlationId: "r-1",
  causationId: "c-1",
  sourceDevice: "d-1",
  metadata: { mySource: "phone", traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" },
};

/** The store reads this file of the Rust crate and does not write it. */
const CRATES = "process_managers/relay/checkpoint.json";

/** What the Rust crate has written. */
function writeAsTheCrate(directory: string): void {
  const write = (file: string, text: string): void => {
    fs.mkdirSync(path.dirname(path.join(directory, file)), { recursive: true });
    fs.writeFileSync(path.join(directory, file), text);
  };
  const line = '{"type":"Added","data":{"myNumber":"5"},"ts":1700000000}\n';
  const cursors = { "counter/old": crateCursor(line) };
  write("streams/counter/old/app.jsonl", line + line);
  write(CRATES, JSON.stringify({ state: { mySeen: 1 }, cursors }));
}

/** Lets a store write everything that it can write. */
async function writeEverything(directory: string, round: number, time: number): Promise<void> {
  const open = (version: number) =>
    AggregateStore.builder(directory)
      .aggregate(Counter)
      .projection(Sums)
      .processManager(relay(version))
      .processManagerMode("manual")
      .onProcessManagerError(() => {})
      .clock(() => now)
      .open();
  let now = time;
  {
    await using store = await open(round);
    await store.dispatch(Counter.at("from").Note());
    const add = (myNumber: number) =>
      store.dispatch(Counter.at("from").Add({ myNumber }), { ...CONTEXT, idempotencyKey: `k-${round}-${myNumber}` });
    for (const number of [1, 2]) await add(number);
    await store.runProcessManagers();
    for (const number of [3, 4, 5, 6, 7]) await add(number);
    await store.runProcessManagers();
    now += 30 * 60_000;
    await store.runProcessManagers();
    if (round === 0) await store.dropDeadLetter((await store.deadLetters("relay"))[0]?.key ?? "");
    await store.schedule(Counter.at("to").Add({ myNumber: -1 }), { at: now, every: "1h", key: `own-${round}` });
    await store.runProcessManagers();
    await store.dispatchAll([Counter.at("a").Add({ myNumber: 1 }), Counter.at("b").Add({ myNumber: 1 })]);
    for (const number of [-1, 1])
      await store.get(Counter, "outcomes").try(Counter.commands.Add({ myNumber: number }), {
        ...CONTEXT,
        idempotencyKey: `own-${number}`,
        remember: "all",
      });
    await store.injectEvent(Counter, "a", { type: "Added", data: { myNumber: 2 }, eventId: `other-${round}` });
    await store.projection(Sums);
    let read = 0;
    for await (const _ of store.subscribe({ name: "reader", exclusive: true })) if (++read > 2) break;
    const failing = store.subscribe({ name: "failing", retry: { attempts: 1 }, onError: () => {} }, () => {
      throw new RangeError("a bad event");
    });
    while ((await store.deadLetters({ subscription: "failing" })).length === 0) await new Promise(setImmediate);
    await failing.close();
    await store.delete(Counter, "b", { reason: "asked to" });
    const into = ({ mySum }: { readonly mySum: number }) => [Counter.events.Added({ myNumber: mySum })];
    await store.compact(Counter, "to", { into });
  }
  // Code that does not declare all events.
  const { Noted: _, ...events } = Counter.contract.events;
  const Less = aggregate("counter", { initial: 0, events, commands: {} }).define({
    handle: {},
    apply: { Added: (sum) => sum },
  });
  await using store = await AggregateStore.builder(directory).aggregate(Less).onUnknownEvent("skip").open();
  await store.status();
  await store.injectEvent(Less, "a", { type: "Added", data: { myNumber: 2 }, eventId: "last" });
}

const Person = aggregate("person", {
  initial: { myName: "" },
  events: {
    Named: data<{ myName: string }>().personal((_, id) => id, { myName: "-" }),
  },
  commands: { Name: data<{ myName: string }>(), Refuse: data<{ myName: string }>() },
  rejections: { Refused: data<{ myName: string }>() },
}).define({
  handle: {
    Name: ({ data: named, emit }) => emit.Named(named),
    Refuse: ({ data: named, reject }) => reject.Refused(named),
  },
  apply: { Named: (_, { myName }) => ({ myName }) },
  snapshotEvery: 1,
});

const Names = projection("names", { myNames: "" }).on(Person, {
  Named: ({ myNames }, { data: { myName } }) => ({ myNames: myNames + myName }),
});

const Sender = processManager("sender", { dispatches: [Person], initial: {} }).on(Person, {
  Named: (_, { data: named }) => ({
    dispatch: Person.at("x").Refuse(named),
    schedule: [{ in: "1h", dispatch: Person.at("x").Name(named) }],
  }),
});

/** Lets a store write what it writes for personal fields. */
async function writePersonal(directory: string): Promise<void> {
  await using store = await AggregateStore.builder(directory)
    .aggregate(Person)
    .projection(Names)
    .processManager(Sender)
    .processManagerMode("manual")
    .open();
  for (const id of ["p-1", "p-2"]) await store.dispatch(Person.at(id).Name({ myName: "Ada" }));
  await store.runProcessManagers();
  await store.projection(Names);
  await store.forget("p-1");
  await store.runProcessManagers();
  await store.get(Person, "p-2").execute(Person.commands.Name({ myName: "Bob" }));
  await store.projection(Names);
}

/** The lines of an export, by a key that only one kind has. */
const EXPORTED: readonly (readonly [key: string, shape: Shape])[] = [
  ["eventfold-es", { table: "Exports: key of the header" }],
  ["manager", { table: "Exports: key of a note's line", below: noteLine.below ?? {} }],
  ["subscription", { table: "Exports: key of a subscription's line", below: { last } }],
  ["end", { table: "Exports: key of the end" }],
  ["pos", { table: "Exports: key of an event's line", below: event.below ?? {} }],
];

async function undescribedInExport(directory: string): Promise<string[]> {
  await using store = await AggregateStore.open(directory);
  const found: string[] = [];
  for await (const text of store.export()) {
    const line = JSON.parse(text) as object;
    const { table, below } = EXPORTED.find(([key]) => Object.hasOwn(line, key))?.[1] ?? { table: "none" };
    const data = "aggregate" in line ? eventOf(line.aggregate).below?.["data"] : undefined;
    const shape = data === undefined ? { table, below: below ?? {} } : { table, below: { ...below, data } };
    found.push(...undescribed(line, shape, "export"));
  }
  return found;
}

function undescribedIn(directory: string): string[] {
  const found: string[] = [];
  const files = fs
    .readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(directory, path.join(entry.parentPath, entry.name)).replaceAll("\\", "/"));
  for (const file of files.filter((name) => !NO_JSON.test(name) && name !== CRATES)) {
    const bytes = fs.readFileSync(path.join(directory, file));
    const shape = FILES.find(([pattern]) => pattern.test(file))?.[1];
    if (file.startsWith("commit_log/")) found.push(...undescribedInLog(bytes));
    else if (shape === undefined) found.push(file);
    else
      for (const text of bytes.toString("utf8").split("\n").filter(Boolean))
        found.push(...undescribed(JSON.parse(text), shape, file));
  }
  return found;
}

describe("docs/format.md", () => {
  test("describes every key that a store writes, and shows none that no store writes", async () => {
    const directory = temporaryDirectory();
    const found: string[] = [];
    writeAsTheCrate(directory);
    let time = 1_700_000_100_000;
    for (const round of [0, 1, 2]) {
      await writeEverything(directory, round, time);
      time += 60 * 60_000;
      if (round > 0) found.push(...undescribedIn(directory), ...(await undescribedInExport(directory)));
      // Without its notes, a process manager notes its dead letters.
      if (round === 1)
        for (const lost of ["commit_log", "process_managers/relay/checkpoint.eventfold.json"])
          fs.rmSync(path.join(directory, lost), { recursive: true });
    }
    const personal = temporaryDirectory();
    await writePersonal(personal);
    found.push(...undescribedIn(personal), ...(await undescribedInExport(personal)));
    expect([...new Set(found)]).toEqual([]);
    const shown = [...tables].flatMap(([table, rows]) => [...rows.keys()].map((key) => `${table}: ${key}`));
    expect(shown.filter((key) => !seen.has(key))).toEqual([]);
  });

  test.each([
    [{ type: "A", data: { unknown: 1 } }, event, ["x.data.unknown"]],
    [{ type: "A", meta: { dispatch: { manager: "m", more: 1 } } }, event, ["x.meta.dispatch.more"]],
    [
      { note: { done: 1 }, deadLetters: [{ key: "k", letter: { envelope: { extra: 1 } } }] },
      noteLine,
      ["x.note.done", "x.deadLetters.letter.envelope.extra"],
    ],
  ])("lacks keys that no table has: %j", (value, shape, missing) => {
    expect(undescribed(value, shape, "x")).toEqual(missing);
  });
});
