import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { aggregate, AggregateStore, type AnyContract, data, dropped, memory, renamed, replaced } from "eventfold-es";
import {
  auditStore,
  checkEventLock,
  compareLocks,
  describeEvents,
  type EventLock,
  writeEventLock,
} from "eventfold-es/schema";
import { type } from "arktype";
import ts from "typescript";
import * as v from "valibot";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
/** Inside the project, so that the compiler finds the package. */
let directory: string;
beforeAll(() => (directory = mkdtempSync(join(ROOT, "node_modules/.models-"))));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

interface Case {
  readonly name: string;
  /** The contract's events, and perhaps its history, before and after, as TypeScript. */
  readonly before: string;
  readonly after: string;
  /** The kinds of differences, and a part of the message of the first. */
  readonly kinds: readonly string[];
  readonly says?: string;
}

const ORDER = "{ events: { Placed: data<{ item: string; note?: string; lines: { amount: number }[] }>() } }";
const order = (payload: string, more = ""): string => `{ events: { Placed: ${payload}${more} } }`;
const OLD = "data<{ item: string; note?: string; lines: { amount: number }[] }>()";

const CASES: readonly Case[] = [
  { name: "nothing", before: ORDER, after: ORDER, kinds: [] },
  {
    name: "another order of properties, and names for types",
    before: ORDER,
    after: order("data<{ lines: Array<Line>; note?: string | undefined; readonly item: string }>()"),
    kinds: [],
  },
  {
    name: "a field removed",
    before: ORDER,
    after: order("data<{ item: string; lines: { amount: number }[] }>()"),
    kinds: ["shape-changed"],
    says: "note was removed (it was string)",
  },
  {
    name: "a field made optional",
    before: ORDER,
    after: order("data<{ item?: string; note?: string; lines: { amount: number }[] }>()"),
    kinds: ["shape-changed"],
    says: "item was required and is optional",
  },
  {
    name: "a field made required",
    before: ORDER,
    after: order("data<{ item: string; note: string; lines: { amount: number }[] }>()"),
    kinds: ["shape-changed"],
    says: "note was optional and is required",
  },
  {
    name: "a type changed, far inside",
    before: ORDER,
    after: order("data<{ item: string; note?: string; lines: { amount: string }[] }>()"),
    kinds: ["shape-changed"],
    says: "lines.[].amount was number and is string",
  },
  {
    name: "a field added",
    before: ORDER,
    after: order("data<{ item: string; note?: string; lines: { amount: number }[]; price: number }>()"),
    kinds: ["shape-changed"],
    says: "price was added (number)",
  },
  {
    name: "any of these, with a step",
    before: ORDER,
    after: order(OLD, ".to<{ items: string[] }>(({ item }) => ({ items: [item] }))"),
    kinds: [],
  },
  {
    name: "a step that is gone",
    before: order(OLD, ".to<{ items: string[] }>(({ item }) => ({ items: [item] }))"),
    after: order("data<{ items: string[] }>()"),
    kinds: ["step-removed"],
    says: "expected at least 1 steps, found 0",
  },
  {
    name: "an event removed",
    before: "{ events: { Placed: data<{ a: 1 }>(), Sent: data() } }",
    after: "{ events: { Placed: data<{ a: 1 }>() } }",
    kinds: ["event-vanished"],
    says: 'dropped("Sent")',
  },
  {
    name: "an event removed that the history drops",
    before: "{ events: { Placed: data<{ a: 1 }>(), Sent: data() } }",
    after: '{ events: { Placed: data<{ a: 1 }>() }, history: [dropped("Sent")] }',
    kinds: [],
  },
  {
    name: "an event that is renamed and gets a step",
    before: "{ events: { Sent: data<{ by: string }>() } }",
    after:
      '{ events: { Shipped: data<{ by: string }>().to<{ carrier: string }>(({ by }) => ({ carrier: by })) }, history: [renamed("Sent", "Shipped")] }',
    kinds: [],
  },
  {
    name: "an event that is renamed to one of another shape",
    before: "{ events: { Sent: data<{ by: string }>() } }",
    after: '{ events: { Shipped: data<{ carrier: string }>() }, history: [renamed("Sent", "Shipped")] }',
    kinds: ["shape-changed"],
    says: "by was removed",
  },
  {
    name: "an event that is replaced, with its old shape",
    before: "{ events: { Sent: data<{ by: string }>() } }",
    after:
      '{ events: { Shipped: data<{ carrier: string }>() }, history: [replaced("Sent", data<{ by: string }>(), ({ by }) => ({ type: "Shipped", data: { carrier: by } }))] }',
    kinds: [],
  },
  {
    name: "an event that is replaced, with another shape",
    before: "{ events: { Sent: data<{ by: string }>() } }",
    after:
      '{ events: { Shipped: data<{ carrier: string }>() }, history: [replaced("Sent", data<{ who: string }>(), ({ who }) => ({ type: "Shipped", data: { carrier: who } }))] }',
    kinds: ["shape-changed"],
  },
  {
    name: "a name that was given up and is used again",
    before: '{ events: { Placed: data() }, history: [dropped("Sent")] }',
    after: "{ events: { Placed: data(), Sent: data<{ letter: string }>() } }",
    kinds: ["name-reused"],
    says: "given up this name (dropped)",
  },
  {
    name: "a history that is gone",
    before: '{ events: { Placed: data() }, history: [dropped("Sent"), renamed("Put", "Placed")] }',
    after: "{ events: { Placed: data() } }",
    kinds: ["history-vanished", "history-vanished"],
  },
  {
    name: "a schema's field removed",
    before: "{ events: { Placed: z.object({ item: z.string(), note: z.string().optional() }) } }",
    after: "{ events: { Placed: z.object({ item: z.string() }) } }",
    kinds: ["shape-changed"],
    says: "note was removed",
  },
  {
    name: "a schema that is another step",
    before: "{ events: { Placed: z.object({ item: z.string() }) } }",
    after:
      "{ events: { Placed: data(z.object({ item: z.string() })).to(z.object({ items: z.array(z.string()) }), ({ item }) => ({ items: [item] })) } }",
    kinds: [],
  },
  {
    name: "a field of another library made required",
    before: '{ events: { Placed: type({ item: "string", "note?": "string" }) } }',
    after: '{ events: { Placed: type({ item: "string", note: "string" }) } }',
    kinds: ["shape-changed"],
    says: "note was optional and is required",
  },
  {
    name: "a field of a library without JSON Schema",
    before: "{ events: { Placed: v.object({ item: v.string() }) } }",
    after: "{ events: { Placed: v.object({ item: v.number() }) } }",
    kinds: ["shape-changed"],
    says: "item was string and is number",
  },
];

/** The contract that an expression declares. */
function contractOf(name: string, expression: string): AnyContract {
  const code = ts.transpile(`const parts = ${expression};`, { target: ts.ScriptTarget.ES2022 });
  const scope = { data, dropped, renamed, replaced, z, v, type };
  // oxlint-disable-next-line typescript/no-implied-eval -- the same text is a source file for the compiler
  const parts = new Function(...Object.keys(scope), `${code}; return parts;`)(...Object.values(scope)) as object;
  return aggregate(name, { initial: 0, commands: {}, events: {}, ...parts });
}

describe("the lock of a model's events", () => {
  let lock: EventLock;
  const lockOf = (name: string): EventLock => ({ ...lock, aggregates: { order: lock.aggregates[name] as never } });

  beforeAll(async () => {
    const contracts = CASES.flatMap(({ before, after }, index) => [
      [`b${index}`, before] as const,
      [`a${index}`, after] as const,
    ]);
    const source = [
      'import { aggregate as define, data, dropped, renamed, replaced } from "eventfold-es";',
      'import { type } from "arktype";',
      'import * as v from "valibot";',
      'import { z } from "zod";',
      "interface Line { amount: number }",
      ...contracts.map(([name, text]) => {
        const sections = text.replace(/^\{/, "{ initial: 0, commands: {},");
        return `export const ${name} = define("${name}", ${sections});`;
      }),
    ];
    const file = join(directory, "model.ts");
    writeFileSync(file, source.join("\n"));
    lock = await describeEvents(
      contracts.map(([name, text]) => contractOf(name, text)),
      { sources: [file] },
    );
  }, 120_000);

  test.each(CASES.map((each, index) => ({ ...each, index })))("compares $name", ({ index, kinds, says = "" }) => {
    const found = compareLocks(lockOf(`b${index}`), lockOf(`a${index}`));
    expect(found.map(({ kind }) => kind)).toEqual(kinds);
    expect(found[0]?.message ?? "").toContain(says);
  });

  test("has the text of each type, and JSON Schema", () => {
    expect(lock.aggregates["b0"]).toEqual({
      events: { Placed: { shapes: ["{ item: string; lines: { amount: number }[]; note?: string }"] } },
      history: {},
    });
    const index = CASES.findIndex(({ name }) => name === "an event that is replaced, with its old shape");
    expect(lock.aggregates[`a${index}`]).toEqual({
      events: { Shipped: { shapes: ["{ carrier: string }"] } },
      history: { Sent: { replaced: true, shapes: ["{ by: string }"] } },
    });
    const zod = CASES.findIndex(({ name }) => name === "a schema's field removed");
    expect(lock.aggregates[`a${zod}`]?.events["Placed"]?.shapes).toMatchObject([
      { type: "object", properties: { item: { type: "string" } }, required: ["item"] },
    ]);
  });
});

describe("the lock file", () => {
  const path = (): string => join(temporaryDirectory(), "events.lock.json");
  const before = contractOf("order", "{ events: { Placed: z.object({ item: z.string() }), Sent: data() } }");
  const after = contractOf("order", "{ events: { Placed: z.object({ item: z.number() }) } }");
  const fixed = contractOf(
    "order",
    '{ events: { Placed: data(z.object({ item: z.string() })).to(z.object({ item: z.number() }), ({ item }) => ({ item: Number(item) })) }, history: [dropped("Sent")] }',
  );

  test("is written, checked, and replaced by a model that fits it", async () => {
    const file = path();
    await writeEventLock(file, [before]);
    expect(JSON.parse(readFileSync(file, "utf8"))).toMatchObject({ "eventfold-es": "events", format: 1 });
    expect(await checkEventLock(file, [before])).toEqual([]);
    expect((await checkEventLock(file, [after])).map(({ event, kind }) => [event, kind])).toEqual([
      ["Placed", "shape-changed"],
      ["Sent", "event-vanished"],
    ]);
    expect(await checkEventLock(file, [])).toMatchObject([{ kind: "aggregate-vanished", aggregate: "order" }]);
    await expect(writeEventLock(file, [after])).rejects.toMatchObject({ code: "MODEL_CHANGED" });
    expect(await checkEventLock(file, [before])).toEqual([]);
    expect(await checkEventLock(file, [fixed])).toEqual([]);
    await writeEventLock(file, [fixed]);
    expect((await checkEventLock(file, [before])).map(({ kind }) => kind)).toEqual(["step-removed", "name-reused"]);
    await writeEventLock(file, [after], { force: true });
    expect(await checkEventLock(file, [after])).toEqual([]);
  });

  test("says so if it is missing or something else", async () => {
    const file = path();
    await expect(checkEventLock(file, [before])).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    writeFileSync(file, "{}");
    await expect(checkEventLock(file, [before])).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(writeEventLock(file, [before])).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  test("a shape that was known and is not any more is reported", async () => {
    const file = path();
    const source = join(directory, "one.ts");
    writeFileSync(
      source,
      'import { aggregate, data } from "eventfold-es";\nexport const One = aggregate("one", { initial: 0, commands: {}, events: { A: data<{ a: 1 }>() } });',
    );
    const one = contractOf("one", "{ events: { A: data() } }");
    await writeEventLock(file, [one], { sources: [source] });
    expect(await checkEventLock(file, [one], { sources: [source] })).toEqual([]);
    expect(await checkEventLock(file, [one])).toMatchObject([{ kind: "shape-unknown", event: "A" }]);
  });
});

test("an audit finds the stored events that a model cannot read", async () => {
  const Before = aggregate("order", {
    initial: 0,
    events: { Placed: data<{ item: string }>(), Sent: data(), Tried: data<number>().to<number>((n) => n) },
    commands: { Do: data<{ type: string; data?: unknown }[]>() },
  }).define({
    handle: { Do: ({ data: events }) => events as never },
    apply: { Placed: (n) => n, Sent: (n) => n, Tried: (n) => n },
  });
  await using store = await AggregateStore.builder(memory()).aggregate(Before).open();
  const placed = (item: string) => ({ type: "Placed", data: { item } });
  await store.dispatch(
    Before.at("o").Do([placed("tea"), { type: "Sent" }, { type: "Tried", data: 1 }, { type: "Sent" }, placed("")]),
  );
  const After = aggregate("order", {
    initial: 0,
    events: { Placed: z.object({ item: z.string().min(1) }), Tried: data<number>() },
    commands: {},
  });
  await store.dispatch(Before.at("gone").Do([placed("tea")]));
  await store.delete(Before, "gone");
  expect(await auditStore(store, [Before])).toEqual([]);
  expect(await auditStore(store, [After])).toMatchObject([
    { aggregate: "order", event: "Sent", kind: "unknown", count: 2, position: 2 },
    { aggregate: "order", event: "Tried", kind: "newer", count: 1, position: 3 },
    { aggregate: "order", event: "Placed", kind: "failed", count: 1, position: 5 },
  ]);
});
