import { aggregate, AggregateStore, data } from "eventfold-es";
import fc from "fast-check";
import { expect, test } from "vitest";
import { collect } from "../support/collect.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const Box = aggregate("box", {
  initial: { last: null as unknown },
  events: { Filled: data<{ value: unknown }>() },
  commands: { Fill: data<{ values: unknown[] }>() },
}).define({
  handle: { Fill: ({ data, emit }) => data.values.map((value) => emit.Filled({ value })) },
  apply: { Filled: (_, { value }) => ({ last: value }) },
});

const key = fc.oneof(
  fc.string({ unit: "binary", maxLength: 6 }),
  fc.constantFrom("ts", "data", "type", "pos", "ms", "v", "meta", "value", "toString", "constructor", ',"ts":'),
);
const { json } = fc.letrec((tie) => ({
  json: fc.oneof(
    { maxDepth: 4 },
    fc.oneof(
      key,
      fc.integer(),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.constantFrom(null, true, "\n\u2028"),
    ),
    fc.array(tie("json"), { maxLength: 4 }),
    fc.dictionary(
      key.filter((name) => name !== "__proto__"),
      tie("json"),
      { maxKeys: 4 },
    ),
  ),
}));

/** A value after JSON: -0 is 0, objects have the usual prototype. */
function throughJson<T>(value: T): T {
  return JSON.parse(JSON.stringify(value)) as T;
}

/** Compared as text: a key "constructor" misleads comparing matchers. */
function textOf(value: unknown): string {
  return JSON.stringify(value);
}

test("any JSON comes back, from memory and from disk", async () => {
  const directory = temporaryDirectory();
  const written = new Map<string, unknown[]>();
  {
    await using store = await AggregateStore.builder(directory).aggregate(Box).open();
    await fc.assert(
      fc.asyncProperty(fc.array(json, { minLength: 1, maxLength: 5 }), async (values) => {
        const id = `box-${written.size}`;
        const expected = throughJson(values);
        const { state } = await store.get(Box, id).execute({ type: "Fill", data: { values } });
        written.set(id, expected);
        expect(textOf(state)).toBe(textOf({ last: expected.at(-1) }));
      }),
      { numRuns: 150 },
    );
  }
  await using store = await AggregateStore.builder(directory).aggregate(Box).open();
  for (const [id, values] of written) {
    const events = await collect(store.get(Box, id).events());
    expect(textOf(events.map((event) => event.data.value))).toBe(textOf(values));
    expect(textOf(await store.get(Box, id).state())).toBe(textOf({ last: values.at(-1) }));
  }
});

test("any context comes back", async () => {
  const directory = temporaryDirectory();
  const text = fc.string({ unit: "binary", maxLength: 10 });
  const reserved = new Set(["correlation_id", "source_device", "causation_id", "idempotency_key", "__proto__"]);
  const context = fc.record(
    {
      actor: text,
      correlationId: text,
      causationId: text,
      sourceDevice: text,
      metadata: fc.dictionary(
        key.filter((name) => !reserved.has(name)),
        json.map(throughJson),
        { maxKeys: 3 },
      ),
    },
    { requiredKeys: [] },
  );
  const written: { readonly metadata?: object }[] = [];
  {
    await using store = await AggregateStore.builder(directory).aggregate(Box).open();
    await fc.assert(
      fc.asyncProperty(context, async (given) => {
        await store.get(Box, "b").execute({ type: "Fill", data: { values: [1] } }, given);
        written.push(throughJson(given));
      }),
      { numRuns: 100 },
    );
  }
  await using store = await AggregateStore.open(directory);
  const events = await collect(store.readEvents("box", "b"));
  const read = events.map(({ actor, correlationId, causationId, sourceDevice, metadata }) => ({
    ...{ actor, correlationId, causationId, sourceDevice, metadata },
  }));
  expect(read).toEqual(written.map((given) => ({ ...given, metadata: { ...given.metadata } })));
});

test("any text is an id, and no two share an instance", async () => {
  const directory = temporaryDirectory();
  const id = fc.oneof(
    fc.string({ unit: "binary", minLength: 1, maxLength: 15 }),
    fc.string({ unit: fc.constantFrom(..."%/.\\aA2Fé ".split(""), "e\u0301"), minLength: 1, maxLength: 6 }),
    fc.constantFrom("..", ".", "con", "%2E", "a/b", "%a%2Fb", "../../x", "/etc/passwd", "C:\\x", "\u0000"),
  );
  const ids = fc.sample(fc.uniqueArray(id, { minLength: 150, maxLength: 200 }), { numRuns: 1, seed: 42 })[0] ?? [];
  const byBytes = ids.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  {
    await using store = await AggregateStore.builder(directory).aggregate(Box).open();
    await Promise.all(ids.map((each) => store.get(Box, each).execute({ type: "Fill", data: { values: [each] } })));
    expect(await store.list(Box)).toEqual(byBytes);
  }
  await using store = await AggregateStore.builder(directory).aggregate(Box).open();
  expect(await store.list(Box)).toEqual(byBytes);
  for (const each of ids) expect(await store.get(Box, each).state()).toEqual({ last: each });
});
