import { AggregateStore, type EventStorage, memory, type StorageOptions } from "eventfold-es";
import { openNodeFileSystem } from "eventfold-es/testing";
import { describe, expect, test } from "vitest";
import { MemoryEventStore } from "../../src/event-store/memory-event-store.ts";
import { Account } from "../support/account.ts";
import { collect } from "../support/collect.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const { Open, Deposit } = Account.commands;

describe("a store in memory", () => {
  test("finds its events again when it is opened on the same storage", async () => {
    const storage = memory();
    const first = await AggregateStore.open(storage);
    await first.get(Account, "ada").execute(Open({ owner: "Ada" }));
    await first.close();
    await using second = await AggregateStore.open(storage);
    expect(await second.get(Account, "ada").state()).toMatchObject({ open: true });
    expect((await second.get(Account, "ada").execute(Deposit({ amount: 1 }))).version).toBe(2);
  });

  test("is empty on a storage of its own", async () => {
    await using one = await AggregateStore.open(memory());
    await using other = await AggregateStore.open(memory());
    await one.get(Account, "ada").execute(Open({ owner: "Ada" }));
    expect(await other.list(Account)).toEqual([]);
  });

  test("shares its events with another store on the same storage", async () => {
    const storage = memory();
    await using one = await AggregateStore.open(storage);
    await using other = await AggregateStore.open(storage);
    await one.get(Account, "ada").execute(Open({ owner: "Ada" }));
    const deposits = Array.from({ length: 40 }, (_, n) =>
      (n % 2 === 0 ? one : other).get(Account, "ada").execute(Deposit({ amount: 1 })),
    );
    await Promise.all(deposits);
    for (const store of [one, other]) {
      expect((await store.get(Account, "ada").state()).balance).toBe(40);
      expect(await collect(store.readEvents("account", "ada"))).toHaveLength(41);
    }
  });

  test("tells a subscription of another store on the same storage", async () => {
    const storage = memory();
    await using one = await AggregateStore.open(storage);
    await using other = await AggregateStore.open(storage);
    const seen = other.subscribe()[Symbol.asyncIterator]();
    const next = seen.next();
    await one.get(Account, "ada").execute(Open({ owner: "Ada" }));
    expect((await next).value).toMatchObject({ type: "Opened", id: "ada", position: 1 });
    await seen.return?.();
  });
});

describe("a storage of one's own", () => {
  test("is opened with what the builder was given, and closed with the store", async () => {
    const events = new MemoryEventStore();
    const opened: StorageOptions[] = [];
    const storage: EventStorage = {
      name: "mine",
      async open(options) {
        opened.push(options);
        return events;
      },
    };
    let next = 0;
    const builder = AggregateStore.builder(storage)
      .aggregate(Account)
      .durability("os")
      .clock(() => new Date(1234))
      .ids(() => `id-${++next}`);
    expect(opened).toEqual([]);
    const store = await builder.open();
    expect(opened).toHaveLength(1);
    const [options] = opened;
    expect([options?.durability, options?.now(), options?.nextId()]).toEqual(["os", 1234, "id-1"]);
    await store.get(Account, "ada").execute(Open({ owner: "Ada" }));
    expect(await events.head()).toBe(1);
    await store.close();
    await expect(events.head()).rejects.toMatchObject({ code: "STORE_CLOSED" });
  });

  test("fails the opening with its own error", async () => {
    const error = new Error("no connection");
    const storage: EventStorage = { name: "mine", open: () => Promise.reject(error) };
    await expect(AggregateStore.open(storage)).rejects.toBe(error);
  });
});

describe("what is no storage", () => {
  const wrong: readonly [unknown, RegExp][] = [
    ["", /found ""/],
    [undefined, /found undefined/],
    [null, /found null/],
    [5, /found 5/],
    [{}, /found an object without open\(options\)/],
    [{ open: true }, /found an object without open\(options\)/],
    [memory, /found a function; call it/],
    [Symbol("s"), /found Symbol\(s\)/],
    [10n, /found 10/],
    ["file:///tmp/data", /found the URL file:\/\/\/tmp\/data; for a directory, pass fileURLToPath\(url\)/],
    [new URL("file:///tmp/data"), /found the URL file:\/\/\/tmp\/data; for a directory, pass fileURLToPath\(url\)/],
    ["postgres://localhost/data", /found the URL postgres:/],
  ];
  test.each(wrong)("%s is refused at once, with what was expected", async (value, found) => {
    const expected = { code: "INVALID_ARGUMENT", message: expect.stringMatching(found) as string };
    expect(() => AggregateStore.builder(value as never)).toThrow(expect.objectContaining(expected));
    await expect(AggregateStore.open(value as never)).rejects.toMatchObject(expected);
  });

  test.each<[string, (builder: ReturnType<typeof AggregateStore.builder>) => unknown]>([
    ["clock", (builder) => builder.clock(5 as never)],
    ["ids", (builder) => builder.ids("x" as never)],
    ["onUnknownEvent", (builder) => builder.onUnknownEvent("ignore" as never)],
    ["onProcessManagerError", (builder) => builder.onProcessManagerError(undefined as never)],
    ["processManagerMode", (builder) => builder.processManagerMode("sometimes" as never)],
    ["durability", (builder) => builder.durability("none" as never)],
    ["idleTimeout", (builder) => builder.idleTimeout("soon" as never)],
  ])("a builder's %s refuses a wrong argument at once", (_, call) => {
    expect(() => call(AggregateStore.builder(memory()))).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  });

  test("a file system is for stores in directories", async () => {
    const fileSystem = await openNodeFileSystem();
    expect(() => AggregateStore.builder(memory()).fileSystem(fileSystem)).toThrow(
      expect.objectContaining({
        code: "INVALID_ARGUMENT",
        message: expect.stringMatching(/expected a store in a directory, found memory\(\)/) as string,
      }),
    );
    const store = await AggregateStore.builder(temporaryDirectory()).fileSystem(fileSystem).open();
    await store.close();
  });
});
