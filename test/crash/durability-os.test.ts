import { AggregateStore } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { collect } from "../support/collect.ts";
import { InterceptedFileSystem } from "../support/intercepted-file-system.ts";
import { allLines, oneTo } from "../support/store-files.ts";
import { copyOf, temporaryDirectory } from "../support/temporary-directory.ts";

describe('durability "os"', () => {
  test("acknowledges before the flush, and everything is there after closing", async () => {
    const directory = temporaryDirectory();
    const disk = await InterceptedFileSystem.create();
    const store = await AggregateStore.builder(directory)
      .aggregate(Account)
      .durability("os")
      .fileSystem(disk.fileSystem)
      .open();
    // A store that waited for a durable write would wait for ever.
    disk.onDurableWrite = () => new Promise(() => {});
    const account = store.get(Account, "a");
    await account.execute({ type: "Open", data: { owner: "Ada" } });
    for (const amount of oneTo(50)) await account.execute({ type: "Deposit", data: { amount } });
    expect(await account.state()).toEqual({ open: true, balance: 1275 });
    expect(await collect(account.events())).toHaveLength(51);
    const crashed = copyOf(directory);
    disk.onDurableWrite = (write, length) => write(length);
    await store.close();
    for (const place of [directory, crashed]) {
      await using again = await AggregateStore.builder(place).aggregate(Account).open();
      expect((await again.get(Account, "a").state()).balance).toBe(1275);
      expect(allLines(place).map(({ line }) => line.pos)).toEqual(oneTo(51));
    }
  });

  test("two stores on one directory see each other's flushed events", async () => {
    const directory = temporaryDirectory();
    const open = () => AggregateStore.builder(directory).aggregate(Account).durability("os").open();
    await using one = await open();
    await using two = await open();
    await one.get(Account, "a").execute({ type: "Open", data: { owner: "Ada" } });
    // Others see a commit when it is flushed, a moment later.
    await expect.poll(async () => (await two.get(Account, "a").state()).open).toBe(true);
    await Promise.all(
      oneTo(50).flatMap((amount) => [one, two].map((store) => store.dispatch(Account.at("a").Deposit({ amount })))),
    );
    for (const store of [one, two])
      await expect.poll(async () => (await store.get(Account, "a").state()).balance).toBe(2550);
    expect(await collect(two.readEvents("account", "a"))).toHaveLength(101);
  });
});
