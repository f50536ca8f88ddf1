import * as fs from "node:fs";
import * as path from "node:path";
import { AggregateStore, memory } from "eventfold-es";
import { verify } from "eventfold-es/doctor";
import { manualClock, openNodeFileSystem } from "eventfold-es/testing";
import { describe, expect, test, vi } from "vitest";
import { WaitingEventStore } from "../support/waiting-event-store.ts";
import { backends } from "../support/backends.ts";
import { breakFileSystem } from "../support/broken-file-system.ts";
import { Counter } from "../support/counter.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { pause, until } from "../support/until.ts";

const add = (id: string, by: number) => Counter.at(id).Add({ by });
const byOf = (event: { readonly data?: unknown }): number => (event.data as { readonly by: number }).by;
const quiet = { onError: () => {} };

/** A handler that records what it is given and fails for some numbers. */
function handler(bad: Set<number>) {
  const tried: number[] = [];
  const handled: string[] = [];
  const handle = async (event: { readonly id: string; readonly data?: unknown }): Promise<void> => {
    tried.push(byOf(event));
    await pause(0);
    if (bad.has(byOf(event))) throw new RangeError(`cannot handle ${byOf(event)}`);
    handled.push(`${event.id}${byOf(event)}`);
  };
  return { tried, handled, handle };
}

describe.each(backends)("a subscription with retry $backend", ({ builder }) => {
  const open = () => builder().aggregate(Counter).open();

  test("makes an event a dead letter after its attempts, and goes on", async () => {
    await using store = await open();
    const bad = new Set([2]);
    const { tried, handled, handle } = handler(bad);
    for (const by of [1, 2, 3]) await store.dispatch(add("a", by));
    const errors: unknown[] = [];
    const mailer = store.subscribe(
      { name: "mailer", retry: { attempts: 3, backoff: 1 }, onError: (error) => errors.push(error) },
      handle,
    );
    await until(() => handled.includes("a3"));
    expect(tried).toEqual([1, 2, 2, 2, 3]);
    expect(errors.length).toBe(3);
    const letters = await store.deadLetters({ subscription: "mailer" });
    expect(letters).toEqual(await store.deadLetters());
    expect(letters).toMatchObject([
      {
        subscription: "mailer",
        aggregate: "counter",
        id: "a",
        error: "cannot handle 2",
        cause: { aggregate: "counter", id: "a", version: 2, position: 2 },
      },
    ]);
    expect(letters[0]).not.toHaveProperty("processManager");
    const key = letters[0]?.key ?? "";
    await expect(store.replayDeadLetter(key)).rejects.toThrow("cannot handle 2");
    expect(await store.deadLetters()).toEqual(letters);
    bad.clear();
    await store.replayDeadLetter(key);
    expect(handled).toEqual(["a1", "a3", "a2"]);
    expect(await store.deadLetters()).toEqual([]);
    await expect(store.replayDeadLetter(key)).rejects.toMatchObject({ code: "UNKNOWN_DEAD_LETTER" });
    await mailer.close();
  });

  test("drops a dead letter without its handler, which a replay needs", async () => {
    await using store = await open();
    await store.dispatch(add("a", 2));
    const mailer = store.subscribe({ name: "mailer", retry: { attempts: 1 }, ...quiet }, () => {
      throw new Error("no");
    });
    await until(async () => (await store.deadLetters()).length === 1);
    await mailer.close();
    const [letter] = await store.deadLetters();
    await expect(store.replayDeadLetter(letter?.key ?? "")).rejects.toThrow(/mailer to be running in this store/);
    await store.dropDeadLetter(letter?.key ?? "");
    expect(await store.deadLetters()).toEqual([]);
    await expect(store.dropDeadLetter(letter?.key ?? "")).rejects.toMatchObject({ code: "UNKNOWN_DEAD_LETTER" });
  });

  test("keeps the order of an instance if asked, and replays what waits for a letter", async () => {
    await using store = await open();
    const bad = new Set([1, 3]);
    const { handled, handle } = handler(bad);
    for (const [id, by] of [
      ["a", 1],
      ["b", 10],
      ["a", 2],
      ["a", 3],
      ["b", 11],
      ["a", 4],
    ] as const)
      await store.dispatch(add(id, by));
    store.subscribe({ name: "view", retry: { attempts: 1 }, order: "instance", ...quiet }, handle);
    await until(async () => (await store.deadLetters()).length === 4);
    expect(handled).toEqual(["b10", "b11"]);
    const keys = (await store.deadLetters()).map(({ key }) => key);
    const [first = "", second = "", third = ""] = keys;
    await expect(store.replayDeadLetter(second)).rejects.toThrow(/waits for .* of the same instance/);
    bad.delete(1);
    await store.replayDeadLetter(first);
    // The third still fails, so the fourth waits for it.
    expect(handled).toEqual(["b10", "b11", "a1", "a2"]);
    await store.dispatch(add("a", 5));
    await until(async () => (await store.deadLetters()).length === 3);
    bad.clear();
    await store.replayDeadLetter(third);
    expect(handled.slice(4)).toEqual(["a3", "a4", "a5"]);
    await store.dispatch(add("a", 6));
    await until(() => handled.includes("a6"));
    expect(await store.deadLetters()).toEqual([]);
  });

  test("waits between attempts by the injected clock", async () => {
    const clock = manualClock();
    await using store = await builder().aggregate(Counter).clock(clock.now).open();
    const { tried, handle } = handler(new Set([1]));
    await store.dispatch(add("a", 1));
    store.subscribe({ name: "slow", retry: { attempts: 3, backoff: "1h" }, ...quiet }, handle);
    await until(() => tried.length === 1);
    await pause(60);
    expect(tried.length).toBe(1);
    clock.advance("1h");
    await until(() => tried.length === 2);
    await pause(60);
    clock.advance("59m");
    await pause(60);
    expect(tried.length).toBe(2);
    clock.advance("1m");
    await until(async () => (await store.deadLetters()).length === 1);
    expect(tried.length).toBe(3);
  });

  test("takes the pauses from a function of the failures", async () => {
    await using store = await open();
    const asked: number[] = [];
    const { handle } = handler(new Set([1]));
    await store.dispatch(add("a", 1));
    const backoff = (failures: number): number => {
      asked.push(failures);
      return 0;
    };
    store.subscribe({ name: "asked", retry: { attempts: 4, backoff }, ...quiet }, handle);
    await until(async () => (await store.deadLetters()).length === 1);
    expect(asked).toEqual([1, 2, 3]);
  });

  test("refuses options that cannot be meant", async () => {
    await using store = await open();
    const subscribe = (options: object) => () => store.subscribe(options as never, () => {});
    for (const options of [
      { retry: { attempts: 1 } },
      { name: "n", retry: { attempts: 0 } },
      { name: "n", retry: { attempts: 1.5 } },
      { name: "n", retry: { attempts: 2, backoff: "soon" } },
      { name: "n", order: "instance" },
      { name: "n", retry: { attempts: 2 }, order: "all" },
      { exclusive: true },
    ])
      expect(subscribe(options), JSON.stringify(options)).toThrow(
        expect.objectContaining({ code: "INVALID_ARGUMENT" }),
      );
    expect(() => store.subscribe({ name: "n", retry: { attempts: 1 } } as never)).toThrow(/expected a handler/);
  });
});

test("the pauses do not need the timers that a test has replaced", async () => {
  vi.useFakeTimers();
  try {
    await using store = await AggregateStore.builder(memory()).aggregate(Counter).open();
    await store.dispatch(add("a", 1));
    store.subscribe({ name: "faked", retry: { attempts: 3, backoff: 5 }, ...quiet }, () => {
      throw new Error("no");
    });
    while ((await store.deadLetters()).length === 0) await new Promise((resolve) => setImmediateReal(resolve));
  } finally {
    vi.useRealTimers();
  }
});
const setImmediateReal = setImmediate;

describe("in files", () => {
  const open = (directory: string) => AggregateStore.builder(directory).aggregate(Counter).open();

  test("a dead letter and the position survive restarts and the loss of the checkpoint", async () => {
    const directory = temporaryDirectory();
    const { handled, tried, handle } = handler(new Set([2]));
    {
      await using store = await open(directory);
      for (const by of [1, 2]) await store.dispatch(add("a", by));
      store.subscribe({ name: "mailer", retry: { attempts: 1 }, ...quiet }, handle);
      await until(async () => (await store.deadLetters()).length === 1);
    }
    fs.rmSync(path.join(directory, "subscriptions"), { recursive: true });
    await using store = await open(directory);
    expect((await store.deadLetters()).length).toBe(1);
    store.subscribe({ name: "mailer", retry: { attempts: 1 }, ...quiet }, handle);
    await store.dispatch(add("a", 3));
    await until(() => handled.includes("a3"));
    expect(tried).toEqual([1, 2, 3]);
    await store.close();
    expect((await verify(directory)).findings.filter(({ severity }) => severity !== "info")).toEqual([]);
  });

  test("an exclusive name is used by one store at a time, and by the next when that one ends", async () => {
    const directory = temporaryDirectory();
    const one = await open(directory);
    // The list of open stores has the second one at another place, as if another process had it: this file system does not know that the
    // paths are of one directory.
    fs.symlinkSync(directory, `${directory}-too`);
    const another = breakFileSystem(await openNodeFileSystem());
    await using two = await AggregateStore.builder(`${directory}-too`).aggregate(Counter).fileSystem(another).open();
    const seen: string[] = [];
    one.subscribe({ name: "single", exclusive: true }, (event) => void seen.push(`one ${byOf(event)}`));
    await one.dispatch(add("a", 1));
    await until(() => seen.length === 1);
    two.subscribe({ name: "single", exclusive: true }, (event) => void seen.push(`two ${byOf(event)}`));
    await one.dispatch(add("a", 2));
    await until(() => seen.length === 2);
    await pause(150);
    expect(seen).toEqual(["one 1", "one 2"]);
    await one.close();
    await two.dispatch(add("a", 3));
    await until(() => seen.length === 3);
    expect(seen).toEqual(["one 1", "one 2", "two 3"]);
    await two.close();
    expect((await verify(directory)).findings.filter(({ kind }) => kind === "unknown-file")).toEqual([]);
    fs.rmSync(`${directory}-too`);
  });

  test("a loop can be exclusive, too", async () => {
    const directory = temporaryDirectory();
    await using store = await open(directory);
    await store.dispatch(add("a", 1));
    for await (const event of store.subscribe({ name: "loop", exclusive: true })) {
      expect(byOf(event)).toBe(1);
      break;
    }
    for await (const event of store.subscribe({ name: "loop", exclusive: true })) {
      expect(byOf(event)).toBe(1);
      break;
    }
  });
});

test("two stores on one memory share an exclusive name", async () => {
  const storage = memory();
  const open = () => AggregateStore.builder(storage).aggregate(Counter).open();
  const one = await open();
  await using two = await open();
  const seen: string[] = [];
  const first = one.subscribe({ name: "single", exclusive: true }, () => void seen.push("one"));
  await one.dispatch(add("a", 1));
  await until(() => seen.length === 1);
  await first.close();
  two.subscribe({ name: "single", exclusive: true }, () => void seen.push("two"));
  await two.dispatch(add("a", 2));
  await until(() => seen.length === 2);
  expect(seen).toEqual(["one", "two"]);
  await one.close();
});

test("a storage that cannot lock names refuses exclusive use", async () => {
  const storage = { name: "a remote storage", open: () => WaitingEventStore.open() };
  await using store = await AggregateStore.builder(storage).aggregate(Counter).open();
  expect(() => store.subscribe({ name: "n", exclusive: true }, () => {})).toThrow(/storage that can lock a name/);
});
