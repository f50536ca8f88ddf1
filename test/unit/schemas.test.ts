import {
  aggregate,
  AggregateStore,
  data,
  isEventfoldError,
  memory,
  type Payload,
  type PayloadIssue,
  type StandardSchema,
  projection,
} from "eventfold-es";
import { type } from "arktype";
import * as v from "valibot";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { collect } from "../support/collect.ts";

/** The same payload in three libraries. */
const LIBRARIES = [
  ["zod", z.object({ name: z.string(), lines: z.array(z.object({ amount: z.number() })) })],
  ["valibot", v.object({ name: v.string(), lines: v.array(v.object({ amount: v.number() })) })],
  ["arktype", type({ name: "string", lines: type({ amount: "number" }).array() })],
] as const satisfies readonly (readonly [string, Payload])[];

const GOOD = { name: "n", lines: [{ amount: 1 }] };
const BAD = { name: 1, lines: [{ amount: 1 }, { amount: "2" }] };

async function issuesOf(
  code: "INVALID_COMMAND" | "INVALID_PAYLOAD",
  work: Promise<unknown>,
): Promise<readonly PayloadIssue[]> {
  const error: unknown = await work.then(
    () => new Error("expected an error"),
    (thrown: unknown) => thrown,
  );
  if (isEventfoldError(error, code)) return error.issues;
  throw error;
}

describe.each(LIBRARIES)("a schema of %s", (_, library) => {
  const schema = library as StandardSchema<object>;
  const Thing = aggregate("thing", {
    initial: { seen: [] as unknown[] },
    events: { Done: schema },
    commands: { Do: schema, Force: data<object>(), Refuse: data<object>() },
    rejections: { Refused: schema },
  }).define({
    handle: {
      Do: ({ data, emit }) => emit.Done(data),
      Force: ({ data, emit }) => emit.Done(data),
      Refuse: ({ data, reject }) => reject.Refused(data),
    },
    apply: { Done: ({ seen }, payload) => ({ seen: [...seen, payload] }) },
  });
  const paths = [["name"], ["lines", 1, "amount"]];

  test("refuses a command with the paths of all issues, by every way", async () => {
    await using store = await AggregateStore.builder(memory()).aggregate(Thing).open();
    const thing = store.get(Thing, "t");
    const bad = { type: "Do" as const, data: BAD };
    for (const work of [
      () => thing.execute(bad),
      () => thing.try(bad),
      () => store.dispatch({ aggregate: "thing", id: "t", command: bad }),
      () => store.dispatchAll([Thing.at("t").Do(GOOD), Thing.at("t").Do(BAD)]),
    ])
      expect((await issuesOf("INVALID_COMMAND", work())).map(({ path }) => path)).toEqual(paths);
    expect(await thing.state()).toEqual({ seen: [] });
  });

  test("refuses an event before it is written, and a rejection", async () => {
    await using store = await AggregateStore.builder(memory()).aggregate(Thing).open();
    const thing = store.get(Thing, "t");
    for (const work of [
      () => thing.execute({ type: "Force", data: BAD }),
      () => thing.execute({ type: "Refuse", data: BAD }),
      () => store.injectEvent(Thing, "t", { type: "Done", data: BAD }),
    ])
      expect((await issuesOf("INVALID_PAYLOAD", work())).map(({ path }) => path)).toEqual(paths);
    expect(await store.head()).toBe(0);
    expect(await thing.try({ type: "Refuse", data: GOOD })).toMatchObject({ ok: false, rejection: { data: GOOD } });
    expect((await thing.execute({ type: "Force", data: GOOD })).state).toEqual({ seen: [GOOD] });
  });
});

describe("what is read has the type that is declared", () => {
  const writing = (events: Record<string, Payload>) =>
    aggregate("thing", { initial: [] as unknown[], events, commands: { Do: data<unknown>() } }).define({
      handle: { Do: ({ data }) => data as never },
      apply: Object.fromEntries(
        Object.keys(events).map((name) => [name, (log: unknown[], payload: unknown) => [...log, payload]]),
      ),
    });
  const defaults = [
    ["zod", z.object({ cents: z.number(), currency: z.string().default("EUR") })],
    ["valibot", v.object({ cents: v.number(), currency: v.optional(v.string(), "EUR") })],
    ["arktype", type({ cents: "number", currency: "string = 'EUR'" })],
  ] as const;

  test.each(defaults)("a default that %s has got since", async (_, schema: Payload) => {
    const storage = memory();
    const Before = writing({ Paid: data<{ cents: number }>() });
    await using first = await AggregateStore.builder(storage).aggregate(Before).open();
    await first.dispatch(Before.at("t").Do({ type: "Paid", data: { cents: 1 } }));
    const After = writing({ Paid: schema });
    const Seen = projection("seen", () => [] as unknown[]).on(After, {
      Paid: ((s: unknown[], event: { data?: unknown }) => void s.push(event.data)) as never,
    });
    await using store = await AggregateStore.builder(storage).aggregate(After).projection(Seen).open();
    const full = { cents: 1, currency: "EUR" };
    expect(await store.get(After, "t").state()).toEqual([full]);
    expect(await store.projection(Seen)).toEqual([full]);
    expect((await collect(store.events())).map(({ data }) => data)).toEqual([full]);
    const { events } = await store.dispatch(After.at("t").Do({ type: "Paid", data: { cents: 2 } }));
    expect(events[0]?.data).toEqual({ cents: 2, currency: "EUR" });
  });

  test.each(defaults)("in each step: %s", async (_, schema: Payload) => {
    const storage = memory();
    const Before = writing({ Paid: data<{ cents: number }>() });
    await using first = await AggregateStore.builder(storage).aggregate(Before).open();
    await first.dispatch(Before.at("t").Do({ type: "Paid", data: { cents: 1 } }));
    const After = writing({
      Paid: data<{ cents: number }>()
        .to(schema, ({ cents }) => ({ cents: cents + 1 }))
        .to<{ text: string }>((old: { cents: number; currency: string }) => ({ text: `${old.cents} ${old.currency}` })),
    });
    await using store = await AggregateStore.builder(storage).aggregate(After).open();
    expect(await store.get(After, "t").state()).toEqual([{ text: "2 EUR" }]);
  });

  test("a payload that a schema refuses by now is an error that names the event", async () => {
    const storage = memory();
    const Before = writing({ Named: data<{ name: string }>() });
    await using first = await AggregateStore.builder(storage).aggregate(Before).open();
    await first.dispatch(Before.at("t").Do({ type: "Named", data: { name: "a" } }));
    const After = writing({ Named: z.object({ name: z.string().min(2) }) });
    await using store = await AggregateStore.builder(storage).aggregate(After).open();
    await expect(store.get(After, "t").state()).rejects.toMatchObject({
      code: "UPCAST_FAILED",
      message: expect.stringContaining(
        'thing "t", version 1, position 1: the payload does not fit shape 1 of Named: name: ',
      ),
      cause: { issues: [{ path: ["name"] }] },
    });
  });

  test("a payload that may be null, and one that is missing", async () => {
    const Thing = writing({ Set: z.number().nullable(), Cleared: z.undefined() });
    await using store = await AggregateStore.builder(memory()).aggregate(Thing).open();
    const { state } = await store.dispatch(
      Thing.at("t").Do([{ type: "Set", data: 1 }, { type: "Set", data: null }, { type: "Cleared" }]),
    );
    expect(state).toEqual([1, null, undefined]);
    expect(await store.get(Thing, "t").state({ version: 3 })).toEqual([1, null, undefined]);
  });

  test.each([
    ["zod", z.object({ n: z.string().transform(Number) })],
    ["valibot", v.object({ n: v.pipe(v.string(), v.transform(Number)) })],
    ["arktype", type({ n: "string.numeric.parse" })],
    ["that adds to its own result", z.object({ n: z.coerce.number().transform((n) => n + 1) })],
  ])(
    "an event's schema that cannot read its own result is refused before anything is written: %s",
    async (_, schema) => {
      const Thing = writing({ Added: schema });
      await using store = await AggregateStore.builder(memory()).aggregate(Thing).open();
      await expect(store.dispatch(Thing.at("t").Do({ type: "Added", data: { n: "1" } }))).rejects.toMatchObject({
        code: "INVALID_DEFINITION",
        message: expect.stringContaining("leaves its own result as it is"),
      });
      expect(await store.head()).toBe(0);
    },
  );
});

describe("asynchronous schemas are refused when they are defined", () => {
  const later = async (): Promise<boolean> => true;
  test.each<[string, Payload]>([
    ["zod, a check", z.object({ a: z.array(z.string().refine(later)) })],
    ["zod, a conversion", z.object({ a: z.string().transform(async (text) => text) }).optional()],
    ["valibot", v.objectAsync({ a: v.pipeAsync(v.string(), v.checkAsync(later)) })],
    ["another library", { "~standard": { version: 1, vendor: "own", validate: async (value) => ({ value }) } }],
    ["in a step", data<string>().to(z.string().refine(later), (text) => text)],
  ])("%s", (_, schema) => {
    const sections = { initial: 0, events: {}, commands: {}, rejections: {} };
    for (const section of ["events", "commands", "rejections"])
      expect(() => aggregate("thing", { ...sections, [section]: { X: schema } })).toThrow(
        `${section}.X has an asynchronous`,
      );
    expect(() => aggregate("thing", { ...sections, state: schema })).toThrow("state has an asynchronous");
  });

  test("something that is no schema is refused, too", () => {
    for (const schema of [undefined, null, {}, "text", { "~standard": {} }])
      expect(() => aggregate("thing", { initial: 0, events: { X: schema as never }, commands: {} })).toThrow(
        "events.X expected",
      );
  });
});

describe("a schema of the state", () => {
  const Purse = aggregate("purse", {
    initial: { coins: 0 },
    state: z.object({ coins: z.number().min(0) }),
    events: { Taken: data<{ coins: number }>(), Put: data<{ coins: number }>() },
    commands: { Take: data<{ coins: number }>(), Put: data<{ coins: number }>() },
  }).define({
    handle: { Take: ({ data, emit }) => emit.Taken(data), Put: ({ data, emit }) => emit.Put(data) },
    apply: {
      Taken: (s, { coins }) => ({ coins: s.coins - coins }),
      Put: (s, { coins }) => ({ coins: s.coins + coins }),
    },
  });

  test("refuses a command that leads to a bad state, and writes nothing", async () => {
    await using store = await AggregateStore.builder(memory()).aggregate(Purse).open();
    const purse = store.get(Purse, "p");
    await purse.execute(Purse.commands.Put({ coins: 2 }));
    await expect(purse.execute(Purse.commands.Take({ coins: 3 }))).rejects.toMatchObject({
      code: "INVALID_STATE",
      issues: [{ path: ["coins"] }],
    });
    expect(await store.head()).toBe(1);
    expect((await purse.execute(Purse.commands.Take({ coins: 1 }))).state).toEqual({ coins: 1 });
  });

  test("reports a bad state that old events lead to, and a bad initial state", async () => {
    const storage = memory();
    const Loose = aggregate("purse", { ...Purse.contract, state: data<{ coins: number }>() }).define(Purse.behaviour);
    await using before = await AggregateStore.builder(storage).aggregate(Loose).open();
    await before.dispatch(Loose.at("p").Take({ coins: 5 }));
    await using store = await AggregateStore.builder(storage).aggregate(Purse).open();
    await expect(store.get(Purse, "p").state()).rejects.toMatchObject({ code: "INVALID_STATE" });
    expect(() => aggregate("purse", { ...Purse.contract, initial: { coins: -1 } })).toThrow("the initial state");
  });
});
