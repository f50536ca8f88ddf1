import { aggregate, data } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { backends } from "../support/backends.ts";
import { collect } from "../support/collect.ts";
import { oneTo } from "../support/store-files.ts";

const Note = aggregate("note", {
  initial: [] as readonly unknown[],
  events: { Written: data<unknown>() },
  commands: { Write: data<unknown>(), Emit: data<number>() },
}).define({
  handle: {
    Write: ({ data: text, emit }) => emit.Written(text),
    Emit: ({ data: n, emit }) => emit.Written({ value: notJson[n]?.[1]() }),
  },
  apply: { Written: (all, text) => [...all, text] },
});

function cycle(): object {
  const self: Record<string, unknown> = {};
  self["self"] = self;
  return self;
}

function nested(depth: number): unknown {
  let value: unknown = 1;
  for (let i = 0; i < depth; i++) value = [value];
  return value;
}

const notJson: readonly (readonly [string, () => unknown])[] = [
  ["a date", () => new Date(0)],
  ["a map", () => new Map([[1, 2]])],
  ["a set", () => new Set([1])],
  ["a bigint", () => 1n],
  ["a function", () => () => 1],
  ["a symbol", () => Symbol("s")],
  ["NaN", () => NaN],
  ["Infinity", () => [1, Infinity]],
  ["an instance of a class", () => new (class Money {})()],
  ["bytes", () => new Uint8Array(2)],
  ["undefined in an array", () => [undefined]],
  ["a hole in an array", () => Array(1)],
  ["itself", cycle],
  ["half of a surrogate pair", () => "a\ud800"],
  ["half of a surrogate pair in a key", () => ({ "\udc00": 1 })],
  ["a key __proto__", () => JSON.parse('{"__proto__":{"polluted":true}}') as unknown],
  ["more nesting than the Rust crate reads", () => nested(127)],
];

describe.each(backends)("bad arguments $backend", ({ builder }) => {
  function open() {
    return builder().aggregate(Account).aggregate(Note).open();
  }

  test.each(notJson)("a payload that is or has %s is refused, and nothing is written", async (name, value) => {
    await using store = await open();
    const note = store.get(Note, "n");
    const code = "INVALID_PAYLOAD";
    await expect(note.execute({ type: "Write", data: { value: value() } })).rejects.toMatchObject({ code });
    await expect(note.try({ type: "Write", data: value() })).rejects.toMatchObject({ code });
    await expect(store.dispatch(Note.at("n").Write([value()]))).rejects.toMatchObject({ code });
    const n = notJson.findIndex(([other]) => other === name);
    await expect(note.execute({ type: "Emit", data: n })).rejects.toMatchObject({ code });
    expect(await store.listStreams()).toEqual([]);
    expect(await note.state()).toEqual([]);
    expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined();
  });

  test("every JSON value comes back unchanged", async () => {
    await using store = await open();
    const note = store.get(Note, "n");
    const values = [null, true, 0, -1.5, 1e300, "", '\u0000\u2028\n"\\ é 🦀', [], {}, [[[]]], { "": { a: [null] } }];
    const more = [
      ',"ts":1',
      { ts: 1, id: "x", data: null, type: "Other", pos: 7 },
      { a: '"},"ts":5,"pos":9}' },
      nested(100),
    ];
    for (const value of [...values, ...more]) await note.execute({ type: "Write", data: value });
    const events = await collect(note.events());
    // A payload of null counts as no payload.
    expect(events.map((event) => event.data ?? null)).toEqual([...values, ...more]);
    expect((await note.state()).map((value) => value ?? null)).toEqual([...values, ...more]);
    expect(events.map(({ position }) => position)).toEqual(oneTo(15));
  });

  test("undefined properties are omitted, as JSON does", async () => {
    await using store = await open();
    const { events } = await store.get(Note, "n").execute({ type: "Write", data: { a: undefined, b: 1 } });
    expect(events[0]?.data).toStrictEqual({ b: 1 });
  });

  test("unknown commands, unknown aggregates and values that are neither are refused", async () => {
    await using store = await open();
    const ada = store.get(Account, "ada");
    await expect(ada.execute({ type: "Rob" } as never)).rejects.toMatchObject({ code: "UNKNOWN_COMMAND" });
    for (const name of ["toString", "__proto__", "constructor"])
      await expect(ada.execute({ type: name } as never)).rejects.toMatchObject({ code: "UNKNOWN_COMMAND" });
    for (const command of [undefined, null, "Open", 7, {}, { type: 7 }, []])
      await expect(ada.execute(command as never)).rejects.toMatchObject({ code: "INVALID_COMMAND" });
    for (const type of ["ghost", "toString", "__proto__", "../x"]) {
      const envelope = { aggregate: type, id: "g", command: { type: "Open" } };
      await expect(store.dispatch(envelope as never)).rejects.toMatchObject({ code: "UNKNOWN_AGGREGATE" });
      await expect(store.dispatchAll([envelope, envelope] as never)).rejects.toMatchObject({
        code: "UNKNOWN_AGGREGATE",
      });
    }
    for (const envelope of [
      undefined,
      null,
      {},
      { aggregate: "account", id: "a" },
      { aggregate: "account", command: {} },
    ])
      await expect(store.dispatch(envelope as never)).rejects.toMatchObject({ code: "INVALID_COMMAND" });
    expect(await store.listStreams()).toEqual([]);
  });

  test("an event that the contract does not declare is refused", async () => {
    const Sloppy = aggregate("sloppy", {
      initial: 0,
      events: { Done: data() },
      commands: { Do: data<unknown>() },
    }).define({
      handle: { Do: ({ data: result }) => result as never },
      apply: { Done: (n) => n + 1 },
    });
    await using store = await builder().aggregate(Sloppy).open();
    const sloppy = store.get(Sloppy, "s");
    const attempt = (result: unknown) => sloppy.execute({ type: "Do", data: result });
    await expect(attempt({ type: "Other" })).rejects.toMatchObject({ code: "UNKNOWN_EVENT" });
    await expect(attempt([{ type: "Done" }, { type: "constructor" }])).rejects.toMatchObject({ code: "UNKNOWN_EVENT" });
    for (const result of ["Done", 1, true, {}, [null], [[{ type: "Done" }]]])
      await expect(attempt(result)).rejects.toMatchObject({ code: "INVALID_DEFINITION" });
    expect(await attempt([{ type: "Done" }])).toMatchObject({ version: 1 });
  });

  test.each([
    ["an id that is not text", 7],
    ["no id", undefined],
    ["an empty id", ""],
    ["half of a surrogate pair", "\ud800"],
  ])("%s is refused", async (_, id) => {
    await using store = await open();
    expect(() => store.get(Account, id as string)).toThrow(expect.objectContaining({ code: "INVALID_ID" }));
  });

  test("a context that cannot be stored is refused", async () => {
    await using store = await open();
    const ada = store.get(Account, "ada");
    const bad = [
      { actor: 7 },
      { correlationId: null },
      { idempotencyKey: "" },
      { actor: "\ud800" },
      { metadata: [] },
      { metadata: { when: new Date() } },
      { metadata: { n: NaN } },
      { metadata: { correlation_id: "smuggled" } },
      { metadata: "text" },
      null,
    ];
    for (const context of bad) {
      await expect(ada.execute(Account.commands.Open({ owner: "A" }), context as never)).rejects.toMatchObject({
        code: "INVALID_CONTEXT",
      });
    }
    expect(await ada.state()).toEqual({ open: false, balance: 0 });
  });

  test("values that are no version or time are refused", async () => {
    await using store = await open();
    const ada = store.get(Account, "ada");
    for (const version of [-1, 0.5, NaN, Infinity])
      await expect(ada.state({ version })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    for (const at of [NaN, new Date(NaN), "2026-01-01", null, 1n] as number[])
      await expect(ada.state({ at })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    for (const from of [0, -1, 1.5]) {
      await expect(collect(ada.events({ from }))).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
      await expect(collect(store.readEvents("account", "a", { from }))).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
      });
    }
  });
});

describe.each(backends)("a closed store $backend", ({ builder }) => {
  test("refuses every call, and may be closed again", async () => {
    const store = await builder().aggregate(Account).open();
    const ada = store.get(Account, "ada");
    await ada.execute(Account.commands.Open({ owner: "Ada" }));
    await store.close();
    await store.close();
    const code = "STORE_CLOSED";
    expect(() => store.get(Account, "bob")).toThrow(expect.objectContaining({ code }));
    for (const attempt of [
      () => ada.execute(Account.commands.Close()),
      () => ada.try(Account.commands.Close()),
      () => ada.state(),
      () => ada.state({ version: 1 }),
      () => collect(ada.events()),
      () => collect(store.readEvents("account", "ada")),
      () => store.list(Account),
      () => store.listStreams(),
      () => store.dispatch(Account.at("ada").Close()),
      () => store.dispatchAll([Account.at("ada").Close(), Account.at("bob").Close()]),
    ])
      await expect(attempt()).rejects.toMatchObject({ code });
  });

  test("finishes the commands that were given before it closed", async () => {
    const store = await builder().aggregate(Account).open();
    const commands = oneTo(20).flatMap((n) => [
      store.get(Account, `a-${n}`).execute(Account.commands.Open({ owner: "Ada" })),
      store.get(Account, `a-${n}`).execute(Account.commands.Deposit({ amount: 1 })),
    ]);
    const both = store.dispatchAll([Account.at("x").Open({ owner: "X" }), Account.at("y").Open({ owner: "Y" })]);
    const outcomes = Promise.allSettled<unknown>([...commands, both]);
    await store.close();
    expect((await outcomes).filter(({ status }) => status === "rejected")).toEqual([]);
  });
});
