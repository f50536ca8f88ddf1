import * as fs from "node:fs";
import * as path from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { aggregate, AggregateStore, data } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { backends } from "../support/backends.ts";
import { oneTo } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const { Open, Deposit } = Account.commands;

function snapshotFile(store: string, id: string): string {
  return path.join(store, "streams", "account", id, "views", "state.snapshot.json");
}

function openAt(directory: string) {
  return AggregateStore.builder(directory).aggregate(Account).idleTimeout(30).open();
}

/** Waits until an instance has left memory. */
async function evicted(handle: { isAlive(): boolean }): Promise<void> {
  await expect.poll(() => handle.isAlive(), { timeout: 120_000, interval: 5 }).toBe(false);
}

/** A store whose instances `a` and `b` have been evicted, with a snapshot each. */
async function evictedStore(): Promise<string> {
  const directory = temporaryDirectory();
  const store = await openAt(directory);
  for (const id of ["a", "b"]) {
    const handle = store.get(Account, id);
    await handle.execute(Open({ owner: id }));
    for (const amount of oneTo(10)) await handle.execute(Deposit({ amount }));
    await evicted(handle);
  }
  await store.close();
  return directory;
}

describe.each(backends)("idle instances $backend", ({ builder }) => {
  test("leave memory, and a kept handle works again", async () => {
    await using store = await builder().aggregate(Account).idleTimeout("30ms").open();
    const ada = store.get(Account, "ada");
    expect(ada.isAlive()).toBe(false);
    for (const amount of oneTo(3)) {
      if (amount === 1) await ada.execute(Open({ owner: "Ada" }));
      const { version } = await ada.execute(Deposit({ amount }));
      expect(version).toBe(amount + 1);
      expect(ada.isAlive()).toBe(true);
      await evicted(ada);
    }
    expect(await ada.state()).toEqual({ open: true, balance: 6 });
  });

  test("stay in memory while they are used", async () => {
    await using store = await builder().aggregate(Account).idleTimeout(400).open();
    const ada = store.get(Account, "ada");
    await ada.execute(Open({ owner: "Ada" }));
    for (let n = 0; n < 30; n++) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(ada.isAlive()).toBe(true);
      await ada.execute(Deposit({ amount: 1 }));
    }
  });

  test("lose no command that arrives at the moment of eviction", async () => {
    await using store = await builder().aggregate(Account).idleTimeout(1).open();
    const ada = store.get(Account, "ada");
    await ada.execute(Open({ owner: "Ada" }));
    for (let n = 0; n < 150; n++) {
      await ada.execute(Deposit({ amount: 1 }));
      await new Promise((resolve) => setTimeout(resolve, n % 14));
    }
    expect((await ada.state()).balance).toBe(150);
  });
});

describe("snapshots", () => {
  test("are written when an instance leaves memory, in the Rust crate's form with more fields", async () => {
    const directory = await evictedStore();
    const file = path.join(directory, "streams", "account", "a", "app.jsonl");
    const snapshot = JSON.parse(fs.readFileSync(snapshotFile(directory, "a"), "utf8")) as Record<string, unknown>;
    expect(Object.keys(snapshot).slice(0, 3)).toEqual(["state", "offset", "hash"]);
    expect(snapshot).toMatchObject({ state: { open: true, balance: 55 }, offset: fs.statSync(file).size, version: 11 });
    expect(snapshot["hash"]).toMatch(/^[0-9a-f]{16}$/);
  });

  test("are also written after a number of events", async () => {
    const directory = temporaryDirectory();
    await using store = await AggregateStore.builder(directory).aggregate(Account).open();
    await store.get(Account, "a").execute(Open({ owner: "Ada" }));
    for (let n = 0; n < 120; n++) await store.get(Account, "a").execute(Deposit({ amount: 1 }));
    await expect.poll(() => fs.existsSync(snapshotFile(directory, "a"))).toBe(true);
  });

  const damages: [string, (text: string) => string][] = [
    ["empty", () => ""],
    ["cut short", (text) => text.slice(0, text.length / 2)],
    ["not JSON", () => "}{"],
    ["another JSON value", () => "[1]"],
    ["null", () => "null"],
    ["changed in its state", (text) => text.replace('"balance":55', '"balance":56')],
    ["changed in its version", (text) => text.replace('"version":11', '"version":10')],
    ["changed in its offset", (text) => text.replace(/"offset":\d+/, '"offset":1')],
    [
      "of the Rust crate",
      () => '{\n  "state": {\n    "open": true,\n    "balance": 99\n  },\n  "offset": 0,\n  "hash": ""\n}',
    ],
  ];
  test.each(damages)("do not change the state when one is %s", async (_, damage) => {
    const directory = await evictedStore();
    const file = snapshotFile(directory, "a");
    const text = fs.readFileSync(file, "utf8");
    expect(damage(text)).not.toBe(text);
    fs.writeFileSync(file, damage(text));
    await using store = await openAt(directory);
    const a = store.get(Account, "a");
    expect(await a.state()).toEqual({ open: true, balance: 55 });
    expect(await a.execute(Deposit({ amount: 1 }))).toMatchObject({ version: 12, state: { balance: 56 } });
  });

  test("do not change the state when one is old or of another instance", async () => {
    const directory = await evictedStore();
    const old = fs.readFileSync(snapshotFile(directory, "a"));
    const store = await openAt(directory);
    for (const id of ["a", "b"]) {
      await store.get(Account, id).execute(Deposit({ amount: 1000 }));
      await evicted(store.get(Account, id));
    }
    await store.close();
    fs.copyFileSync(snapshotFile(directory, "a"), snapshotFile(directory, "b"));
    fs.writeFileSync(snapshotFile(directory, "a"), old);
    await using again = await openAt(directory);
    for (const id of ["a", "b"]) {
      const handle = again.get(Account, id);
      expect(await handle.state()).toEqual({ open: true, balance: 1055 });
      expect(await handle.execute(Deposit({ amount: 1 }))).toMatchObject({ version: 13, state: { balance: 1056 } });
    }
  });

  test("are written again when other code wrote them", async () => {
    const directory = await evictedStore();
    const Doubled = aggregate("account", {
      initial: { open: false, balance: 0 },
      events: { Opened: data<{ owner: string }>(), Deposited: data<{ amount: number }>() },
      commands: { Deposit: data<{ amount: number }>() },
    }).define({
      handle: { Deposit: ({ data: deposit, emit }) => emit.Deposited(deposit) },
      apply: {
        Opened: (s) => ({ ...s, open: true }),
        Deposited: (s, { amount }) => ({ ...s, balance: s.balance + 2 * amount }),
      },
    });
    const store = await AggregateStore.builder(directory).aggregate(Doubled).idleTimeout(30).open();
    const doubled = store.get(Doubled, "a");
    expect(await doubled.state()).toEqual({ open: true, balance: 110 });
    await doubled.execute({ type: "Deposit", data: { amount: 1 } });
    await evicted(doubled);
    await store.close();
    expect(fs.readFileSync(snapshotFile(directory, "a"), "utf8")).toContain('"balance":112');
    await using again = await openAt(directory);
    expect(await again.get(Account, "a").state()).toEqual({ open: true, balance: 56 });
  });

  test("may be missing or impossible to write", async () => {
    const directory = await evictedStore();
    fs.rmSync(path.dirname(snapshotFile(directory, "a")), { recursive: true });
    fs.writeFileSync(path.dirname(snapshotFile(directory, "a")), "a file where a directory should be");
    await using store = await openAt(directory);
    const a = store.get(Account, "a");
    await expect.poll(async () => a.state().catch(String)).toEqual({ open: true, balance: 55 });
    await a.execute(Deposit({ amount: 1 }));
    await evicted(a);
    expect((await a.state()).balance).toBe(56);
  });
});

describe("many instances", () => {
  setFlagsFromString("--expose-gc");
  const collectGarbage = runInNewContext("gc") as () => void;
  const descriptors = (): number => (fs.existsSync("/proc/self/fd") ? fs.readdirSync("/proc/self/fd").length : 0);

  async function usedMemory(): Promise<number> {
    await new Promise((resolve) => setTimeout(resolve, 10));
    collectGarbage();
    return process.memoryUsage().heapUsed;
  }

  test("release their memory: 100,000 that were read and left idle", async () => {
    await using store = await AggregateStore.builder(temporaryDirectory()).aggregate(Account).idleTimeout(500).open();
    await store.get(Account, "warm").state();
    const before = await usedMemory();
    for (let n = 0; n < 100_000; n += 1000)
      await Promise.all(Array.from({ length: 1000 }, (_, i) => store.get(Account, `a-${n + i}`).state()));
    expect(descriptors()).toBeLessThan(512);
    const last = store.get(Account, "a-99999");
    await expect.poll(() => last.isAlive(), { timeout: 120_000, interval: 50 }).toBe(false);
    await expect.poll(usedMemory, { timeout: 120_000, interval: 200 }).toBeLessThan(before + (8 << 20));
  });

  test("keep few descriptors and load again: 2,000 with events", async () => {
    const directory = temporaryDirectory();
    await using store = await AggregateStore.builder(directory).aggregate(Account).idleTimeout(200).open();
    const handles = oneTo(2000).map((n) => store.get(Account, `a-${n}`));
    await Promise.all(handles.map((handle) => handle.execute(Open({ owner: handle.id }))));
    await Promise.all(handles.map((handle) => handle.execute(Deposit({ amount: 1 }))));
    expect(descriptors()).toBeLessThan(512);
    await expect.poll(() => handles.some((handle) => handle.isAlive()), { timeout: 120_000 }).toBe(false);
    expect(handles.filter(({ id }) => !fs.existsSync(snapshotFile(directory, id)))).toEqual([]);
    const states = await Promise.all(handles.map((handle) => handle.state()));
    expect(states.filter(({ open, balance }) => !open || balance !== 1)).toEqual([]);
    await Promise.all(handles.map((handle) => handle.execute(Deposit({ amount: 1 }))));
    expect(descriptors()).toBeLessThan(512);
  });
});
