import { AggregateStore, type AnyContract, type ReadEventsOptions } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { backends } from "../support/backends.ts";
import { collect } from "../support/collect.ts";
import { Counter, Meter } from "../support/counter.ts";
import { oneTo } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

describe.each(backends)("the events of a store $backend", ({ builder }) => {
  const open = () => builder().aggregate(Counter).aggregate(Meter).open();
  type Store = Awaited<ReturnType<typeof open>>;

  async function positions(store: Store, options: ReadEventsOptions<AnyContract | string>): Promise<number[]> {
    return (await collect(store.events(options))).map(({ position }) => position);
  }

  test("can be read whole, in part, and in reverse, and end", async () => {
    await using store = await open();
    expect(await positions(store, {})).toEqual([]);
    expect(await positions(store, { reverse: true })).toEqual([]);
    for (const i of oneTo(5)) await store.dispatch(Counter.at(`a${i % 3}`).AddMany({ count: 60 }));
    const all = oneTo(300);
    expect(await positions(store, {})).toEqual(all);
    expect(await positions(store, { reverse: true })).toEqual(all.toReversed());
    for (const [from, to] of [
      [1, 1],
      [59, 62],
      [60, 61],
      [236, 237],
      [300, 300],
      [2, 299],
      [290, 1000],
      [301, 400],
      [7, 6],
    ] as const) {
      const part = all.filter((position) => position >= from && position <= to);
      expect(await positions(store, { from, to })).toEqual(part);
      expect(await positions(store, { from, to, reverse: true })).toEqual(part.toReversed());
      expect(await positions(store, { from, to, limit: 3 })).toEqual(part.slice(0, 3));
      expect(await positions(store, { from, to, limit: 3, reverse: true })).toEqual(part.toReversed().slice(0, 3));
    }
    expect(await positions(store, { limit: 0 })).toEqual([]);
    expect(await positions(store, { limit: Infinity, to: 2 })).toEqual([1, 2]);
  });

  test("can be selected by aggregate, type, instance and correlation id", async () => {
    await using store = await open();
    const c1 = { correlationId: "c1" };
    await store.dispatch(Counter.at("a").Add({ by: 1 }), c1);
    await store.dispatch(Counter.at("b").AddMany({ count: 2 }), { correlationId: "c2" });
    await store.dispatch(Meter.at("a").Measure({ watts: 5 }), c1);
    await store.dispatch(Counter.at("a").Add({ by: 1 }));
    await store.dispatch(Counter.at("c").Clear());
    expect(await positions(store, { aggregates: [Meter] })).toEqual([4]);
    expect(await positions(store, { aggregates: ["counter"] })).toEqual([1, 2, 3, 5, 6]);
    expect(await positions(store, { types: ["Added"] })).toEqual([1, 2, 3, 4, 5]);
    expect(await positions(store, { aggregates: [Meter, Counter], types: ["Cleared"] })).toEqual([6]);
    expect(await positions(store, { aggregates: [Counter], types: ["Added"] })).toEqual([1, 2, 3, 5]);
    expect(await positions(store, { aggregates: [Meter], types: ["Cleared"] })).toEqual([]);
    expect(await positions(store, { ids: ["a"] })).toEqual([1, 4, 5]);
    expect(await positions(store, { ids: ["a", "b"], aggregates: [Counter], types: ["Added"], reverse: true })).toEqual(
      [5, 3, 2, 1],
    );
    expect(await positions(store, { correlationId: "c1" })).toEqual([1, 4]);
    expect(await positions(store, { correlationId: "c1", ids: ["a"], limit: 1, reverse: true })).toEqual([4]);
    expect(await positions(store, { aggregates: [] })).toEqual([]);
    const [last] = await collect(store.events({ reverse: true, limit: 1 }));
    expect(last).toMatchObject({ aggregate: "counter", id: "c", type: "Cleared", position: 6 });
  });

  test("are those that are there when reading begins", async () => {
    await using store = await open();
    await store.dispatch(Counter.at("a").AddMany({ count: 3 }));
    const seen: number[] = [];
    for await (const { position } of store.events()) {
      seen.push(position);
      await store.dispatch(Counter.at("a").Add({ by: 1 }));
    }
    expect(seen).toEqual([1, 2, 3]);
    expect(await store.head()).toBe(6);
  });

  test("do not begin with a position or end with a limit that is none", async () => {
    await using store = await open();
    for (const options of [{ from: 0 }, { from: 1.5 }, { to: 0 }, { to: NaN }, { limit: -1 }, { limit: 0.5 }])
      expect(() => store.events(options)).toThrow(/events expected (from|to|limit) to be/);
  });

  test("end with the position that head gives", async () => {
    await using store = await open();
    expect(await store.head()).toBe(0);
    await store.dispatch(Counter.at("a").AddMany({ count: 7 }));
    expect(await store.head()).toBe(7);
    await store.close();
    await expect(store.head()).rejects.toMatchObject({ code: "STORE_CLOSED" });
    expect(() => store.events()).toThrow(/closed/);
  });
});

test("a store sees the events of another one in the same directory", async () => {
  const directory = temporaryDirectory();
  await using first = await AggregateStore.builder(directory).aggregate(Counter).open();
  await using second = await AggregateStore.builder(directory).aggregate(Meter).open();
  await first.dispatch(Counter.at("a").Add({ by: 2 }));
  expect(await second.head()).toBe(1);
  // Of an aggregate that is not registered.
  expect(await collect(second.events({ reverse: true }))).toMatchObject([{ aggregate: "counter", data: { by: 2 } }]);
});
