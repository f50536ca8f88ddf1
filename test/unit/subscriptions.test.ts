import * as fs from "node:fs";
import * as path from "node:path";
import { AggregateStore, type RecordedEvent } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { backends } from "../support/backends.ts";
import { CountedFileSystem } from "../support/counted-file-system.ts";
import { Counter, Meter } from "../support/counter.ts";
import { systemError } from "../support/intercepted-file-system.ts";
import { oneTo } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { pause, until } from "../support/until.ts";

const add = (id: string, by = 1) => Counter.at(id).Add({ by });

/** The first `count` events of a loop, by position. */
async function first(count: number, events: AsyncIterable<RecordedEvent>): Promise<number[]> {
  const positions: number[] = [];
  for await (const { position } of events) if (positions.push(position) === count) break;
  return positions;
}

describe.each(backends)("a subscription $backend", ({ builder }) => {
  const open = () => builder().aggregate(Counter).aggregate(Meter).open();

  test("delivers past events, then new ones, without a gap or a duplicate", async () => {
    await using store = await open();
    for (const i of oneTo(20)) await store.dispatch(add(`a${i % 3}`));
    const all = first(2500, store.subscribe());
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
    expect(await first(3, store.subscribe({ from: 8 }))).toEqual([8, 9, 10]);
    const later = first(2, store.subscribe({ from: 13 }));
    const now = first(2, store.subscribe({ from: "now" }));
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
    expect(await first(1, store.subscribe({ aggregates: [Meter] }))).toEqual([2]);
    expect(await first(3, store.subscribe({ aggregates: ["counter"] }))).toEqual([1, 3, 4]);
    expect(await first(3, store.subscribe({ types: ["Added"] }))).toEqual([1, 2, 4]);
    expect(await first(2, store.subscribe({ aggregates: [Counter], types: ["Added"] }))).toEqual([1, 4]);
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
    const byLoop = first(100, store.subscribe({ signal: stop.signal }));
    const { done } = store.subscribe({ signal: stop.signal }, () => {});
    await pause(20);
    stop.abort();
    expect(await byLoop).toEqual([1]);
    await done;
    expect(await first(1, store.subscribe({ signal: AbortSignal.abort() }))).toEqual([]);

    const closed: number[] = [];
    const subscription = store.subscribe({}, async ({ position }) => {
      await pause(30);
      closed.push(position);
    });
    await pause(10);
    await subscription.close();
    // It was handling an event when it was closed, and finished it.
    expect(closed).toEqual([1]);

    const withStore = first(100, store.subscribe());
    await pause(20);
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
    const loops = oneTo(50).map(() => first(40, store.subscribe()));
    for (const i of oneTo(40)) await store.dispatch(add(`a${i}`));
    for (const positions of await Promise.all(loops)) expect(positions).toEqual(oneTo(40));
  });
});

describe("a named subscription", () => {
  const positionFile = (directory: string, name: string): string =>
    path.join(directory, "subscriptions", name, "checkpoint.json");
  const savedPosition = (directory: string, name: string): number | undefined => {
    const file = positionFile(directory, name);
    return fs.existsSync(file)
      ? (JSON.parse(fs.readFileSync(file, "utf8")) as { position: number }).position
      : undefined;
  };
  const openAt = (directory: string) => AggregateStore.builder(directory).aggregate(Counter).open();
  const history = async (directory: string, events: number): Promise<void> => {
    await using store = await openAt(directory);
    for (const i of oneTo(events)) await store.dispatch(add(`a${i % 3}`));
  };

  test("continues in the next run after the last handled event", async () => {
    const directory = temporaryDirectory();
    await history(directory, 5);
    const seen: number[][] = [];
    for (const _ of oneTo(3)) {
      await using store = await openAt(directory);
      const run: number[] = [];
      store.subscribe({ name: "mail" }, ({ position }) => void run.push(position));
      await store.dispatch(add("a"));
      await until(() => run.at(-1) === 6 + seen.length);
      seen.push(run);
    }
    expect(seen).toEqual([oneTo(6), [7], [8]]);
  });

  test("in a loop has handled an event when the next one is requested, also when the store closes meanwhile", async () => {
    const directory = temporaryDirectory();
    await history(directory, 3);
    const store = await openAt(directory);
    const waiting = first(100, store.subscribe({ name: "mail" }));
    await pause(50);
    await store.close();
    // Closing the store is enough: it does not have to wait for the loop.
    expect(savedPosition(directory, "mail")).toBe(3);
    expect(await waiting).toEqual([1, 2, 3]);

    await history(directory, 2);
    const again = await openAt(directory);
    // The loop ends while it handles event 5, so event 5 is delivered again.
    expect(await first(2, again.subscribe({ name: "mail" }))).toEqual([4, 5]);
    expect(savedPosition(directory, "mail")).toBe(4);
    await again.close();
  });

  test("that the store ends while its loop handles an event delivers that event again", async () => {
    const directory = temporaryDirectory();
    await history(directory, 3);
    const store = await openAt(directory);
    const seen: number[] = [];
    let close: Promise<void> | undefined;
    for await (const { position } of store.subscribe({ name: "mail" })) {
      seen.push(position);
      if (position !== 2) continue;
      close = store.close();
      await pause(20);
    }
    await close;
    expect(seen).toEqual([1, 2]);
    expect(savedPosition(directory, "mail")).toBe(1);
  });

  test("saves its position soon, also when no event follows", async () => {
    const directory = temporaryDirectory();
    await using store = await openAt(directory);
    store.subscribe({ name: "mail" }, () => {});
    for (const _ of oneTo(3)) await store.dispatch(add("a"));
    await until(() => savedPosition(directory, "mail") === 3);
    await store.dispatch(add("a"));
    await until(() => savedPosition(directory, "mail") === 4);
  });

  test("saves its position among many events when its handler is slow", async () => {
    const directory = temporaryDirectory();
    await history(directory, 1);
    await using store = await openAt(directory);
    await store.dispatch(Counter.at("a").AddMany({ count: 999 }));
    let handled = 0;
    const subscription = store.subscribe({ name: "mail" }, async () => {
      await pause(20);
      handled++;
    });
    await until(() => (savedPosition(directory, "mail") ?? 0) > 0);
    expect(handled).toBeLessThan(500);
    await subscription.close();
  });

  test("does not move past an event whose handler fails", async () => {
    const directory = temporaryDirectory();
    await history(directory, 4);
    const store = await openAt(directory);
    let failures = 0;
    store.subscribe({ name: "mail", onError: () => failures++ }, ({ position }) => {
      if (position === 3) throw new Error("not this one");
    });
    await until(() => failures > 1);
    await store.close();
    expect(savedPosition(directory, "mail")).toBe(2);
    await using again = await openAt(directory);
    expect(await first(2, again.subscribe({ name: "mail" }))).toEqual([3, 4]);
  });

  test("counts events of other types as handled", async () => {
    const directory = temporaryDirectory();
    await history(directory, 4);
    await using store = await openAt(directory);
    store.subscribe({ name: "mail", types: ["Cleared"] }, () => {});
    await until(() => savedPosition(directory, "mail") === 4);
  });

  test("continues when its position cannot be saved, and saves it later", async () => {
    const directory = temporaryDirectory();
    const counted = await CountedFileSystem.create();
    await using store = await AggregateStore.builder(directory)
      .aggregate(Counter)
      .fileSystem(counted.fileSystem)
      .open();
    const seen: number[] = [];
    let refused = 0;
    counted.refuse = (file) => {
      if (!file.includes("/subscriptions/")) return undefined;
      refused++;
      return systemError("ENOSPC");
    };
    const byHandler = store.subscribe({ name: "mail" }, ({ position }) => void seen.push(position));
    const stop = new AbortController();
    const byLoop = first(100, store.subscribe({ name: "loop", signal: stop.signal }));
    await store.dispatch(add("a"));
    await until(() => refused > 1);
    await store.dispatch(add("a"));
    await until(() => seen.length === 2);
    counted.refuse = () => undefined;
    await until(() => savedPosition(directory, "mail") === 2 && savedPosition(directory, "loop") === 2);
    await store.dispatch(add("a"));
    await until(() => seen.length === 3);
    await byHandler.close();
    await until(() => savedPosition(directory, "loop") === 3);
    stop.abort();
    expect(await byLoop).toEqual([1, 2, 3]);
  });

  test("ends without an error when its position cannot be saved at the end", async () => {
    const directory = temporaryDirectory();
    const counted = await CountedFileSystem.create();
    counted.refuse = (file) => (file.includes("/subscriptions/") ? systemError("ENOSPC") : undefined);
    const store = await AggregateStore.builder(directory).aggregate(Counter).fileSystem(counted.fileSystem).open();
    await store.dispatch(add("a"));
    const loop = first(100, store.subscribe({ name: "loop" }));
    const { done } = store.subscribe({ name: "mail" }, () => {});
    await pause(30);
    await store.close();
    await done;
    expect(await loop).toEqual([1]);
  });

  test.each(["deleted", "damaged"])("starts over when its position is %s", async (how) => {
    const directory = temporaryDirectory();
    await history(directory, 3);
    const store = await openAt(directory);
    const loop = first(100, store.subscribe({ name: "mail" }));
    await pause(50);
    await store.close();
    await loop;
    const file = positionFile(directory, "mail");
    if (how === "deleted") fs.rmSync(file);
    else fs.writeFileSync(file, fs.readFileSync(file, "utf8").replace('"position":3', '"position":2'));
    await using again = await openAt(directory);
    expect(await first(3, again.subscribe({ name: "mail" }))).toEqual([1, 2, 3]);
  });

  test("misses no event of a store that was restored from a backup and has grown past its position", async () => {
    const [directory, backup] = [temporaryDirectory(), path.join(temporaryDirectory(), "backup")];
    await history(directory, 3);
    fs.cpSync(directory, backup, { recursive: true });
    const store = await openAt(directory);
    const loop = first(100, store.subscribe({ name: "mail" }));
    for (const _ of oneTo(3)) await store.dispatch(add("lost"));
    await until(() => savedPosition(directory, "mail") === 6);
    await store.close();
    await loop;
    const saved = fs.readFileSync(positionFile(directory, "mail"));
    fs.rmSync(directory, { recursive: true });
    fs.cpSync(backup, directory, { recursive: true });
    fs.mkdirSync(path.dirname(positionFile(directory, "mail")), { recursive: true });
    fs.writeFileSync(positionFile(directory, "mail"), saved);
    // The log is first shorter than the position, then longer.
    const shorter = await openAt(directory);
    expect(await first(3, shorter.subscribe({ name: "mail" }))).toEqual([1, 2, 3]);
    await shorter.close();
    fs.writeFileSync(positionFile(directory, "mail"), saved);
    await history(directory, 10);
    await using longer = await openAt(directory);
    expect(await first(13, longer.subscribe({ name: "mail" }))).toEqual(oneTo(13));
  });

  test("continues after the disk failed for a while", async () => {
    const directory = temporaryDirectory();
    await history(directory, 3);
    const counted = await CountedFileSystem.create();
    await using store = await AggregateStore.builder(directory)
      .aggregate(Counter)
      .fileSystem(counted.fileSystem)
      .open();
    const seen: number[] = [];
    const errors: unknown[] = [];
    counted.refuseToRead = (file) => (file.includes("/commit_log/") ? systemError("EMFILE") : undefined);
    store.subscribe({ onError: (error) => errors.push(error) }, ({ position }) => void seen.push(position));
    await until(() => errors.length > 1);
    expect(seen).toEqual([]);
    counted.refuseToRead = () => undefined;
    await until(() => seen.length === 3);
    expect(seen).toEqual([1, 2, 3]);
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
