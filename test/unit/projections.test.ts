import * as fs from "node:fs";
import * as path from "node:path";
import { aggregate, AggregateStore, data, memory, projection } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { backends } from "../support/backends.ts";
import { Counter, Meter } from "../support/counter.ts";
import { oneTo } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { pause } from "../support/until.ts";
import { totals } from "../support/totals.ts";

const add = (id: string, by = 1) => Counter.at(id).Add({ by });

describe.each(backends)("a projection $backend", ({ backend, builder }) => {
  test("may change its state or return a new one, with the same result", async () => {
    const { Totals } = totals();
    const Returned = projection("returned", { total: 0 }).on(Counter, {
      Added: (s, e) => ({ total: s.total + e.data.by }),
      Cleared: () => ({ total: 0 }),
    });
    const Scalar = projection("scalar", 0).on(Counter, { Added: (n, e) => n + e.data.by, Cleared: () => 0 });
    await using store = await builder()
      .aggregate(Counter)
      .projection(Totals)
      .projection(Returned)
      .projection(Scalar)
      .open();
    expect(await store.projection(Totals)).toEqual({ total: 0, count: 0, byId: {} });
    await store.dispatchAll([add("a", 1), add("b", 2), add("a", 3)]);
    expect(await store.projection(Totals)).toEqual({ total: 6, count: 3, byId: { a: 4, b: 2 } });
    expect(await store.projection(Returned)).toEqual({ total: 6 });
    await store.dispatch(Counter.at("a").Clear());
    expect(await store.projection(Returned)).toEqual({ total: 0 });
    // Zero is a state like any other: only `undefined` keeps the present state.
    expect(await store.projection(Scalar)).toBe(0);
  });

  test.each<[string, (state: { list: number[]; last?: unknown }, by: number) => unknown]>([
    ["a number", (s, by) => s.list.push(by)],
    ["a boolean", (s) => delete s.last],
    ["a text", (s, by) => (s.last = `${by}`)],
    ["a function", () => () => ({})],
  ])("whose state is an object does not become %s, the value of an arrow function", async (kind, change) => {
    const Arrow = projection("arrow", () => ({ list: [] as number[] })).on(Counter, {
      Added: (s, e) => change(s, e.data.by) as never,
    });
    await using store = await builder().aggregate(Counter).projection(Arrow).open();
    await store.dispatch(add("a", 1));
    const error: unknown = await store.projection(Arrow).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      code: "PROJECTION_FAILED",
      message: expect.stringMatching(
        new RegExp(`returned a ${kind === "a text" ? "string" : kind.slice(2)}`),
      ) as string,
    });
  });

  test("whose state begins as an object may be null, and whose state begins as a text may be an object", async () => {
    const Empty = projection("empty", { n: 1 } as { n: number } | null).on(Counter, { Added: () => null });
    const Union = projection("union", "idle" as string | { n: number }).on(Counter, {
      Added: (s) => (typeof s === "string" ? { n: 1 } : "idle"),
    });
    await using store = await builder().aggregate(Counter).projection(Empty).projection(Union).open();
    await store.dispatch(add("a", 1));
    expect(await store.projection(Empty)).toBeNull();
    expect(await store.projection(Union)).toEqual({ n: 1 });
    await store.dispatch(add("a", 1));
    expect(await store.projection(Union)).toBe("idle");
  });

  test("over several aggregates sees their events in the order of the store", async () => {
    const Order = projection("order", () => [] as string[])
      .on(Counter, { Added: (s, e) => void s.push(`${e.position} ${e.aggregate}/${e.id} ${e.data.by}`) })
      .on(Meter, { Added: (s, e) => void s.push(`${e.position} ${e.aggregate}/${e.id} ${e.data.watts}`) });
    await using store = await builder().aggregate(Counter).aggregate(Meter).projection(Order).open();
    const expected: string[] = [];
    for (const i of oneTo(30)) {
      const id = `z${i % 3}`;
      if (i % 2 === 0) await store.dispatch(add(id, i));
      else await store.dispatch(Meter.at(id).Measure({ watts: i }));
      expected.push(`${i} ${i % 2 === 0 ? "counter" : "meter"}/${id} ${i}`);
    }
    expect(await store.projection(Order)).toEqual(expected);
  });

  test("passes handlers the whole record of an event", async () => {
    const Records = projection("records", () => [] as unknown[]).on(Counter, { Added: (s, e) => void s.push(e) });
    await using store = await builder().aggregate(Counter).projection(Records).open();
    const context = { actor: "u-1", correlationId: "r-1", sourceDevice: "d-1", metadata: { zone: "eu" } };
    const { events } = await store.dispatch(add("a", 5), context);
    expect(await store.projection(Records)).toEqual(events);
    expect(events).toMatchObject([context]);
  });

  test("shows a write of this store at once, and any write with `after`", async () => {
    const { Totals } = totals();
    await using store = await builder().aggregate(Counter).projection(Totals).open();
    for (const i of oneTo(50)) {
      const { position } = await store.dispatch(add("a"));
      expect((await store.projection(Totals, { after: position })).total).toBe(i);
      expect((await store.projection(Totals)).total).toBe(i);
    }
  });

  test("waits for a future position, and gives up after `timeout`", async () => {
    const { Totals } = totals();
    await using store = await builder().aggregate(Counter).projection(Totals).open();
    await store.dispatch(add("a"));
    const waiting = store.projection(Totals, { after: 2 });
    await pause(30);
    await store.dispatch(add("a"));
    expect((await waiting).total).toBe(2);

    const started = performance.now();
    await expect(store.projection(Totals, { after: 3, timeout: 100 })).rejects.toMatchObject({
      code: "TIMEOUT",
      message: expect.stringMatching(/totals.*position 3.*position 2/),
    });
    expect(performance.now() - started).toBeGreaterThanOrEqual(99);
    expect(performance.now() - started).toBeLessThan(2000);
    expect((await store.projection(Totals, { after: 2, timeout: 0 })).total).toBe(2);
  });

  test("that many callers read at once folds each event once", async () => {
    const { Totals, seen } = totals();
    await using store = await builder().aggregate(Counter).projection(Totals).open();
    const work = oneTo(40).map(async (i) => {
      await store.dispatch(add(`a${i % 5}`));
      return store.projection(Totals);
    });
    await Promise.all(work);
    expect((await store.projection(Totals)).total).toBe(40);
    expect(seen).toEqual(oneTo(40));
  });

  test("whose handler fails stops without the others, names the event, and continues there once it is fixed", async () => {
    let broken = true;
    const { Totals } = totals();
    const Fragile = projection("fragile", () => ({ steps: [] as number[] })).on(Counter, {
      Added: (s, e) => {
        // A change before the failure must not stay.
        s.steps.push(e.data.by);
        if (broken && e.data.by === 3) throw new RangeError("three is too much");
      },
    });
    await using store = await builder().aggregate(Counter).projection(Totals).projection(Fragile).open();
    await store.dispatch(add("a", 1));
    expect((await store.projection(Fragile)).steps).toEqual([1]);
    await store.dispatch(Counter.at("b").AddMany({ count: 1 }));
    await store.dispatch(add("b", 3));
    await store.dispatch(add("a", 4));
    for (const _ of oneTo(3)) {
      const error: unknown = await store.projection(Fragile).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: "PROJECTION_FAILED", cause: { message: "three is too much" } });
      expect((error as Error).message).toMatch(/fragile.*Added.*counter.*"b".*version 2.*position 3/);
    }
    expect((await store.projection(Totals)).total).toBe(9);
    expect(await store.dispatch(add("a", 5))).toMatchObject({ state: 10 });
    broken = false;
    expect((await store.projection(Fragile)).steps).toEqual([1, 1, 3, 4, 5]);
  });

  test("is rebuilt with progress reports, and shows the old state until then", async () => {
    let factor = 1;
    const Weighted = projection("weighted", () => ({ total: 0 })).on(Counter, {
      Added: (s, e) => {
        s.total += e.data.by * factor;
      },
    });
    await using store = await builder().aggregate(Counter).projection(Weighted).open();
    for (const i of oneTo(5)) await store.dispatch(Counter.at(`a${i}`).AddMany({ count: 1000 }));
    expect(await store.projection(Weighted)).toEqual({ total: 5000 });
    factor = 2;
    const steps: { position: number; head: number }[] = [];
    const meanwhile: number[] = [];
    const reads: Promise<unknown>[] = [];
    await store.rebuildProjection(Weighted, {
      onProgress: (step) => {
        steps.push(step);
        reads.push(store.projection(Weighted).then(({ total }) => meanwhile.push(total)));
      },
    });
    await Promise.all(reads);
    expect(steps.length).toBeGreaterThan(1);
    expect(steps.map(({ position }) => position)).toEqual(
      steps.map(({ position }) => position).toSorted((a, b) => a - b),
    );
    expect(steps.at(-1)).toEqual({ position: 5000, head: 5000 });
    // Reads of a server's store wait for it, and the rebuild may end meanwhile.
    if (["in memory", "on disk"].includes(backend)) expect(meanwhile[0]).toBe(5000);
    expect(meanwhile.filter((total) => total !== 5000 && total !== 10_000)).toEqual([]);
    expect(await store.projection(Weighted)).toEqual({ total: 10_000 });
    await store.dispatch(add("a1", 1));
    expect(await store.projection(Weighted)).toEqual({ total: 10_002 });
  });

  test("keeps its old state when a rebuild is aborted", async () => {
    let factor = 1;
    const Weighted = projection("weighted", () => ({ total: 0 })).on(Counter, {
      Added: (s, e) => {
        s.total += e.data.by * factor;
      },
    });
    await using store = await builder().aggregate(Counter).projection(Weighted).open();
    for (const i of oneTo(5)) await store.dispatch(Counter.at(`a${i}`).AddMany({ count: 1000 }));
    await store.projection(Weighted);
    factor = 2;
    const stop = new AbortController();
    const aborted = store.rebuildProjection(Weighted, {
      signal: stop.signal,
      onProgress: () => stop.abort(new Error("enough")),
    });
    await expect(aborted).rejects.toThrow("enough");
    expect(await store.projection(Weighted)).toEqual({ total: 5000 });
    await expect(store.rebuildProjection(Weighted, { signal: AbortSignal.abort() })).rejects.toThrow(/abort/);
    await store.rebuildProjection(Weighted);
    expect(await store.projection(Weighted)).toEqual({ total: 10_000 });
  });

  test("folds events that are committed while it is rebuilt", async () => {
    const { Totals } = totals();
    await using store = await builder().aggregate(Counter).projection(Totals).open();
    for (const i of oneTo(5)) await store.dispatch(Counter.at(`a${i}`).AddMany({ count: 1000 }));
    const commits: Promise<unknown>[] = [];
    await store.rebuildProjection(Totals, { onProgress: () => void commits.push(store.dispatch(add("new"))) });
    await Promise.all(commits);
    expect((await store.projection(Totals)).total).toBe(5000 + commits.length);
  });

  test("can be rebuilt twice at once", async () => {
    const { Totals } = totals();
    await using store = await builder().aggregate(Counter).projection(Totals).open();
    for (const i of oneTo(5)) await store.dispatch(Counter.at(`a${i}`).AddMany({ count: 1000 }));
    const stop = new AbortController();
    let progress = 0;
    const [first, second] = await Promise.allSettled([
      store.rebuildProjection(Totals, { signal: stop.signal, onProgress: () => stop.abort() }),
      store.rebuildProjection(Totals, { onProgress: () => progress++ }),
    ]);
    expect(first.status).toBe("rejected");
    expect(second.status).toBe("fulfilled");
    expect(progress).toBeGreaterThan(0);
  });

  test("may hold values that JSON cannot", async () => {
    const Exotic = projection("exotic", () => ({ sum: 0n, ids: new Set<string>() })).on(Counter, {
      Added: (s, e) => {
        s.sum += BigInt(e.data.by);
        s.ids.add(e.id);
      },
    });
    await using store = await builder().aggregate(Counter).projection(Exotic).open();
    await store.dispatchAll([add("a", 2), add("b", 3)]);
    expect(await store.projection(Exotic)).toEqual({ sum: 5n, ids: new Set(["a", "b"]) });
  });

  test("receives payloads in their newest shape", async () => {
    const before = aggregate("note", {
      initial: 0,
      events: { Written: data<{ text: string }>() },
      commands: { Write: data<{ text: string }>() },
    }).define({
      handle: { Write: ({ data: d, emit }) => emit.Written(d) },
      apply: { Written: (n) => n + 1 },
    });
    // One store only: a store in memory cannot be opened again.
    const Newer = projection("newer", () => [] as string[]).on(
      aggregate("note", {
        initial: 0,
        events: { Written: data<{ text: string }>().to<{ lines: string[] }>(({ text }) => ({ lines: [text] })) },
        commands: {},
      }),
      { Written: (s, e) => void s.push(...e.data.lines) },
    );
    await using store = await builder().aggregate(before).open();
    await store.dispatch(before.at("n").Write({ text: "hello" }));
    // At run time a store accepts any projection; its type names only those of its builder.
    expect(await (store as unknown as AggregateStore).projection(Newer)).toEqual(["hello"]);
  });
});

describe("commits of another store on the directory", () => {
  test("are part of the next read", async () => {
    const directory = temporaryDirectory();
    const { Totals } = totals();
    const builder = AggregateStore.builder(directory).aggregate(Counter).projection(Totals);
    await using mine = await builder.open();
    await using other = await builder.open();
    for (const i of oneTo(20)) {
      const { position } = await other.dispatch(add(`a${i}`));
      expect((await mine.projection(Totals)).total).toBe(position);
    }
    const waiting = mine.projection(Totals, { after: 21 });
    await pause(20);
    await other.dispatch(add("late"));
    expect((await waiting).total).toBe(21);
    // A rebuild in one store changes neither's result.
    await other.rebuildProjection(Totals);
    expect(await mine.projection(Totals)).toEqual(await other.projection(Totals));
  });
});

describe("the wiring of projections", () => {
  const { Totals } = totals();
  // Calls that JavaScript or an `any` allows.
  interface LooseBuilder {
    aggregate(a: unknown): LooseBuilder;
    projection(p: unknown): LooseBuilder;
    open(): Promise<AggregateStore>;
  }
  const loose = (directory: string) => AggregateStore.builder(directory) as unknown as LooseBuilder;

  test("over an unregistered aggregate is refused before any file is touched", async () => {
    const directory = path.join(temporaryDirectory(), "new");
    await expect(loose(directory).aggregate(Meter).projection(Totals).open()).rejects.toMatchObject({
      code: "UNKNOWN_AGGREGATE",
      message: expect.stringMatching(/totals.*counter/),
    });
    expect(fs.existsSync(directory)).toBe(false);
  });

  test("with one name for two projections is refused, at open and later", async () => {
    const directory = temporaryDirectory();
    const twice = loose(directory).aggregate(Counter).projection(Totals);
    for (const name of ["totals", "TOTALS"]) {
      await expect(twice.projection(totals(name).Totals).open()).rejects.toMatchObject({
        code: "DUPLICATE_DEFINITION",
      });
    }
    await using store = await twice.open();
    await expect(store.projection(totals().Totals)).rejects.toMatchObject({ code: "DUPLICATE_DEFINITION" });
  });

  test("refuses a value that is no definition", async () => {
    await using store = await AggregateStore.open(temporaryDirectory());
    const impostor = { name: "totals" } as unknown as typeof Totals;
    await expect(store.projection(impostor)).rejects.toMatchObject({ code: "INVALID_DEFINITION" });
    for (const name of ["", "a/b", "../x", "con", "ü", "x".repeat(101)])
      expect(() => projection(name, 0)).toThrow(expect.objectContaining({ code: "INVALID_DEFINITION" }));
    expect(() => Totals.on(Counter, {})).toThrow(expect.objectContaining({ code: "INVALID_DEFINITION" }));
  });

  test("is refused by a closed store", async () => {
    const store = await AggregateStore.builder(temporaryDirectory()).aggregate(Counter).projection(Totals).open();
    await store.close();
    await expect(store.projection(Totals)).rejects.toMatchObject({ code: "STORE_CLOSED" });
    await expect(store.rebuildProjection(Totals)).rejects.toMatchObject({ code: "STORE_CLOSED" });
  });
});

test("a projection is read with its position", async () => {
  const Count = projection("count", { n: 0 }).on(Counter, { Added: (view) => void view.n++ });
  await using store = await AggregateStore.builder(memory()).aggregate(Counter).projection(Count).open();
  expect(await store.projection(Count, { withPosition: true })).toEqual({ state: { n: 0 }, position: 0 });
  const { position } = await store.dispatch(Counter.at("a").Add({ by: 1 }));
  expect(await store.projection(Count, { withPosition: true, after: position })).toEqual({ state: { n: 1 }, position });
  expect(await store.projection(Count, { withPosition: false })).toEqual({ n: 1 });
});
