import * as fs from "node:fs";
import * as path from "node:path";
import { describe, expect, test } from "vitest";
import { aggregate, AggregateStore, data, type EventStorage, memory, type RecordedEvent } from "eventfold-es";
import { verify } from "eventfold-es/doctor";
import { Account } from "../support/account.ts";
import { collect } from "../support/collect.ts";
import { describeServers } from "../support/server-storages.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { Purse, Transfer, Transfers } from "../support/transfer.ts";

type Storage = string | EventStorage;

const HOUR = 3_600_000;
const START = 1_000_000;

const open = (storage: Storage, now: () => number = () => START) =>
  AggregateStore.builder(storage)
    .aggregate(Purse)
    .aggregate(Transfer)
    .aggregate(Account)
    .processManager(Transfers)
    .processManagerMode("manual")
    .clock(now)
    .open();
type Store = Awaited<ReturnType<typeof open>>;

/** Transfers that are done, waiting, rejected and scheduled, a command with a key, and a subscription. */
async function fill(store: Store): Promise<void> {
  await store.get(Purse, "ada").execute({ type: "Fill", data: { amount: 10 } }, { idempotencyKey: "first" });
  for (const id of ["t1", "t2", "t/3 ü"]) {
    const request = { type: "Request", data: { from: "ada", to: "bob", amount: 6 } } as const;
    await store
      .get(Transfer, id)
      .execute(request, { actor: "u", correlationId: `c-${id}`, metadata: { source: ["x"] } });
    await store.runProcessManagers();
  }
  for await (const event of store.subscribe({ name: "mailer" })) if (event.position === 5) break;
  await store.get(Transfer, "unhandled").execute({ type: "Request", data: { from: "ada", to: "bob", amount: 1 } });
}

async function eventsOf(store: AggregateStore): Promise<RecordedEvent[]> {
  return (await collect(store.events())) as RecordedEvent[];
}

async function linesOf(store: AggregateStore): Promise<string[]> {
  return collect(store.export());
}

/** Whether two stores have one history, and their managers and subscriptions do the same from here on. */
async function expectSame(source: Store, target: Storage): Promise<void> {
  let now = START;
  const moved = await open(target, () => now);
  expect(await eventsOf(moved)).toEqual(await eventsOf(source));
  expect(await moved.deadLetters()).toEqual(await source.deadLetters());
  const [expected, found] = [await source.status(), await moved.status()];
  expect(found.processManagers).toEqual(expected.processManagers);
  expect(found.subscriptions).toEqual(expected.subscriptions);
  expect(await linesOf(moved)).toEqual(await linesOf(source));
  // The last request is handled now, and nothing else.
  const before = await moved.head();
  await moved.runProcessManagers();
  const types = async (): Promise<string[]> =>
    (await collect(moved.events({ from: before + 1 }))).map(({ id, type }) => `${id} ${type}`);
  expect(await types()).toEqual(["ada Taken", "bob Given", "unhandled Completed"]);
  const again = { idempotencyKey: "first" };
  expect((await moved.get(Purse, "ada").execute({ type: "Fill", data: { amount: 10 } }, again)).position).toBe(1);
  for await (const event of moved.subscribe({ name: "mailer" })) {
    expect(event.position).toBe(5);
    break;
  }
  now += HOUR;
  expect(await moved.runProcessManagers()).toMatchObject({ deadLettered: 0 });
  expect((await types()).slice(3)).toEqual(["t2 TimedOut", "t/3 ü TimedOut"]);
  await moved.close();
}

async function move(source: AggregateStore, target: Storage): Promise<void> {
  await using store = await AggregateStore.open(target);
  const report = await store.import(source.export());
  expect(report).toEqual({ events: await source.head(), skipped: 0, renumbered: false, position: await source.head() });
}

type NewStorage = () => Storage | Promise<Storage>;

function moves(name: string, from: NewStorage, to: NewStorage): void {
  test(`moves a store from ${name}, with all that keeps it from doing anything again`, async () => {
    await using source = await open(await from());
    await fill(source);
    const target = await to();
    await move(source, target);
    await expectSame(source, target);
    if (typeof target === "string") expect((await verify(target)).clean).toBe(true);
  });

  test(`goes on after each cut on the way from ${name}`, async () => {
    await using source = await open(await from());
    await fill(source);
    const lines = await linesOf(source);
    const target = await to();
    for (let count = 0; count < lines.length; count++) {
      await using store = await AggregateStore.open(target);
      const imported = store.import(lines.slice(0, count));
      await expect(imported).rejects.toMatchObject({ code: "IMPORT_INVALID" });
      expect(await eventsOf(store)).toEqual((await eventsOf(source)).slice(0, await store.head()));
    }
    {
      await using store = await AggregateStore.open(target);
      expect(await store.import(lines)).toMatchObject({ events: 0, skipped: await source.head(), renumbered: false });
      expect(await store.import(lines)).toMatchObject({ events: 0, skipped: await source.head(), renumbered: false });
    }
    await expectSame(source, target);
  });
}

const directory = (): string => path.join(temporaryDirectory(), "store");

describe("export and import", () => {
  moves("files to memory", directory, memory);
  moves("memory to files", memory, directory);
  moves("files to files", directory, directory);

  test("bring a directory to memory and back without a difference", async () => {
    await using source = await open(directory());
    await fill(source);
    const [there, back] = [memory(), directory()];
    await move(source, there);
    await using between = await AggregateStore.open(there);
    await move(between, back);
    await expectSame(source, back);
  });

  test("add later what the source has done since", async () => {
    await using source = await open(directory());
    await fill(source);
    const target = memory();
    await move(source, target);
    await source.get(Purse, "ada").execute({ type: "Fill", data: { amount: 1 } });
    await source.get(Purse, "new").execute({ type: "Fill", data: { amount: 1 } });
    await using store = await AggregateStore.open(target);
    const head = await source.head();
    expect(await store.import(source.export())).toEqual({
      events: 2,
      skipped: head - 2,
      renumbered: false,
      position: head,
    });
    expect(await eventsOf(store)).toEqual(await eventsOf(source));
  });

  test("keep the places of deleted events, and nothing else of them", async () => {
    const source = await open(memory());
    for (const id of ["ada", "bob", "cyd"]) {
      await source.get(Account, id).execute(Account.commands.Open({ owner: `secret ${id}` }));
      await source.get(Account, id).execute(Account.commands.Deposit({ amount: 5 }));
    }
    await source.delete(Account, "ada");
    await source.delete(Account, "cyd", { final: true });
    await source.get(Account, "ada").execute(Account.commands.Open({ owner: "Eve" }));
    await source.delete(Account, "bob");
    await source.get(Account, "bob").execute(Account.commands.Open({ owner: "Bob" }));
    const exported = await linesOf(source);
    expect(exported.join("")).not.toContain("secret");
    const directory = temporaryDirectory();
    const targets = [directory, memory()];
    for (const target of targets) {
      const store = await open(target);
      expect(await store.import(exported)).toMatchObject({ renumbered: false, position: await source.head() });
      expect(await store.import(exported)).toMatchObject({ events: 0, renumbered: false });
      expect(await eventsOf(store)).toEqual(await eventsOf(source));
      expect(await store.list(Account)).toEqual(["ada", "bob"]);
      expect(await linesOf(store)).toEqual(exported);
      await expect(store.get(Account, "cyd").execute(Account.commands.Close())).rejects.toMatchObject({
        code: "INSTANCE_DELETED",
      });
      await store.close();
    }
    expect((await verify(directory)).findings).toEqual([]);
    // What the source has done since.
    await source.delete(Account, "ada");
    const store = await open(directory);
    expect(await store.import(await linesOf(source))).toMatchObject({ events: 1, renumbered: false });
    expect(await store.list(Account)).toEqual(["bob"]);
    await store.close();
    await source.close();
  });

  test("delete again in a store with other events", async () => {
    const source = await open(memory());
    await source.get(Account, "ada").execute(Account.commands.Open({ owner: "Ada" }));
    await source.delete(Account, "ada");
    await source.get(Account, "ada").execute(Account.commands.Open({ owner: "Eve" }));
    const target = await open(memory());
    await target.get(Account, "zoe").execute(Account.commands.Open({ owner: "Zoe" }));
    await target.get(Account, "ada").execute(Account.commands.Open({ owner: "Other" }));
    expect(await target.import(await linesOf(source))).toMatchObject({ events: 2, skipped: 1, renumbered: true });
    expect((await eventsOf(target)).map(({ id, type, version }) => `${id} ${type} ${version}`)).toEqual([
      "zoe Opened 1",
      "ada $deleted 2",
      "ada Opened 3",
    ]);
    await source.close();
    await target.close();
  });

  test("append to a store that has other events, once", async () => {
    await using source = await open(memory());
    await fill(source);
    await using target = await open(directory());
    await target.get(Purse, "ada").execute({ type: "Fill", data: { amount: 100 } });
    await target.get(Purse, "zoe").execute({ type: "Fill", data: { amount: 1 } });
    const [own, imported] = [await eventsOf(target), await eventsOf(source)];
    for (const [events, skipped] of [
      [imported.length, 0],
      [0, imported.length],
    ])
      expect(await target.import(source.export())).toEqual({
        ...{ events, skipped, renumbered: true },
        position: own.length + imported.length,
      });
    const found = await eventsOf(target);
    expect(found.slice(0, own.length)).toEqual(own);
    const plain = (events: readonly RecordedEvent[]) => events.map((event) => ({ ...event, position: 0, version: 0 }));
    expect(plain(found.slice(own.length))).toEqual(plain(imported));
    expect(found.map(({ position }) => position)).toEqual(found.map((_, i) => i + 1));
    expect((await target.get(Purse, "ada").state()).balance).toBe(104);
    // The managers here meet the events for the first time. Their commands are known by their keys.
    await target.runProcessManagers();
    const added = (await eventsOf(target)).slice(found.length).map(({ id, type }) => `${id} ${type}`);
    expect(added.filter((event) => event.startsWith("t1"))).toEqual([]);
  });

  test("bring the schedules of the program along, and send each command once", async () => {
    const storages = [directory(), memory(), directory()] as const;
    {
      await using source = await open(storages[0]);
      await source.schedule(Purse.at("later").Fill({ amount: 1 }), { at: START + HOUR, key: "own" });
      await source.schedule(Purse.at("now").Fill({ amount: 1 }), { at: START, key: "due" });
      await source.runProcessManagers();
    }
    for (const [from, to] of [
      [storages[0], storages[1]],
      [storages[1], storages[2]],
    ] as const) {
      await using source = await AggregateStore.builder(from).processManagerMode("manual").open();
      await using target = await AggregateStore.builder(to).processManagerMode("manual").open();
      await target.import(source.export());
    }
    await using moved = await open(storages[2], () => START + 2 * HOUR);
    await moved.runProcessManagers();
    expect((await moved.get(Purse, "later").state()).balance).toBe(1);
    expect((await moved.get(Purse, "now").state()).balance).toBe(1);
  });

  test("take turns with the process managers of the store", async () => {
    await using source = await open(memory());
    await fill(source);
    const errors: unknown[] = [];
    await using target = await AggregateStore.builder(memory())
      .aggregate(Purse)
      .aggregate(Transfer)
      .processManager(Transfers)
      .onProcessManagerError((error) => errors.push(error))
      .clock(() => START)
      .open();
    const before = await eventsOf(source);
    await target.import(source.export());
    await target.runProcessManagers();
    const added = (await eventsOf(target)).slice(before.length).map(({ id, type }) => `${id} ${type}`);
    expect(added).toEqual(["ada Taken", "bob Given", "unhandled Completed"]);
    expect(errors).toEqual([]);
  });

  test("are seen by instances and projections that are in memory", async () => {
    await using source = await open(memory());
    await fill(source);
    await using target = await open(memory());
    expect((await target.get(Purse, "ada").state()).balance).toBe(0);
    await target.import(source.export());
    expect(await target.get(Purse, "ada").state()).toEqual(await source.get(Purse, "ada").state());
  });

  test("keep schema versions, empty payloads, times with milliseconds and events without ids", async () => {
    const source = directory();
    const lines = [
      '{"type":"Added","data":null,"ts":1700000000,"ms":7,"v":3}',
      '{"type":"Other","data":{"__proto__":1,"n":[1.5,"\\u0000 ü 🦀"]},"ts":0,"id":"x","meta":{"a":{"b":null}}}',
    ];
    fs.mkdirSync(path.join(source, "streams/thing/x"), { recursive: true });
    fs.writeFileSync(path.join(source, "streams/thing/x/app.jsonl"), lines.map((line) => `${line}\n`).join(""));
    await using store = await AggregateStore.open(source);
    const target = memory();
    await move(store, target);
    await using moved = await AggregateStore.open(target);
    expect(await linesOf(moved)).toEqual(await linesOf(store));
    expect(await eventsOf(moved)).toEqual(await eventsOf(store));
  });

  test("refuse damaged, missing, repeated and strange lines, and import what comes before them", async () => {
    await using source = await open(memory());
    await fill(source);
    const lines = await linesOf(source);
    const index = lines.findIndex((line) => line.includes('"pos":4'));
    const damaged = (change: (line: string) => string): string[] =>
      lines.map((line, i) => (i === index ? change(line) : line));
    const cases: (readonly string[])[] = [
      damaged((line) => line.replace('"amount":6', '"amount":7')),
      damaged((line) => line.slice(0, 40)),
      damaged(() => ""),
      damaged(() => "[]"),
      damaged(() => '{"type":"Added"}'),
      damaged(() => lines[0] ?? ""),
      damaged((line) => line + lines[index]),
      lines.slice(1),
      [...lines, lines[index] ?? ""],
      [lines[0] ?? "", ...lines.slice(index)],
      [],
    ];
    for (const broken of cases) {
      await using target = await AggregateStore.open(memory());
      await expect(target.import(broken)).rejects.toMatchObject({ code: "IMPORT_INVALID" });
      expect(await eventsOf(target)).toEqual((await eventsOf(source)).slice(0, await target.head()));
    }
    await using target = await AggregateStore.open(memory());
    const later = (lines[0] ?? "").replace('"format":1', '"format":2').replace(/,"check":"[^"]*"/, "");
    await expect(target.import([later])).rejects.toMatchObject({ code: "UNSUPPORTED_FORMAT" });
  });

  test("refuse to go on where a process manager has done something else", async () => {
    await using source = await open(memory());
    await fill(source);
    await using target = await open(memory());
    const lines = await linesOf(source);
    const firstEvent = lines.findIndex((line) => line.includes('"pos":1'));
    await expect(target.import([...lines.slice(0, 2), ...lines.slice(firstEvent, firstEvent + 4)])).rejects.toThrow();
    await target.runProcessManagers();
    await expect(target.import(lines)).rejects.toMatchObject({ code: "IMPORT_CONFLICT" });
  });

  test("report their progress and end when they are aborted", async () => {
    await using source = await open(memory());
    for (let i = 0; i < 30; i++) {
      const amounts = Array.from({ length: 100 }, (_, n) => n);
      await source.get(Account, `a${i % 7}`).execute({ type: "Open", data: { owner: "x" } });
      await source.get(Account, `a${i % 7}`).execute({ type: "Split", data: { amounts } });
    }
    const head = await source.head();
    const progress: number[] = [];
    const exported: number[] = [];
    const lines = await collect(source.export({ onProgress: ({ events }) => exported.push(events) }));
    expect(exported.at(-1)).toBe(head);
    const target = memory();
    await using store = await AggregateStore.open(target);
    const stop = new AbortController();
    const cut = store.import(lines, {
      signal: stop.signal,
      onProgress: ({ events }) => {
        if (events === 2000) stop.abort(new Error("enough"));
      },
    });
    await expect(cut).rejects.toThrow("enough");
    await store.import(lines, { onProgress: (p) => progress.push(p.events / p.head) });
    expect(progress.at(-1)).toBe(1);
    expect(await eventsOf(store)).toEqual(await eventsOf(source));
    stop.signal.throwIfAborted = () => {};
    await expect(collect(source.export({ signal: AbortSignal.abort(new Error("no")) }))).rejects.toThrow("no");
  });

  test("are refused by a store that only reads", async () => {
    const source = directory();
    await (await open(source)).close();
    await using store = await AggregateStore.builder(source).readOnly().open();
    expect(await linesOf(store)).toHaveLength(2);
    await expect(store.import(store.export())).rejects.toMatchObject({ code: "READ_ONLY" });
  });
});

test("an export keeps no more than some events in memory", async () => {
  const Big = aggregate("big", {
    initial: {},
    events: { Grown: data<{ text: string }>() },
    commands: { Grow: data() },
  }).define({ handle: { Grow: ({ emit }) => emit.Grown({ text: "x".repeat(50_000) }) }, apply: { Grown: (s) => s } });
  await using source = await AggregateStore.builder(directory()).aggregate(Big).durability("os").open();
  for (let i = 0; i < 1000; i++) await source.get(Big, `b${i % 10}`).execute({ type: "Grow" });
  await using target = await AggregateStore.open(directory());
  let read = 0;
  let ahead = 0;
  async function* counted(): AsyncGenerator<string> {
    for await (const line of source.export()) {
      read++;
      ahead = Math.max(ahead, read - (await target.head()));
      yield line;
    }
  }
  await target.import(counted());
  expect(await target.head()).toBe(1000);
  expect(ahead).toBeLessThan(200);
});

describeServers("export and import with a server", ({ name, storage }) => {
  moves(`files to ${name}`, directory, storage);
  moves(`${name} to files`, storage, directory);
  moves(`${name} to memory`, storage, memory);
});
