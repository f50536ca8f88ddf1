import { AggregateStore, type RecordedEvent } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { backends } from "../support/backends.ts";
import { Counter, Meter } from "../support/counter.ts";
import { oneTo } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { pause, until } from "../support/until.ts";
import { firstPositions } from "../support/collect.ts";

const add = (id: string, by = 1) => Counter.at(id).Add({ by });

describe.each(backends)("a subscription $backend", ({ builder }) => {
  const open = () => builder().aggregate(Counter).aggregate(Meter).open();

  test("delivers past events, then new ones, without a gap or a duplicate", async () => {
    await using store = await open();
    for (const i of oneTo(20)) await store.dispatch(add(`a${i % 3}`));
    const all = firstPositions(2500, store.subscribe());
    // Commits continue all the while: before, at and after the change from past to new events.
    for (const i of oneTo(48)) {
      await store.dispatch(Counter.at(`a${i % 3}`).AddMany({ count: 50 }));
      if (i % 8 === 0) await pause(1);
    }
    for (const i of oneTo(80)) await store.dispatch(add(`a${i % 3}`));
    expect(await all).toEqual(oneTo(2500));
  });

  test("delivers whole records, typed by their aggregate", async () => {
    await using store = await open();
    const context = { actor: "u", correlationId: "c", metadata: { zone: "eu" } };
    const { events } = await store.dispatch(add("a", 5), context);
    for await (const event of store.subscribe()) {
      expect(event).toEqual(events[0]);
      break;
    }
  });

  test("starts at a past position, a future position, or now", async () => {
    await using store = await open();
    for (const _ of oneTo(10)) await store.dispatch(add("a"));
    expect(await firstPositions(3, store.subscribe({ from: 8 }))).toEqual([8, 9, 10]);
    const later = firstPositions(2, store.subscribe({ from: 13 }));
    const now = firstPositions(2, store.subscribe({ from: "now" }));
    await pause(30);
    for (const _ of oneTo(5)) await store.dispatch(add("a"));
    expect(await later).toEqual([13, 14]);
    expect(await now).toEqual([11, 12]);
  });

  test("delivers only the requested aggregates and types", async () => {
    await using store = await open();
    await store.dispatch(add("a"));
    await store.dispatch(Meter.at("m").Measure({ watts: 3 }));
    await store.dispatch(Counter.at("a").Clear());
    await store.dispatch(add("a"));
    expect(await firstPositions(1, store.subscribe({ aggregates: [Meter] }))).toEqual([2]);
    expect(await firstPositions(3, store.subscribe({ aggregates: ["counter"] }))).toEqual([1, 3, 4]);
    expect(await firstPositions(3, store.subscribe({ types: ["Added"] }))).toEqual([1, 2, 4]);
    expect(await firstPositions(2, store.subscribe({ aggregates: [Counter], types: ["Added"] }))).toEqual([1, 4]);
  });

  test("refuses an invalid position or name at the call", async () => {
    await using store = await open();
    for (const from of [0, -1, 1.5, NaN, "then"])
      expect(() => store.subscribe({ from: from as number })).toThrow(
        expect.objectContaining({ code: "INVALID_ARGUMENT" }),
      );
    for (const name of ["", "a/b", "../x", "con"])
      expect(() => store.subscribe({ name }, () => {})).toThrow(
        expect.objectContaining({ code: "INVALID_DEFINITION" }),
      );
  });

  test("waits for a slow reader, who may execute commands meanwhile", async () => {
    await using store = await open();
    await store.dispatch(add("a"));
    const seen: number[] = [];
    for await (const event of store.subscribe({ aggregates: [Counter] })) {
      seen.push(event.position);
      if (seen.length === 20) break;
      // On another instance, and on the instance of this event.
      await store.dispatch(add("b"));
      if (seen.length % 3 === 0) await store.get(Counter, event.id).execute({ type: "Clear" });
    }
    expect(seen).toEqual(oneTo(20));
  });

  test("allows commands in a handler", async () => {
    await using store = await open();
    const seen: number[] = [];
    store.subscribe({}, async ({ position, id }) => {
      seen.push(position);
      if (position < 30) await store.dispatch(add(id));
    });
    await store.dispatch(add("a"));
    await until(() => seen.length === 30);
    expect(seen).toEqual(oneTo(30));
  });

  test("ends with its signal, with its `close`, and with the store", async () => {
    const store = await open();
    await store.dispatch(add("a"));
    const stop = new AbortController();
    const seen: number[] = [];
    const byLoop = firstPositions(100, store.subscribe({ signal: stop.signal }), seen);
    const { done } = store.subscribe({ signal: stop.signal }, () => {});
    await until(() => seen.length === 1);
    stop.abort();
    expect(await byLoop).toEqual([1]);
    await done;
    expect(await firstPositions(1, store.subscribe({ signal: AbortSignal.abort() }))).toEqual([]);

    const closed: number[] = [];
    let isHandling = false;
    const subscription = store.subscribe({}, async ({ position }) => {
      isHandling = true;
      await pause(30);
      closed.push(position);
    });
    await until(() => isHandling);
    await subscription.close();
    // It was handling an event when it was closed, and finished it.
    expect(closed).toEqual([1]);

    const seenByStore: number[] = [];
    const withStore = firstPositions(100, store.subscribe(), seenByStore);
    await until(() => seenByStore.length === 1);
    await store.close();
    expect(await withStore).toEqual([1]);
    expect(() => store.subscribe()).toThrow(expect.objectContaining({ code: "STORE_CLOSED" }));
  });

  test("lets a loop close its own store", async () => {
    const store = await open();
    await store.dispatch(add("a"));
    let turns = 0;
    for await (const _ of store.subscribe({ name: "closer" })) {
      turns++;
      await store.close();
    }
    expect(turns).toBe(1);
  });

  test("retries a failing handler with the same event and growing delays, and reports the error", async () => {
    await using store = await open();
    const calls: { position: number; at: number }[] = [];
    const errors: unknown[] = [];
    const onError = (error: unknown, event: RecordedEvent | undefined): void => {
      errors.push([(error as Error).message, event?.position]);
      throw new Error("a listener that fails is no reason to stop");
    };
    store.subscribe({ onError }, ({ position }) => {
      calls.push({ position, at: performance.now() });
      if (position === 2 && calls.length < 5) throw new Error(`no ${calls.length}`);
    });
    for (const _ of oneTo(3)) await store.dispatch(add("a"));
    await until(() => calls.at(-1)?.position === 3);
    expect(calls.map(({ position }) => position)).toEqual([1, 2, 2, 2, 2, 3]);
    expect(errors).toEqual([
      ["no 2", 2],
      ["no 3", 2],
      ["no 4", 2],
    ]);
    const waits = oneTo(3).map((i) => (calls[i + 1]?.at ?? 0) - (calls[i]?.at ?? 0));
    for (const [i, least] of [45, 95, 190].entries()) expect(waits[i]).toBeGreaterThanOrEqual(least);
  });

  test("delivers all events to each of many subscribers", async () => {
    await using store = await open();
    const loops = oneTo(50).map(() => firstPositions(40, store.subscribe()));
    for (const i of oneTo(40)) await store.dispatch(add(`a${i}`));
    for (const positions of await Promise.all(loops)) expect(positions).toEqual(oneTo(40));
  });
});

test("commits of another store on the directory arrive within 100 ms", async () => {
  const directory = temporaryDirectory();
  const builder = AggregateStore.builder(directory).aggregate(Counter);
  await using mine = await builder.open();
  await using other = await builder.open();
  const arrived = new Map<number, number>();
  mine.subscribe({}, ({ position }) => void arrived.set(position, performance.now()));
  await pause(20);
  const delays: number[] = [];
  for (const i of oneTo(15)) {
    const { position } = await other.dispatch(add(`a${i}`));
    const committed = performance.now();
    await until(() => arrived.has(position));
    delays.push((arrived.get(position) ?? Infinity) - committed);
    await pause(7);
  }
  // The median: a busy machine may delay any single event.
  expect(delays.sort((a, b) => a - b)[7]).toBeLessThan(100);
});
