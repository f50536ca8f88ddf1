import {
  aggregate,
  AggregateStore,
  data,
  dropped,
  type EventStorage,
  isEventfoldError,
  memory,
  processManager,
  projection,
  renamed,
  replaced,
} from "eventfold-es";
import { describe, expect, test } from "vitest";
import { backends } from "../support/backends.ts";
import { collect } from "../support/collect.ts";

/** The first generation of the model. */
const First = aggregate("order", {
  initial: { log: [] as unknown[] },
  events: {
    Placed: data<{ item: string }>(),
    Sent: data<{ by: string }>(),
    Viewed: data(),
    Finished: data<{ cents: number; by: string }>(),
    Noted: data(),
  },
  commands: { Do: data<{ type: string; data?: unknown }[]>() },
}).define({
  handle: { Do: ({ data }) => data as never },
  apply: {
    Placed: (s, d) => ({ log: [...s.log, ["Placed", d]] }),
    Sent: (s, d) => ({ log: [...s.log, ["Sent", d]] }),
    Viewed: (s) => ({ log: [...s.log, ["Viewed"]] }),
    Finished: (s, d) => ({ log: [...s.log, ["Finished", d]] }),
    Noted: (s) => ({ log: [...s.log, ["Noted"]] }),
  },
});

/** The second: other shapes and names, an event less, one that was two. */
const Second = aggregate("order", {
  initial: { log: [] as unknown[] },
  events: {
    Placed: data<{ item: string }>().to<{ items: string[] }>(({ item }) => ({ items: [item] })),
    Shipped: data<{ by: string }>().to<{ carrier: string }>(({ by }) => ({ carrier: by })),
    Paid: data<{ cents: number }>(),
    Noted: data().to<{ text: string }>(() => ({ text: "" })),
  },
  commands: { Do: data<{ type: string; data?: unknown }[]>() },
  history: [
    renamed("Sent", "Shipped"),
    dropped("Viewed"),
    replaced("Finished", data<{ cents: number; by: string }>(), ({ cents, by }) => [
      { type: "Paid", data: { cents } },
      { type: "Shipped", data: { carrier: by } },
    ]),
  ],
}).define({
  handle: { Do: ({ data }) => data as never },
  apply: {
    Placed: (s, d, { type, version }) => ({ log: [...s.log, [type, d, version]] }),
    Shipped: (s, d, { type, version }) => ({ log: [...s.log, [type, d, version]] }),
    Paid: (s, d, { type, version }) => ({ log: [...s.log, [type, d, version]] }),
    Noted: (s, d, { type, version }) => ({ log: [...s.log, [type, d, version]] }),
  },
});

const OLD = [
  { type: "Placed", data: { item: "tea" } },
  { type: "Viewed" },
  { type: "Sent", data: { by: "bike" } },
  { type: "Finished", data: { cents: 5, by: "van" } },
  { type: "Noted" },
];
const NEW = [
  { type: "Placed", data: { items: ["jam"] } },
  { type: "Shipped", data: { carrier: "boat" } },
];
const SEEN: [string, unknown, number][] = [
  ["Placed", { items: ["tea"] }, 1],
  ["Shipped", { carrier: "bike" }, 3],
  ["Paid", { cents: 5 }, 4],
  ["Shipped", { carrier: "van" }, 4],
  ["Noted", { text: "" }, 5],
  ["Placed", { items: ["jam"] }, 6],
  ["Shipped", { carrier: "boat" }, 7],
];

const Log = projection("log", () => [] as unknown[]).on(Second, {
  Placed: (s, { type, data, version }) => void s.push([type, data, version]),
  Shipped: (s, { type, data, version }) => void s.push([type, data, version]),
  Paid: (s, { type, data, version }) => void s.push([type, data, version]),
  Noted: (s, { type, data, version }) => void s.push([type, data, version]),
});
const Payments = projection("payments", { cents: 0 }).on(Second, {
  Paid: (s, { data }) => ({ cents: s.cents + data.cents }),
});

describe.each(backends)("events of an earlier model $backend", ({ builder }) => {
  async function evolved(): Promise<Awaited<ReturnType<typeof open>>> {
    const begin = builder();
    await using first = await begin.aggregate(First).open();
    await first.dispatch(First.at("o-1").Do(OLD));
    await first.close();
    return await open(begin);
  }
  const open = (begin: ReturnType<typeof builder>) =>
    begin.aggregate(Second).projection(Log).projection(Payments).open();

  test("are read in their last shape by every reader", async () => {
    await using store = await evolved();
    await store.dispatch(Second.at("o-1").Do(NEW));
    const order = store.get(Second, "o-1");
    expect((await order.state()).log).toEqual(SEEN);
    expect((await order.state({ version: 4 })).log).toEqual(SEEN.slice(0, 4));
    expect(await store.projection(Log)).toEqual(SEEN);
    expect(await store.projection(Payments)).toEqual({ cents: 5 });
    const shown = (events: readonly { type: string; data?: unknown; version: number }[]): unknown =>
      events.map(({ type, data, version }) => [type, data, version]);
    expect(shown(await collect(order.events()))).toEqual(SEEN);
    expect(shown(await collect(store.readEvents("order", "o-1")))).toEqual(SEEN);
    expect(shown(await collect(store.events()))).toEqual(SEEN);
    expect(shown(await collect(store.events({ reverse: true })))).toEqual(SEEN.toReversed());
    const shipped = store.events({ aggregates: [Second], types: ["Shipped"] });
    expect(shown(await collect(shipped))).toEqual(SEEN.filter(([type]) => type === "Shipped"));
    expect(shown(await collect(store.events({ types: ["Paid"] })))).toEqual([SEEN[2]]);
    const subscribed: unknown[] = [];
    for await (const { type, data, version } of store.subscribe({ types: ["Shipped", "Noted"] })) {
      subscribed.push([type, data, version]);
      if (version === 7) break;
    }
    expect(subscribed).toEqual(SEEN.filter(([type]) => type === "Shipped" || type === "Noted"));
  });

  test("have an id each, also those that were one event", async () => {
    await using store = await evolved();
    const ids = (await collect(store.events())).map(({ eventId }) => eventId);
    expect(new Set(ids).size).toBe(5);
    expect(ids[3]).toBe(`${ids[2]}:2`);
  });

  test("go to a process manager once, also if it has dealt with them under their old name", async () => {
    const begin = builder();
    const Mails = aggregate("mail", {
      initial: {},
      events: { Mailed: data<{ text: string }>() },
      commands: { Mail: data<{ text: string }>() },
    }).define({ handle: { Mail: ({ data, emit }) => emit.Mailed(data) }, apply: { Mailed: (s) => s } });
    const mail = (text: string) => Mails.at("m").Mail({ text });
    const Before = processManager("mails", { dispatches: [Mails] }).on(First, {
      Sent: (_, { data }) => mail(`sent by ${data.by}`),
    });
    const After = processManager("mails", { dispatches: [Mails] }).on(Second, {
      Shipped: (_, { data }) => mail(`shipped by ${data.carrier}`),
      Paid: (_, { data }) => mail(`paid ${data.cents}`),
    });
    const first = await begin
      .aggregate(First)
      .aggregate(Mails)
      .processManager(Before)
      .processManagerMode("manual")
      .open();
    await first.dispatch(First.at("o-1").Do([{ type: "Sent", data: { by: "bike" } }]));
    await first.runProcessManagers();
    await first.dispatch(First.at("o-1").Do([{ type: "Finished", data: { cents: 7, by: "van" } }]));
    await first.close();
    for (let run = 0; run < 2; run++) {
      await using second = await begin
        .aggregate(Second)
        .aggregate(Mails)
        .processManager(After)
        .processManagerMode("manual")
        .open();
      await second.runProcessManagers();
      expect((await collect(second.readEvents("mail", "m"))).map(({ data }) => data)).toEqual([
        { text: "sent by bike" },
        { text: "paid 7" },
        { text: "shipped by van" },
      ]);
    }
  });

  test("are in a projection that existed before, and in snapshots", async () => {
    const begin = builder();
    const Seen = projection("seen", { events: 0 }).on(First, { Sent: (s) => ({ events: s.events + 1 }) });
    const first = await begin.aggregate(First).projection(Seen).open();
    for (let i = 0; i < 150; i++) await first.dispatch(First.at("o-1").Do([{ type: "Sent", data: { by: "bike" } }]));
    expect(await first.projection(Seen)).toEqual({ events: 150 });
    await first.close();
    const Shipments = projection("seen", { events: 0 }).on(Second, { Shipped: (s) => ({ events: s.events + 1 }) });
    await using second = await begin.aggregate(Second).projection(Shipments).open();
    await second.dispatch(Second.at("o-1").Do(NEW));
    expect(await second.projection(Shipments)).toEqual({ events: 151 });
    expect((await second.get(Second, "o-1").state()).log).toHaveLength(152);
  });
});

/** A store that `First` has written. */
async function written(storage: EventStorage, events: { type: string; data?: unknown }[]): Promise<void> {
  await using store = await AggregateStore.builder(storage).aggregate(First).open();
  await store.dispatch(First.at("o-1").Do(events));
}

const messageOf = async (work: Promise<unknown>): Promise<string> => {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!isEventfoldError(error, "UPCAST_FAILED") && !isEventfoldError(error, "PROJECTION_FAILED"))
    throw new Error("expected another error", { cause: error });
  return error.message;
};

describe("a step that fails", () => {
  const events = { Placed: data<{ item: string }>() };
  const Failing = aggregate("order", {
    initial: 0,
    events: {
      Placed: events.Placed.to((old) => old).to<{ n: number }>(() => {
        throw new TypeError("no such item");
      }),
    },
    commands: {},
  }).define({ handle: {}, apply: { Placed: (n) => n } });
  const Broken = aggregate("order", {
    initial: 0,
    events: { Placed: data<{ item: string }>() },
    commands: {},
    history: [replaced("Sent", data(), () => ({ type: "Gone" }) as never)],
  }).define({ handle: {}, apply: { Placed: (n) => n } });

  test("is named with event, version, position and number, wherever it is met", async () => {
    const storage = memory();
    await written(storage, [{ type: "Placed", data: { item: "tea" } }]);
    const Count = projection("count", 0).on(Failing, { Placed: (n) => n + 1 });
    await using store = await AggregateStore.builder(storage).aggregate(Failing).projection(Count).open();
    const text = 'order "o-1", version 1, position 1: step 2 of Placed failed: no such item';
    expect(await messageOf(store.get(Failing, "o-1").state())).toBe(text);
    expect(await messageOf(collect(store.events()))).toBe(text);
    expect(await messageOf(collect(store.readEvents("order", "o-1")))).toBe(text);
    expect(await messageOf(store.projection(Count))).toContain(text);
  });

  test("is named if a replacement gives something that is no event", async () => {
    const storage = memory();
    await written(storage, [{ type: "Sent", data: { by: "bike" } }]);
    await using store = await AggregateStore.builder(storage).aggregate(Broken).open();
    expect(await messageOf(store.get(Broken, "o-1").state())).toContain(
      "version 1, position 1: the replacement of Sent",
    );
  });
});

describe("a history that does not fit its contract", () => {
  const define = (history: unknown): unknown =>
    aggregate("a", { initial: 0, events: { New: data() }, commands: {}, history: history as never });
  test.each([
    ["no array", {}, "an array"],
    ["something else", [{ kind: "moved", from: "Old" }], "made by"],
    ["a name that is in use", [dropped("New")], "also an event"],
    ["a name twice", [dropped("Old"), renamed("Old", "New")], "twice"],
    ["a new name that is not there", [renamed("Old", "Newer")], "neither"],
    ["a circle", [renamed("A", "B"), renamed("B", "A")], "circle"],
    ["a bad name", [dropped("a b")], "identifier"],
  ])("%s", (_, history, text) => {
    expect(() => define(history)).toThrow(text);
  });

  test("may lead over several names", () => {
    expect(define([renamed("A", "B"), renamed("B", "New"), renamed("C", "D"), dropped("D")])).toBeDefined();
  });
});

test("a filter with a name that was given up says so", async () => {
  await using store = await AggregateStore.builder(memory()).aggregate(Second).open();
  await expect(collect(store.events({ aggregates: [Second], types: ["Sent" as never] }))).rejects.toThrow(
    "was renamed",
  );
  expect(() => store.subscribe({ aggregates: ["order"], types: ["Viewed" as never] })).toThrow("was dropped");
});
