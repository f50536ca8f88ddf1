import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { aggregate, AggregateStore, data, memory, projection } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { temporaryDirectory } from "../support/temporary-directory.ts";

/* oxlint-disable no-explicit-any, no-unsafe-assignment, no-unsafe-argument, no-unsafe-return, no-unsafe-member-access -- states of any type */

class Cart {
  items = 1;
  get double(): number {
    return this.items * 2;
  }
}

function nested(depth: number): object {
  let state: object = { n: 0 };
  for (let level = 0; level < depth; level++) state = { state };
  return state;
}

function cycle(n: number): object {
  const state: { n: number; self?: object } = { n };
  state.self = state;
  return state;
}

const bare = (n: number): object => Object.assign(Object.create(null), { n });

/** What to compare: a state itself may be nested too deeply for that. */
const CASES: readonly [name: string, initial: unknown, next: (state: any) => unknown, seen: (state: any) => unknown][] =
  [
    ["a bigint", { n: 1n }, ({ n }) => ({ n: n * 2n }), ({ n }) => n],
    ["a cycle", () => cycle(0), ({ n }) => cycle(n + 1), (s) => [s.n, s.self === s]],
    ["15,000 levels", () => nested(15_000), () => nested(15_000), (s) => typeof s.state.state],
    ["undefined properties", { a: undefined, n: 0 }, ({ n }) => ({ a: undefined, n: n + 1 }), (s) => [s.n, "a" in s]],
    ["undefined", () => undefined, () => undefined, (s) => s],
    ["a map", () => new Map([["n", 0]]), (s) => new Map([["n", s.get("n") + 1]]), (s) => s.get("n")],
    ["a date", new Date(0), (s) => new Date(s.getTime() + 1), (s) => s.getTime()],
    ["a class", () => new Cart(), (s) => Object.assign(new Cart(), { items: s.items + 1 }), (s) => s.double],
    ["no prototype", () => bare(0), ({ n }) => bare(n + 1), (s) => [s.n, "toString" in s]],
    ["-0", { n: 0 }, () => ({ n: -0 }), (s) => Object.is(s.n, -0)],
    ["NaN", { n: 0 }, () => ({ n: Number.NaN }), (s) => Number.isNaN(s.n)],
  ];

describe.each([
  { backend: "on disk", storage: () => temporaryDirectory() },
  { backend: "in memory", storage: () => memory() },
])("a state with $backend", ({ storage }) => {
  test.each(CASES)(
    "%s works, is the same after a restart, and is reported once as not cached",
    async (_, initial, next, seen) => {
      const Thing = aggregate("thing", { initial, events: { E: data() }, commands: { Do: data() } } as any).define({
        snapshotEvery: 2,
        handle: { Do: ({ emit }: any) => emit.E() },
        apply: { E: next },
      } as any) as any;
      const View = projection("view", initial).on(Thing, { E: (state: unknown) => next(state) } as any) as any;
      const place = storage();
      const told: { kind: string; name: string }[] = [];
      const listener = (message: unknown): void => void told.push(message as never);
      subscribe("eventfold-es:uncached-state", listener);
      const results: unknown[] = [];
      for (let run = 0; run < 2; run++) {
        const store = (await AggregateStore.builder(place).aggregate(Thing).projection(View).open()) as any;
        const thing = store.get(Thing, "a");
        if (run === 0) for (let i = 0; i < 6; i++) await thing.execute({ type: "Do" });
        for (const state of [await thing.state(), await thing.state({ version: 6 }), await store.projection(View)])
          results.push(seen(state));
        await store.close();
      }
      unsubscribe("eventfold-es:uncached-state", listener);
      for (const result of results) expect(result).toEqual(results[0]);
      expect(told.filter(({ kind }) => kind === "snapshots")).toHaveLength(1);
      expect(told.filter(({ kind }) => kind === "projection").length).toBeGreaterThan(0);
    },
  );

  test("one object in two places of a projection stays one object after a restart", async () => {
    const Thing = aggregate("thing", { initial: 0, events: { E: data() }, commands: { Do: data() } }).define({
      handle: { Do: ({ emit }) => emit.E() },
      apply: { E: (n) => n + 1 },
    });
    const View = projection("view", () => ({}) as { a?: { n: number }; b?: { n: number } }).on(Thing, {
      E: (state) => {
        state.a ??= state.b ??= { n: 0 };
        state.a.n++;
      },
    });
    const place = storage();
    for (let run = 1; run <= 3; run++) {
      await using store = await AggregateStore.builder(place).aggregate(Thing).projection(View).open();
      await store.get(Thing, "a").execute({ type: "Do" });
      expect(await store.projection(View)).toEqual({ a: { n: run }, b: { n: run } });
    }
  });
});

describe("an initial value that cannot be copied is refused when it is defined", () => {
  test.each<[string, unknown]>([
    ["a function in it", { f: () => 1 }],
    ["an instance of a class", new Cart()],
    ["an instance in an array", [{ cart: new Cart() }]],
    ["an instance in a map", new Map([["cart", new Cart()]])],
    ["a symbol", { s: Symbol("x") }],
    ["a getter", { get n() { return 1; } }], // prettier-ignore
    ["an object without a prototype", bare(0)],
    ["a promise", Promise.resolve(1)],
    ["a weak map", new WeakMap()],
  ])("%s", (_, initial) => {
    const refused = expect.objectContaining({ code: "INVALID_DEFINITION" }) as Error;
    expect(() => aggregate("thing", { initial, events: {}, commands: {} })).toThrow(refused);
    expect(() => projection("view", initial)).toThrow(refused);
  });
});
