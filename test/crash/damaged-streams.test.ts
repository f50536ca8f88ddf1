import fs from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { AggregateStore } from "eventfold-es";
import { Account } from "../support/account.ts";
import { collect } from "../support/collect.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const { Open, Deposit } = Account.commands;

/** A store, closed in good order, with a stream of three events. */
async function closedStore(): Promise<{ directory: string; file: string }> {
  const directory = temporaryDirectory();
  const store = await AggregateStore.open(directory);
  for (const id of ["bad", "good"]) {
    const account = store.get(Account, id);
    await account.execute(Open({ owner: "Ada" }));
    await account.execute(Deposit({ amount: 11 }));
    await account.execute(Deposit({ amount: 22 }));
  }
  await store.close();
  // These tests are not about snapshots.
  fs.rmSync(path.join(directory, "streams/account/bad/views"), { recursive: true, force: true });
  return { directory, file: path.join(directory, "streams/account/bad/app.jsonl") };
}

describe("a stream's file that changed while the store was closed", () => {
  const damages: readonly (readonly [string, (file: string, text: string) => void, number | undefined])[] = [
    ["another amount", (file, text) => fs.writeFileSync(file, text.replace('"amount":11', '"amount":91')), 2],
    ["two lines exchanged", (file, text) => fs.writeFileSync(file, swapLines(text)), 2],
    ["the last line gone", (file, text) => fs.writeFileSync(file, text.slice(0, text.lastIndexOf('{"type"'))), 3],
    ["half of the last line gone", (file, text) => fs.writeFileSync(file, text.slice(0, -20)), 3],
    ["empty", (file) => fs.writeFileSync(file, ""), 1],
    ["gone", (file) => fs.rmSync(file), 1],
    ["gone with its directory", (file) => fs.rmSync(path.dirname(file), { recursive: true }), 1],
  ];

  test.each(damages)("%s: the error names the place, and other streams work", async (_, damage, line) => {
    const { directory, file } = await closedStore();
    damage(file, fs.readFileSync(file, "utf8"));
    await using store = await AggregateStore.open(directory);
    const bad = store.get(Account, "bad");
    const expected = { code: "CORRUPT_STREAM", file, line };
    await expect(bad.state()).rejects.toMatchObject(expected);
    await expect(collect(bad.events())).rejects.toMatchObject(expected);
    await expect(bad.execute(Deposit({ amount: 1 }))).rejects.toMatchObject(expected);
    expect((await store.get(Account, "good").execute(Deposit({ amount: 1 }))).state.balance).toBe(34);
  });

  test("a damaged line before a snapshot does not change the state, and is found when it is read", async () => {
    const directory = temporaryDirectory();
    let store = await AggregateStore.open(directory);
    const { events } = await store.get(Account, "ada").execute(Open({ owner: "Ada" }));
    expect(events).toHaveLength(1);
    for (let i = 0; i < 120; i++) await store.get(Account, "ada").execute(Deposit({ amount: 1 }));
    await store.close();
    const file = path.join(directory, "streams/account/ada/app.jsonl");
    fs.writeFileSync(file, fs.readFileSync(file, "utf8").replace('"amount":1', '"amount":9'));
    store = await AggregateStore.open(directory);
    expect((await store.get(Account, "ada").state()).balance).toBe(120);
    await expect(collect(store.get(Account, "ada").events())).rejects.toMatchObject({
      code: "CORRUPT_STREAM",
      line: 2,
    });
    await store.close();
  });
});

describe("meta/stream_ends is only a cache", () => {
  const damages: readonly (readonly [string, (file: string) => void])[] = [
    ["deleted", (file) => fs.rmSync(file)],
    ["cut", (file) => fs.truncateSync(file, 100)],
    ["zeros", (file) => fs.writeFileSync(file, Buffer.alloc(fs.statSync(file).size))],
    [
      "every slot damaged",
      (file) =>
        fs.writeFileSync(
          file,
          fs.readFileSync(file).map((b, i) => (i % 32 === 20 ? b ^ 1 : b)),
        ),
    ],
    ["from another store", (file) => fs.copyFileSync(otherEnds, file)],
  ];
  let otherEnds = "";

  test.each(damages)("%s: the store writes it again", async (_, damage) => {
    const other = await closedStore();
    otherEnds = path.join(other.directory, "meta/stream_ends");
    const extra = await AggregateStore.open(other.directory);
    for (let i = 0; i < 5; i++) await extra.get(Account, "bad").execute(Deposit({ amount: 5 }));
    await extra.close();
    const { directory, file } = await closedStore();
    damage(path.join(directory, "meta/stream_ends"));
    let store = await AggregateStore.open(directory);
    expect((await store.get(Account, "bad").execute(Deposit({ amount: 1 }))).version).toBe(4);
    await store.close();
    fs.rmSync(path.join(directory, "streams/account/bad/views"), { recursive: true, force: true });
    fs.writeFileSync(file, fs.readFileSync(file, "utf8").replace('"amount":11', '"amount":91'));
    store = await AggregateStore.open(directory);
    await expect(store.get(Account, "bad").state()).rejects.toMatchObject({ code: "CORRUPT_STREAM", line: 2 });
    await store.close();
  });

  test("it grows with the number of streams", async () => {
    const directory = temporaryDirectory();
    let store = await AggregateStore.builder(directory).aggregate(Account).open();
    for (let i = 0; i < 3; i++) {
      await Promise.all(
        Array.from({ length: 400 }, (_, n) => store.dispatch(Account.at(`a${i}-${n}`).Open({ owner: "x" }))),
      );
      await store.close();
      store = await AggregateStore.builder(directory).aggregate(Account).open();
    }
    await store.close();
    const meta = path.join(directory, "meta/stream_ends");
    const ends = fs.readFileSync(meta);
    expect(Number(ends.readBigUInt64BE(24))).toBe(1200);
    store = await AggregateStore.builder(directory).aggregate(Account).open();
    for (let n = 0; n < 400; n++) {
      const { version } = await store.dispatch(Account.at(`a1-${n}`).Deposit({ amount: 1 }));
      expect(version).toBe(2);
    }
    await store.close();
  });
});

function swapLines(text: string): string {
  const [a = "", b = "", c = ""] = text.split("\n");
  return `${a}\n${c}\n${b}\n`;
}
