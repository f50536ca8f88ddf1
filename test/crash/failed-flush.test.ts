import { AggregateStore } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { collect } from "../support/collect.ts";
import { gate, InterceptedFileSystem, systemError } from "../support/intercepted-file-system.ts";
import { allLines, linesOf, oneTo, streamFile } from "../support/store-files.ts";
import { copyOf, temporaryDirectory } from "../support/temporary-directory.ts";

describe("a slow flush", () => {
  test("hides its events from all readers until it is done", async () => {
    const directory = temporaryDirectory();
    const disk = await InterceptedFileSystem.create();
    await using store = await AggregateStore.builder(directory).aggregate(Account).fileSystem(disk.fileSystem).open();
    await using other = await AggregateStore.builder(directory).aggregate(Account).open();
    const account = store.get(Account, "a");
    await account.execute({ type: "Open", data: { owner: "Ada" } });

    const { wait, open } = gate();
    disk.onDurableWrite = async (write, length) => {
      await write(length);
      await wait();
    };
    const answered: string[] = [];
    const note = (what: string) => () => void answered.push(what);
    const commands = [
      account.execute({ type: "Deposit", data: { amount: 5 } }).then(note("deposit")),
      // Decided on top of the deposit, without events and with a rejection: their replies would reveal it.
      account.execute({ type: "Open", data: { owner: "Bob" } }).then(note("nothing")),
      account.try({ type: "Withdraw", data: { amount: 99 } }).then(note("rejection")),
      store
        .get(Account, "new")
        .execute({ type: "Open", data: { owner: "Cyd" } })
        .then(note("new")),
    ];
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(answered).toEqual([]);
    for (const someone of [store, other]) {
      expect(await someone.get(Account, "a").state()).toEqual({ open: true, balance: 0 });
      expect(await collect(someone.get(Account, "a").events())).toHaveLength(1);
      expect(await collect(someone.readEvents("account", "a"))).toHaveLength(1);
      expect(await someone.list(Account)).toEqual(["a"]);
    }
    expect(linesOf(streamFile(directory, "account", "a"))).toHaveLength(1);

    open();
    await Promise.all(commands);
    expect(answered.sort()).toEqual(["deposit", "new", "nothing", "rejection"]);
    expect((await account.state()).balance).toBe(5);
    expect((await other.get(Account, "a").state()).balance).toBe(5);
    expect(await other.list(Account)).toEqual(["a", "new"]);
  });
});

describe.each([
  { failure: "before anything is written", part: 0 },
  { failure: "in the middle of the write", part: 0.5 },
  { failure: "after everything is written", part: 1 },
])("a flush that fails $failure", ({ part }) => {
  async function failingStore() {
    const directory = temporaryDirectory();
    const disk = await InterceptedFileSystem.create();
    const store = await AggregateStore.builder(directory).aggregate(Account).fileSystem(disk.fileSystem).open();
    const account = store.get(Account, "a");
    await account.execute({ type: "Open", data: { owner: "Ada" } });
    const fail = (code: string): void => {
      disk.onDurableWrite = async (write, length) => {
        if (part > 0) await write(Math.floor(length * part));
        throw systemError(code);
      };
    };
    const repair = (): void => {
      disk.onDurableWrite = (write, length) => write(length);
    };
    return { directory, store, account, fail, repair };
  }

  test("fails its commands and those decided on top of them, no others, and the store keeps working", async () => {
    const { directory, store, account, fail, repair } = await failingStore();
    fail("EIO");
    const outcomes = await Promise.allSettled([
      account.execute({ type: "Deposit", data: { amount: 1 } }),
      account.execute({ type: "Deposit", data: { amount: 2 } }),
      account.try({ type: "Withdraw", data: { amount: 99 } }),
      store.get(Account, "b").execute({ type: "Open", data: { owner: "Bob" } }),
    ]);
    for (const outcome of outcomes)
      expect(outcome).toMatchObject({ status: "rejected", reason: { code: "IO_ERROR", cause: { code: "EIO" } } });
    expect(await account.state()).toEqual({ open: true, balance: 0 });
    expect(await store.list(Account)).toEqual(["a"]);

    repair();
    const result = await account.execute({ type: "Deposit", data: { amount: 10 } });
    expect(result).toMatchObject({ version: 2, position: 2, state: { balance: 10 } });
    await store.get(Account, "b").execute({ type: "Open", data: { owner: "Bob" } });
    const crashed = copyOf(directory);
    await store.close();
    for (const place of [directory, crashed]) {
      await using again = await AggregateStore.builder(place).aggregate(Account).open();
      expect(await again.get(Account, "a").state()).toEqual({ open: true, balance: 10 });
      expect(allLines(place)).toHaveLength(3);
    }
  });

  test("is not undone by closing", async () => {
    const { directory, store, account, fail, repair } = await failingStore();
    fail("EIO");
    await expect(account.execute({ type: "Deposit", data: { amount: 1 } })).rejects.toMatchObject({ code: "IO_ERROR" });
    repair();
    await store.close();
    await using again = await AggregateStore.builder(directory).aggregate(Account).open();
    expect(await again.get(Account, "a").state()).toEqual({ open: true, balance: 0 });
  });

  test("is not undone by another store on the directory", async () => {
    const { directory, store, account, fail, repair } = await failingStore();
    await using other = await AggregateStore.builder(directory).aggregate(Account).open();
    fail("EIO");
    await expect(account.execute({ type: "Deposit", data: { amount: 1 } })).rejects.toMatchObject({ code: "IO_ERROR" });
    const result = await other.get(Account, "a").execute({ type: "Deposit", data: { amount: 10 } });
    expect(result).toMatchObject({ version: 2, position: 2, state: { balance: 10 } });
    repair();
    const next = await account.execute({ type: "Deposit", data: { amount: 100 } });
    expect(next).toMatchObject({ version: 3, position: 3, state: { balance: 110 } });
    await store.close();
  });

  test("on a full disk reports that; reads still work, and so do commands once there is space", async () => {
    const { store, account, fail, repair } = await failingStore();
    fail("ENOSPC");
    for (const amount of oneTo(3))
      await expect(account.execute({ type: "Deposit", data: { amount } })).rejects.toMatchObject({ code: "DISK_FULL" });
    expect(await collect(account.events())).toHaveLength(1);
    repair();
    expect((await account.execute({ type: "Deposit", data: { amount: 1 } })).version).toBe(2);
    await store.close();
  });
});
