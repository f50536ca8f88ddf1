import { type AggregateStore, type EventfoldError, isEventfoldError, processManager } from "eventfold-es";
import { manualClock } from "eventfold-es/testing";
import { getEventListeners } from "node:events";
import { describe, expect, test } from "vitest";
import { backends } from "../support/backends.ts";
import { Counter } from "../support/counter.ts";
import { Sink, taken } from "../support/relay.ts";
import { until } from "../support/until.ts";

/** Passes each addition on, one smaller, until nothing is left. */
const Countdown = processManager("countdown", { dispatches: [Counter, Sink] }).on(Counter, {
  Added: (_, e) => ({
    dispatch: [
      Sink.at("all").Take({ n: e.data.by }),
      ...(e.data.by > 1 ? [Counter.at(`${e.id}+`).Add({ by: e.data.by - 1 })] : []),
    ],
  }),
});

const isManagers = (error: unknown): boolean => isEventfoldError(error, "PROCESS_MANAGER_FAILED");
const add = (id: string, by = 1) => Counter.at(id).Add({ by });

describe.each(backends)("idle $backend", ({ builder }) => {
  const open = () => builder().aggregate(Counter).aggregate(Sink).processManager(Countdown).open();

  test("waits for the process managers, and for what their commands lead to", async () => {
    await using store = await open();
    await store.idle();
    await store.dispatch(add("a", 5));
    await store.idle();
    expect(await taken(store, "all")).toEqual([5, 4, 3, 2, 1]);
  });

  test("waits for commands that are under way", async () => {
    await using store = await open();
    void store.dispatch(add("a", 3));
    await store.idle();
    expect(await taken(store, "all")).toEqual([3, 2, 1]);
  });

  test("waits for subscriptions with a handler, and for the commands that these send", async () => {
    await using store = await open();
    const seen: number[] = [];
    store.subscribe({ aggregates: [Sink] }, async (event) => {
      await new Promise((resolve) => setTimeout(resolve, 5));
      seen.push((event.data as { n: number }).n);
      if (seen.length === 2) await store.dispatch(add("more", 2));
    });
    await store.dispatch(add("a", 2));
    await store.idle();
    expect(seen).toEqual([2, 1, 2, 1]);
  });

  test("waits for a subscription that was just begun on a store with events", async () => {
    await using store = await open();
    await store.dispatch(add("a", 3));
    await store.idle();
    let count = 0;
    store.subscribe({}, () => void count++);
    await store.idle();
    expect(count).toBe(await store.head());
  });

  test("does not wait for a subscription that has ended, nor for a loop", async () => {
    await using store = await open();
    const stop = new AbortController();
    const { done } = store.subscribe({ signal: stop.signal }, () => {});
    const loop = store.subscribe()[Symbol.asyncIterator]();
    stop.abort();
    await done;
    await store.dispatch(add("a"));
    await store.idle();
    await loop.return?.();
  });

  test("leaves process managers alone that run only when told to", async () => {
    await using store = await builder()
      .aggregate(Counter)
      .aggregate(Sink)
      .processManager(Countdown)
      .processManagerMode("manual")
      .open();
    await store.dispatch(add("a", 2));
    await store.idle();
    expect(await taken(store, "all")).toEqual([]);
  });

  test("does not wait for the time of a scheduled command, but for the command from then on", async () => {
    const Reminder = processManager("reminder", { dispatches: [Sink] }).on(Counter, {
      Added: (_, e) => ({ schedule: [{ in: "1h", key: e.id, dispatch: Sink.at("late").TakeLate({ n: e.data.by }) }] }),
    });
    const clock = manualClock(Date.UTC(2026, 0, 1));
    await using store = await builder()
      .aggregate(Counter)
      .aggregate(Sink)
      .processManager(Reminder)
      .clock(clock.now)
      .open();
    await store.dispatch(add("a", 9));
    await store.idle();
    expect(await taken(store, "late")).toEqual([]);
    clock.advance("1h");
    await store.idle();
    expect(await taken(store, "late")).toEqual([9]);
  });

  test("throws TIMEOUT that names a manager and a subscription that fail, with the error as the cause, and waits again", async () => {
    let isBroken = true;
    const Failing = processManager("failing", { dispatches: [Sink] }).on(Counter, {
      Added: (_, e) => {
        if (isBroken) throw new Error("the service is down");
        return { dispatch: [Sink.at("all").Take({ n: e.data.by })] };
      },
    });
    const failures: unknown[] = [];
    await using store = await builder()
      .aggregate(Counter)
      .aggregate(Sink)
      .processManager(Failing)
      .onProcessManagerError((error) => void failures.push(error))
      .open();
    const handled: string[] = [];
    const onError = (error: unknown): void => void failures.push(error);
    store.subscribe({ name: "mail", aggregates: [Counter], onError }, (event) => {
      if (isBroken) throw new Error("no mail today");
      handled.push(event.type);
    });
    await store.dispatch(add("a", 4));
    await until(() => failures.some(isManagers) && !failures.every(isManagers));
    const error = await store.idle({ timeout: "200ms" }).catch((thrown: EventfoldError) => thrown);
    expect(error).toMatchObject({ code: "TIMEOUT", cause: { code: "PROCESS_MANAGER_FAILED" } });
    expect((error as Error).message).toMatch(
      /process manager failing \(at position 0, and failing: .*the service is down/,
    );
    expect((error as Error).message).toContain("subscription mail (at position 0, and failing: no mail today)");
    isBroken = false;
    await store.idle();
    expect(handled).toEqual(["Added"]);
    expect(await taken(store, "all")).toEqual([4]);
  });

  test("ends with the reason of its signal, and keeps no listener", async () => {
    await using store = await open();
    let release = (): void => {};
    const blocked = new Promise<void>((resolve) => (release = resolve));
    store.subscribe({}, () => blocked);
    await store.dispatch(add("a"));
    const stop = new AbortController();
    const waiting = store.idle({ signal: stop.signal });
    stop.abort(new Error("enough"));
    await expect(waiting).rejects.toThrow("enough");
    await expect(store.idle({ signal: stop.signal })).rejects.toThrow("enough");
    release();
    const other = new AbortController();
    for (let i = 0; i < 20; i++) await store.idle({ signal: other.signal, timeout: "1h" });
    expect(getEventListeners(other.signal, "abort")).toHaveLength(0);
  });

  test("throws STORE_CLOSED on a closed store, and when the store closes meanwhile", async () => {
    const store: AggregateStore = (await open()) as unknown as AggregateStore;
    let release = (): void => {};
    const blocked = new Promise<void>((resolve) => (release = resolve));
    store.subscribe({}, () => blocked);
    await store.dispatch(add("a") as never);
    const waiting = store.idle();
    const closing = store.close();
    release();
    await expect(waiting).rejects.toMatchObject({ code: "STORE_CLOSED" });
    await closing;
    await expect(store.idle()).rejects.toMatchObject({ code: "STORE_CLOSED" });
  });

  test("refuses a timeout that is none", async () => {
    await using store = await open();
    await expect(store.idle({ timeout: "soon" as never })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });
});
