import { subscribe, unsubscribe } from "node:diagnostics_channel";
import * as fs from "node:fs";
import * as path from "node:path";
import { aggregate, AggregateStore, data, type EventfoldError, processManager, projection } from "eventfold-es";
import { verify } from "eventfold-es/doctor";
import { describe, expect, test } from "vitest";
import { crateCursor } from "../support/rust-crate.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { until } from "../support/until.ts";

const Counter = aggregate("counter", {
  initial: 0,
  events: { Added: data<{ by: number }>() },
  commands: { Add: data<{ by: number }>() },
}).define({ handle: { Add: ({ data: d, emit }) => emit.Added(d) }, apply: { Added: (sum, { by }) => sum + by } });

const Meter = aggregate("meter", {
  initial: 0,
  events: { Measured: data<{ n: number }>() },
  commands: { Measure: data<{ n: number }>() },
}).define({ handle: { Measure: ({ data: d, emit }) => emit.Measured(d) }, apply: { Measured: (count) => count + 1 } });

const mirror = (startFrom?: "beginning" | "now") =>
  processManager("mirror", { dispatches: [Meter], initial: { seen: 0 }, ...(startFrom && { startFrom }) }).on(Counter, {
    Added: ({ seen }, { id, data: { by } }) => ({
      state: { seen: seen + 1 },
      dispatch: Meter.at(id).Measure({ n: by }),
    }),
  });
/** Another manager, which no damage concerns. */
const Other = processManager("other", { dispatches: [Meter], startFrom: "now" }).on(Counter, {
  Added: (_, { data: { by } }) => Meter.at("other").Measure({ n: by }),
});
const Sum = projection("sum", { sum: 0, events: 0 }).on(Counter, {
  Added: (s, e) => ({ sum: s.sum + e.data.by, events: s.events + 1 }),
});

const line = (type: string, payload: object, n: number): string =>
  `{"type":"${type}","data":${JSON.stringify(payload)},"ts":${1_700_000_000 + n},"id":"crate-${n}"}\n`;
/** The Rust crate's streams: five events, and what its process manager has made of them. */
const STREAMS = {
  "counter/a": [1, 2, 3].map((by) => line("Added", { by }, by)).join(""),
  "counter/größe-日本": [4, 5].map((by) => line("Added", { by }, by)).join(""),
  "meter/a": [1, 2, 3].map((n) => line("Measured", { n }, n + 10)).join(""),
  "meter/größe-日本": [4, 5].map((n) => line("Measured", { n }, n + 10)).join(""),
};
type StreamName = keyof typeof STREAMS;
const CURSORS = {
  "counter/a": crateCursor(STREAMS["counter/a"]),
  "counter/größe-日本": crateCursor(STREAMS["counter/größe-日本"]),
};
const LETTER = `${JSON.stringify({
  envelope: { aggregate_type: "ghost", instance_id: "g", command: "Boo", context: null },
  error: "unknown aggregate type: ghost",
  ts: 1_700_000_000,
})}\n`;
const BOTH = ["projections/sum", "process_managers/mirror"] as const;

interface Written {
  /** The whole text of both checkpoints. */
  readonly checkpoint?: string | undefined;
  readonly cursors?: unknown;
  readonly streams?: Partial<Record<StreamName, string>>;
  readonly letters?: string;
}

function crateDirectory({ checkpoint, cursors = CURSORS, streams = {}, letters }: Written): string {
  const directory = temporaryDirectory();
  const write = (file: string, text: string): void => {
    fs.mkdirSync(path.dirname(path.join(directory, file)), { recursive: true });
    fs.writeFileSync(path.join(directory, file), text);
  };
  write("meta/streams.jsonl", "");
  for (const [stream, text] of Object.entries({ ...STREAMS, ...streams })) write(`streams/${stream}/app.jsonl`, text);
  const state = { "projections/sum": { sum: 1000, events: 5 }, "process_managers/mirror": { seen: 5 } };
  for (const consumer of BOTH)
    write(
      `${consumer}/checkpoint.json`,
      checkpoint ?? JSON.stringify({ state: state[consumer], cursors }, undefined, 2),
    );
  if (letters !== undefined) write("process_managers/mirror/dead_letters.jsonl", letters);
  return directory;
}

const builder = (directory: string, startFrom?: "beginning" | "now") =>
  AggregateStore.builder(directory)
    .aggregate(Counter)
    .aggregate(Meter)
    .projection(Sum)
    .processManager(mirror(startFrom))
    .processManager(Other)
    .processManagerMode("manual");
const open = (directory: string, startFrom?: "beginning" | "now") => builder(directory, startFrom).open();
type Store = Awaited<ReturnType<typeof open>>;

const measured = async (store: Store, id: string): Promise<number> => store.get(Meter, id).state();
const cratesFile = (directory: string, consumer: string): string => path.join(directory, consumer, "checkpoint.json");

async function refusal(store: Store): Promise<EventfoldError | undefined> {
  return store.runProcessManagers().then(
    () => undefined,
    (error: EventfoldError) => error,
  );
}

/** Messages that are published while something runs. */
async function published(work: () => Promise<void>): Promise<{ readonly kind: string; readonly problem: string }[]> {
  const messages: { kind: string; problem: string }[] = [];
  const listener = (message: unknown): void => void messages.push(message as { kind: string; problem: string });
  subscribe("eventfold-es:untrusted-progress", listener);
  try {
    await work();
  } finally {
    unsubscribe("eventfold-es:untrusted-progress", listener);
  }
  return messages;
}

const WHOLE = JSON.stringify({ state: { seen: 5 }, cursors: CURSORS }, undefined, 2);
const LONG = STREAMS["counter/a"];
const { offset: END, hash: HASH } = CURSORS["counter/a"];
const cursorOf = (cursor: unknown): Written => ({ cursors: { ...CURSORS, "counter/a": cursor } });

const damages: readonly (readonly [string, Written, RegExp])[] = [
  ["empty", { checkpoint: "" }, /is empty/],
  ["full of zeros", { checkpoint: "\0".repeat(200) }, /not JSON/],
  ["cut off in its middle", { checkpoint: WHOLE.slice(0, WHOLE.length / 2) }, /not JSON/],
  ["cut off by one byte", { checkpoint: WHOLE.slice(0, -1) }, /not JSON/],
  ["null", { checkpoint: "null" }, /no state and cursors/],
  ["an empty object", { checkpoint: "{}" }, /no state and cursors/],
  ["without cursors", { checkpoint: '{"state":{"seen":5}}' }, /no state and cursors/],
  ["with a list of cursors", { cursors: [] }, /no state and cursors/],
  [
    "with another hash",
    cursorOf({ offset: END, hash: "0123456789abcdef" }),
    /hash "[0-9a-f]{16}", not "0123456789abcdef"/,
  ],
  [
    "with the hash of an earlier line",
    cursorOf({ offset: END, hash: crateCursor(LONG.split("\n")[0] + "\n").hash }),
    /hash/,
  ],
  ["without a hash", cursorOf({ offset: END }), /no stream, offset and hash/],
  ["with an empty hash", cursorOf({ offset: END, hash: "" }), /not ""/],
  ["with a hash at the start of the file", cursorOf({ offset: 0, hash: HASH }), /hash ""/],
  [
    "with an offset after the end of the file",
    cursorOf({ offset: END + 1, hash: HASH }),
    new RegExp(`has ${END} bytes`),
  ],
  ["with an offset far after the end", cursorOf({ offset: 1e15, hash: HASH }), /has \d+ bytes/],
  ["with an offset in the middle of a line", cursorOf({ offset: END - 10, hash: HASH }), /no line .* ends there/],
  ["with an offset before the end of a line", cursorOf({ offset: END - 1, hash: HASH }), /no line .* ends there/],
  ["with an offset in the first line", cursorOf({ offset: 1, hash: HASH }), /no line .* ends there/],
  [
    "with an offset at the end of another line",
    cursorOf({ offset: Buffer.byteLength(LONG.split("\n")[0] + "\n"), hash: HASH }),
    /hash/,
  ],
  ["with a negative offset", cursorOf({ offset: -1, hash: HASH }), /no stream, offset and hash/],
  ["with half an offset", cursorOf({ offset: 10.5, hash: HASH }), /no stream, offset and hash/],
  ["with a text as offset", cursorOf({ offset: String(END), hash: HASH }), /no stream, offset and hash/],
  ["with null as cursor", cursorOf(null), /no stream, offset and hash/],
  [
    "with a stream that is not there",
    { cursors: { ...CURSORS, "counter/gone": { offset: END, hash: HASH } } },
    /counter\/gone .* no file/,
  ],
  [
    "with a name that is no stream",
    { cursors: { ...CURSORS, counter: { offset: END, hash: HASH } } },
    /no stream, offset and hash/,
  ],
  ["of a stream that was cut off since", { streams: { "counter/a": LONG.split("\n")[0] + "\n" } }, /has \d+ bytes/],
  ["of a stream that has other lines", { streams: { "counter/a": LONG.replace('"by":3', '"by":7') } }, /hash/],
  [
    "of a stream whose lines were moved",
    { streams: { "counter/a": line("Added", { by: 9 }, 9) + LONG } },
    /hash|ends there/,
  ],
];

describe.each(damages)("a checkpoint of the Rust crate that is %s", (_, written, problem) => {
  test("lets no process manager repeat a command, until the user decides", async () => {
    const directory = crateDirectory(written);
    const file = cratesFile(directory, "process_managers/mirror");
    const bytes = fs.readFileSync(file);
    {
      await using store = await open(directory);
      const head = await store.head();
      for (let run = 0; run < 2; run++) {
        const error = await refusal(store);
        expect(error).toMatchObject({ code: "UNTRUSTED_CHECKPOINT" });
        expect(error?.message).toContain(file);
        expect(error?.message).toMatch(problem);
        expect(error?.message).toContain("Restore the file");
      }
      expect(await store.head()).toBe(head);
      // The rest of the store works.
      await store.dispatch(Counter.at("a").Add({ by: 100 }));
      expect((await refusal(store))?.code).toBe("UNTRUSTED_CHECKPOINT");
      expect(await measured(store, "other")).toBe(1);
      expect(await measured(store, "a")).toBe(3);
      expect((await store.status()).processManagers).toMatchObject([{ name: "mirror", position: 0 }, {}]);
    }
    expect(fs.readFileSync(file)).toEqual(bytes);
    // The user has no backup, and lets the manager begin with the next event.
    fs.rmSync(file);
    for (const run of [0, 1, 2]) {
      await using store = await open(directory, "now");
      expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
      await store.dispatch(Counter.at("a").Add({ by: 1 }));
      expect(await store.runProcessManagers()).toEqual({ dispatched: 2, deadLettered: 0 });
      expect(await measured(store, "a")).toBe(4 + run);
    }
  });

  test("is put right from a backup", async () => {
    const directory = crateDirectory(written);
    if (written.streams !== undefined) return;
    {
      await using store = await open(directory);
      expect((await refusal(store))?.code).toBe("UNTRUSTED_CHECKPOINT");
      fs.writeFileSync(cratesFile(directory, "process_managers/mirror"), WHOLE);
      await store.dispatch(Counter.at("a").Add({ by: 1 }));
      expect(await store.runProcessManagers()).toEqual({ dispatched: 2, deadLettered: 0 });
    }
    await using again = await open(directory);
    expect(await again.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
    expect(await measured(again, "a")).toBe(4);
  });

  test("lets a projection fold all events again, and says so once", async () => {
    const directory = crateDirectory(written);
    const text = fs.readFileSync(path.join(directory, "streams/counter/a/app.jsonl"), "utf8");
    const numbers = [...text.matchAll(/"by":(\d)/g)].map(([, by]) => Number(by));
    const expected = { sum: numbers.reduce((sum, by) => sum + by, 9), events: numbers.length + 2 };
    const read = async (): Promise<void> => {
      await using store = await open(directory);
      expect(await store.projection(Sum)).toEqual(expected);
    };
    const messages = await published(read);
    expect(messages).toMatchObject([{ kind: "projection", name: "sum" }]);
    expect(messages[0]?.problem).toMatch(problem);
    expect(await published(read)).toEqual([]);
    expect(fs.existsSync(cratesFile(directory, "projections/sum"))).toBe(true);
  });

  test("is a warning of verify", async () => {
    const directory = crateDirectory(written);
    await (await open(directory)).close();
    const { findings } = await verify(directory);
    const found = findings.filter(({ kind }) => kind === "checkpoint-damaged");
    expect(found.map(({ file }) => file).sort()).toEqual(
      ["process_managers/mirror", "projections/sum"].map((consumer) => cratesFile(directory, consumer)),
    );
    for (const { severity, message } of found) {
      expect(severity).toBe("warning");
      expect(message).toMatch(problem);
    }
  });
});

test.each([
  ["blank lines before its offset", { streams: { "counter/a": `${LONG}\n \r\n` } as const, extra: 4 }],
  ["events after its offset", { streams: { "counter/a": LONG + line("Added", { by: 6 }, 6) } as const, extra: 0 }],
  ["an unfinished line after its offset", { streams: { "counter/a": `${LONG}{"type":"Ad` } as const, extra: 0 }],
])("a checkpoint of the Rust crate with %s is trusted", async (_, { streams, extra }) => {
  const cursors = { ...CURSORS, "counter/a": { offset: END + extra, hash: HASH } };
  const directory = crateDirectory({ streams, cursors });
  const isLonger = streams["counter/a"].includes('"by":6');
  await using store = await open(directory);
  expect(await store.runProcessManagers()).toEqual({ dispatched: isLonger ? 1 : 0, deadLettered: 0 });
  expect(await store.projection(Sum)).toEqual(isLonger ? { sum: 1006, events: 6 } : { sum: 1000, events: 5 });
});

test("cursors at the start of a file, and those of ids that are not part of the store, are trusted", async () => {
  const zero = { offset: 0, hash: "" };
  const cursors = { ...CURSORS, "counter/new": zero, "counter/..": { offset: 5, hash: HASH }, "counter/": zero };
  await using store = await open(crateDirectory({ cursors }));
  expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
  expect(await store.projection(Sum)).toEqual({ sum: 1000, events: 5 });
});

describe("a process manager of the Rust crate with dead letters", () => {
  const losses: readonly (readonly [string, (directory: string) => void])[] = [
    ["without its checkpoint", (directory) => fs.rmSync(cratesFile(directory, "process_managers/mirror"))],
    [
      "with a checkpoint without cursors",
      (directory) =>
        fs.writeFileSync(cratesFile(directory, "process_managers/mirror"), '{"state":{"seen":0},"cursors":{}}'),
    ],
    [
      "with a checkpoint of empty streams",
      (directory) =>
        fs.writeFileSync(
          cratesFile(directory, "process_managers/mirror"),
          '{"state":{"seen":0},"cursors":{"counter/a":{"offset":0,"hash":""}}}',
        ),
    ],
  ];
  test.each(losses)("%s is not new", async (_, lose) => {
    const directory = crateDirectory({ letters: LETTER });
    lose(directory);
    for (const startFrom of [undefined, "beginning"] as const) {
      await using store = await open(directory, startFrom);
      const error = await refusal(store);
      expect(error?.code).toBe("UNTRUSTED_CHECKPOINT");
      expect(error?.message).toMatch(/dead letters.*startFrom: "now"/);
      expect(await measured(store, "a")).toBe(3);
      expect(await store.deadLetters("mirror")).toHaveLength(1);
    }
    // Its letters can be dropped, which does not make it new.
    {
      await using store = await open(directory);
      const [letter] = await store.deadLetters("mirror");
      await expect(store.replayDeadLetter(letter?.key ?? "")).rejects.toMatchObject({ code: "UNKNOWN_AGGREGATE" });
      expect((await refusal(store))?.code).toBe("UNTRUSTED_CHECKPOINT");
    }
    await using store = await open(directory, "now");
    await store.dispatch(Counter.at("a").Add({ by: 1 }));
    expect(await store.runProcessManagers()).toEqual({ dispatched: 2, deadLettered: 0 });
    expect(await measured(store, "a")).toBe(4);
  });

  test("without its checkpoint tells so by itself, and other managers go on", async () => {
    const directory = crateDirectory({ letters: LETTER });
    fs.rmSync(cratesFile(directory, "process_managers/mirror"));
    const errors: unknown[] = [];
    await using store = await builder(directory)
      .processManagerMode("automatic")
      .onProcessManagerError((error) => errors.push(error))
      .open();
    await store.dispatch(Counter.at("a").Add({ by: 1 }));
    await until(() => errors.length > 0);
    await until(async () => (await measured(store, "other")) === 1);
    expect(errors[0]).toMatchObject({ code: "UNTRUSTED_CHECKPOINT" });
    expect(await measured(store, "a")).toBe(3);
  });

  test("begins with the first event again if its directory is deleted", async () => {
    const directory = crateDirectory({ letters: LETTER });
    fs.rmSync(path.join(directory, "process_managers/mirror"), { recursive: true });
    await using store = await open(directory);
    expect(await store.runProcessManagers()).toEqual({ dispatched: 5, deadLettered: 0 });
  });
});

test.each(damages.filter(([, { streams }]) => streams === undefined))(
  "a checkpoint of the Rust crate that has become one %s after ours lets no command be repeated",
  async (_, written) => {
    const directory = crateDirectory({});
    const run = async (): Promise<void> => {
      await using store = await open(directory);
      await store.runProcessManagers();
    };
    await run();
    // The crate appends an event, and its process manager handles it. Then its checkpoint is damaged.
    fs.appendFileSync(path.join(directory, "streams/counter/a/app.jsonl"), line("Added", { by: 6 }, 6));
    fs.appendFileSync(path.join(directory, "streams/meter/a/app.jsonl"), line("Measured", { n: 6 }, 16));
    const damaged = cratesFile(crateDirectory(written), "process_managers/mirror");
    fs.copyFileSync(damaged, cratesFile(directory, "process_managers/mirror"));
    {
      await using store = await open(directory);
      const error = await refusal(store);
      expect(error?.code).toBe("UNTRUSTED_CHECKPOINT");
      expect(error?.message).toContain("after the events that it has handled itself");
      expect(await measured(store, "a")).toBe(4);
    }
    // The user deletes it: the log says what our manager has handled.
    fs.rmSync(cratesFile(directory, "process_managers/mirror"));
    await using store = await open(directory);
    expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
  },
);

test("the Rust crate's checkpoint counts again if the log has lost the note of it, whatever ours says", async () => {
  const directory = crateDirectory({});
  const run = async (): Promise<void> => {
    await using store = await open(directory);
    await store.dispatch(Counter.at("a").Add({ by: 1 }));
    await store.runProcessManagers();
  };
  await run();
  fs.rmSync(path.join(directory, "commit_log"), { recursive: true });
  await run();
  await using store = await open(directory);
  expect(await measured(store, "a")).toBe(5);
  expect(await measured(store, "größe-日本")).toBe(2);
});

describe("a process manager whose notes are lost with the log", () => {
  const Rule = (accepts: boolean) =>
    aggregate("meter", {
      initial: 0,
      events: { Measured: data<{ n: number }>() },
      commands: { Measure: data<{ n: number }>() },
      rejections: { Odd: data() },
    }).define({
      handle: { Measure: ({ data: d, emit, reject }) => (accepts || d.n % 2 === 0 ? emit.Measured(d) : reject.Odd()) },
      apply: { Measured: (count) => count + 1 },
    });

  async function run(
    directory: string,
    accepts: boolean,
    work: (store: AggregateStore) => Promise<void>,
  ): Promise<void> {
    const Target = Rule(accepts);
    const Send = processManager("send", { dispatches: [Target] }).on(Counter, {
      Added: (_, { id, data: { by } }) => ({
        dispatch: Target.at(id).Measure({ n: by }),
        schedule: [{ in: "1m", dispatch: Target.at(`late-${id}`).Measure({ n: by }) }],
      }),
    });
    let time = 0;
    const store = await AggregateStore.builder(directory)
      .aggregate(Counter)
      .aggregate(Target)
      .processManager(Send)
      .processManagerMode("manual")
      .clock(() => (time += 100_000))
      .open();
    await work(store as unknown as AggregateStore);
    await store.close();
  }

  test.each([["its checkpoint is there"], ["its checkpoint is lost, too"]])(
    "sends no command again that became a dead letter; %s",
    async (loss) => {
      const directory = temporaryDirectory();
      await run(directory, false, async (store) => {
        for (const by of [1, 2, 3, 4]) await store.dispatch(Counter.at("a").Add({ by }) as never);
        expect(await store.runProcessManagers()).toEqual({ dispatched: 4, deadLettered: 4 });
      });
      fs.rmSync(path.join(directory, "commit_log"), { recursive: true });
      if (loss.includes("lost")) fs.rmSync(path.join(directory, "process_managers/send/checkpoint.eventfold.json"));
      const messages = await published(async () => {
        for (const again of [1, 2, 3])
          await run(directory, true, async (store) => {
            expect((await store.deadLetters("send")).length).toBe(4);
            await store.dispatch(Counter.at("b").Add({ by: 2 }) as never);
            await store.runProcessManagers();
            expect(await store.head()).toBe(8 + 3 * again);
          });
      });
      expect(messages).toMatchObject([{ kind: "process-manager", name: "send" }]);
      expect(messages[0]?.problem).toContain("4 of its dead letters");
      await run(directory, true, async (store) => {
        // A letter can still be replayed, once.
        const [letter] = await store.deadLetters("send");
        await store.replayDeadLetter(letter?.key ?? "");
        expect(await store.deadLetters("send")).toHaveLength(3);
        await store.runProcessManagers();
        expect(await store.head()).toBe(18);
      });
    },
  );
});
