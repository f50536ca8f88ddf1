import * as fs from "node:fs";
import * as path from "node:path";
import { AggregateStore } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { collect } from "../support/collect.ts";
import { allLines, linesOf, logSegments, oneTo, streamFile, treeOf } from "../support/store-files.ts";
import { copyOf, temporaryDirectory } from "../support/temporary-directory.ts";

function open(directory: string) {
  return AggregateStore.builder(directory).aggregate(Account).open();
}

function logOf(directory: string): string {
  const [segment, ...others] = logSegments(directory);
  if (segment === undefined || others.length > 0) throw new Error("there is not one segment");
  return segment;
}

/** A log's bytes without the space preallocated for the next records. */
function used(bytes: Buffer): Buffer {
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === 0) end--;
  return bytes.subarray(0, end);
}

/** A store after five commits and the death of its process, and the bytes that a sixth commit would append to the log. */
async function crashedStore(): Promise<{ readonly directory: string; readonly end: number; readonly sixth: Buffer }> {
  const alive = temporaryDirectory();
  const store = await open(alive);
  await store.get(Account, "a").execute({ type: "Open", data: { owner: "Ada" } });
  for (const amount of oneTo(4)) await store.get(Account, "a").execute({ type: "Deposit", data: { amount } });
  const directory = copyOf(alive);
  const { length: end } = used(fs.readFileSync(logOf(directory)));
  await store.dispatchAll([
    Account.at("a").Split({ amounts: [100, 200] }),
    Account.at("b").Open({ owner: "größe".repeat(50) }),
  ]);
  const sixth = Buffer.from(used(fs.readFileSync(logOf(alive))).subarray(end));
  await store.close();
  return { directory, end, sixth };
}

function writeAt(file: string, bytes: Uint8Array, position: number): void {
  const descriptor = fs.openSync(file, "r+");
  fs.writeSync(descriptor, bytes, 0, bytes.length, position);
  fs.closeSync(descriptor);
}

/** Expects a working store with the five commits. */
async function expectFiveCommits(directory: string): Promise<void> {
  const store = await open(directory);
  const account = store.get(Account, "a");
  expect(await account.state()).toEqual({ open: true, balance: 10 });
  expect(await store.list(Account)).toEqual(["a"]);
  expect(await account.execute({ type: "Deposit", data: { amount: 5 } })).toMatchObject({ version: 6, position: 6 });
  await store.close();
  await using again = await open(directory);
  expect(await again.get(Account, "a").state()).toEqual({ open: true, balance: 15 });
  expect(allLines(directory).map(({ line }) => line.pos)).toEqual(oneTo(6));
}

describe("the end of the commit log after a crash", () => {
  test("a record that was cut short is moved to quarantine and does not count, wherever it was cut", async () => {
    const { directory, end, sixth } = await crashedStore();
    const lengths = [1, 2, 10, 60, 100, 200, 300, Math.floor(sixth.length / 2), sixth.length - 2, sixth.length - 1];
    for (const length of lengths) {
      const copy = copyOf(directory);
      writeAt(logOf(copy), sixth.subarray(0, length), end);
      await expectFiveCommits(copy);
      expect([...treeOf(path.join(copy, "meta/quarantine")).values()].map(String)).toEqual([
        sixth.subarray(0, length).toString(),
      ]);
    }
  });

  test("a record whose pages arrived in another order does not count", async () => {
    const { directory, end, sixth } = await crashedStore();
    const middle = Math.floor(sixth.length / 2);
    writeAt(logOf(directory), sixth.subarray(middle), end + middle);
    await expectFiveCommits(directory);
  });

  test.each([
    ["garbage", Buffer.from("\u0001garbage\n{}\n\u00ff\n")],
    ["text that looks like a record", Buffer.from('{"commit":6,"events":1,"bytes":10,"flushed":0,"crc":"00000000"}\n')],
    [
      "an absurd number of bytes",
      Buffer.from('{"commit":6,"events":1,"bytes":9999999999999,"flushed":0,"crc":"00000000"}\n'),
    ],
    ["one long line", Buffer.alloc(5000, "x")],
  ])("%s is moved to quarantine", async (_, garbage) => {
    const { directory, end } = await crashedStore();
    writeAt(logOf(directory), garbage, end);
    await expectFiveCommits(directory);
    const [kept] = treeOf(path.join(directory, "meta/quarantine")).values();
    expect(kept?.equals(garbage)).toBe(true);
  });

  test("a whole record counts, even if its streams lack its lines", async () => {
    const { directory, end, sixth } = await crashedStore();
    writeAt(logOf(directory), sixth, end);
    const store = await open(directory);
    expect(await store.list(Account)).toEqual(["a", "b"]);
    expect((await store.get(Account, "a").state()).balance).toBe(310);
    expect((await store.get(Account, "b").state()).open).toBe(true);
    expect((await store.get(Account, "b").execute({ type: "Close" })).position).toBe(9);
    await store.close();
    expect(linesOf(streamFile(directory, "account", "a"))).toHaveLength(7);
    expect(linesOf(streamFile(directory, "account", "b"))).toHaveLength(2);
  });

  test("streams that lost lines of the log get them back", async () => {
    const { directory } = await crashedStore();
    const file = streamFile(directory, "account", "a");
    const whole = fs.readFileSync(file);
    for (const size of [whole.length - 1, Math.floor(whole.length / 2), 1, 0]) {
      const copy = copyOf(directory);
      fs.truncateSync(streamFile(copy, "account", "a"), size);
      await using store = await open(copy);
      expect((await store.get(Account, "a").state()).balance).toBe(10);
      expect(fs.readFileSync(streamFile(copy, "account", "a")).equals(whole)).toBe(true);
    }
    fs.rmSync(path.join(directory, "streams"), { recursive: true });
    fs.rmSync(path.join(directory, "meta", "streams.jsonl"));
    await using store = await open(directory);
    expect((await store.get(Account, "a").state()).balance).toBe(10);
    expect(await store.list(Account)).toEqual(["a"]);
    expect(fs.readFileSync(file).equals(whole)).toBe(true);
  });
});

describe("damage", () => {
  test("in the middle of the commit log is an error that names the file, and no byte is removed", async () => {
    const { directory } = await crashedStore();
    const log = logOf(directory);
    const bytes = fs.readFileSync(log);
    const place = bytes.indexOf('"amount":2');
    writeAt(log, Buffer.from('"amount":7'), place);
    const before = fs.readFileSync(log);
    const error: unknown = await open(directory).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: "CORRUPT_LOG", file: log, message: expect.stringContaining(log) as string });
    expect((error as { offset: number }).offset).toBeLessThanOrEqual(place);
    expect((error as { offset: number }).offset).toBeGreaterThan(0);
    expect(fs.readFileSync(log).equals(before)).toBe(true);
    await expect(open(directory)).rejects.toMatchObject({ code: "CORRUPT_LOG" });
  });

  test("that makes the log shorter than the marker is an error that names the file", async () => {
    const { directory } = await crashedStore();
    await (await open(directory)).close();
    const log = logOf(directory);
    fs.truncateSync(log, Math.floor(fs.statSync(log).size / 2));
    await expect(open(directory)).rejects.toMatchObject({ code: "CORRUPT_LOG", file: log });
  });

  test.each([
    ["a line that is not JSON", "}"],
    ["bytes that are not UTF-8", Buffer.from([0xff])],
    ["a NUL byte", "\u0000"],
  ])("%s in a stream is an error with file, line and byte; other streams work", async (_, damage) => {
    const directory = temporaryDirectory();
    const store = await open(directory);
    for (const id of ["bad", "good"]) {
      await store.get(Account, id).execute({ type: "Open", data: { owner: "Ada" } });
      for (const amount of oneTo(3)) await store.get(Account, id).execute({ type: "Deposit", data: { amount } });
    }
    await store.close();
    const file = streamFile(directory, "account", "bad");
    const bytes = fs.readFileSync(file);
    const [first = "", second = ""] = bytes.toString().split("\n");
    const offset = first.length + second.length + 2;
    writeAt(file, Buffer.from(damage), offset + '{"type":"Deposited","data":{"amount":'.length);

    await using again = await open(directory);
    const expected = { code: "CORRUPT_STREAM", file, line: 3, offset };
    const bad = again.get(Account, "bad");
    await expect(bad.state()).rejects.toMatchObject(expected);
    await expect(bad.execute({ type: "Close" })).rejects.toMatchObject(expected);
    await expect(collect(bad.events())).rejects.toMatchObject(expected);
    await expect(again.dispatchAll([Account.at("good").Close(), Account.at("bad").Close()])).rejects.toMatchObject(
      expected,
    );
    const good = again.get(Account, "good");
    expect(await good.state()).toEqual({ open: true, balance: 6 });
    expect((await good.execute({ type: "Close" })).version).toBe(5);
    expect(fs.readFileSync(file)).toHaveLength(bytes.length);
  });
});
