import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { AggregateStore, isEventfoldError } from "eventfold-es";
import {
  checkStoreFiles,
  diskAfterKill,
  openNodeFileSystem,
  SimulatedDisk,
  type StoreFiles,
} from "eventfold-es/testing";
import { describe, expect, onTestFinished, test } from "vitest";
import { Account } from "../support/account.ts";
import { collect } from "../support/collect.ts";
import { filesOf } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

type FileSystem = Awaited<ReturnType<typeof openNodeFileSystem>>;
type Store = Awaited<ReturnType<typeof openStore>>;

function openStore(directory: string, fileSystem: FileSystem) {
  return AggregateStore.builder(directory).aggregate(Account).fileSystem(fileSystem).open();
}

/** Executes a command of several events. Returns whether it succeeded; throws any error but STORE_DISK_FULL. */
async function split(store: Store, id: string, amounts: readonly number[]): Promise<boolean> {
  try {
    await store.dispatchAll([Account.at(id).Open({ owner: "Ada" }), Account.at(id).Split({ amounts: [...amounts] })]);
    return true;
  } catch (error) {
    expect(error).toSatisfy((thrown) => isEventfoldError(thrown, "DISK_FULL"));
    return false;
  }
}

/** Expects acknowledged commands, whole, and nothing else: in states, events and files. */
async function expectBalances(store: Store, balances: ReadonlyMap<string, number>): Promise<void> {
  expect(await store.list(Account)).toEqual([...balances.keys()].sort());
  for (const [id, balance] of balances) {
    expect((await store.get(Account, id).state()).balance, id).toBe(balance);
    const events = await collect(store.readEvents("account", id));
    const deposits = events.flatMap(({ type, data }) =>
      type === "Deposited" ? [(data as { amount: number }).amount] : [],
    );
    expect(
      deposits.reduce((sum, amount) => sum + amount, 0),
      id,
    ).toBe(balance);
  }
}

async function expectFiles(files: StoreFiles, directory: string, store: Store): Promise<void> {
  const events = [];
  for (const { type, id } of await store.listStreams()) events.push(...(await collect(store.readEvents(type, id))));
  await store.close();
  events.sort((a, b) => a.position - b.position);
  checkStoreFiles(files, directory, events);
}

/** A file system in memory of this size in bytes; `undefined` if this machine does not allow one. */
function smallFileSystem(megabytes: number): string | undefined {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return undefined;
  const directory = temporaryDirectory();
  const options = ["-t", "tmpfs", "-o", `size=${megabytes}m`, "tmpfs", directory];
  if (spawnSync("mount", options).status !== 0) return undefined;
  onTestFinished(() => void spawnSync("umount", ["--lazy", directory]));
  return directory;
}

/** Fills a file system to its last byte. */
function fill(file: string): void {
  const descriptor = fs.openSync(file, "a");
  try {
    for (let size = 65_536; size >= 1;) {
      try {
        if (fs.writeSync(descriptor, Buffer.alloc(size, "x")) < size) size = Math.floor(size / 2);
      } catch (error) {
        expect(error).toMatchObject({ code: "ENOSPC" });
        size = Math.floor(size / 2);
      }
    }
  } finally {
    fs.closeSync(descriptor);
  }
}

describe("a store on a file system that is full to the last byte", () => {
  test("refuses commands, still reads, and accepts commands again once there is space", async (context) => {
    const mounted = smallFileSystem(8);
    if (mounted === undefined) return context.skip("a small file system can be mounted by root on Linux only");
    const directory = path.join(mounted, "store");
    const filler = path.join(mounted, "filler");
    let store = await openStore(directory, await openNodeFileSystem());
    const balances = new Map<string, number>();
    const attempt = async (id: string, amounts: readonly number[]): Promise<boolean> => {
      if (!(await split(store, id, amounts))) return false;
      balances.set(id, (balances.get(id) ?? 0) + amounts.reduce((sum, amount) => sum + amount, 0));
      return true;
    };
    for (let round = 0; round < 3; round++) {
      expect(await attempt("a", [1, 2, 3])).toBe(true);
      fill(filler);
      // Space that the log has preallocated is used up first.
      const many = Array.from({ length: 400 }, (_, i) => i);
      for (let tries = 0; tries < 200 && (await attempt(`b${round}`, many)); tries++) fill(filler);
      fill(filler);
      for (const id of ["a", `b${round}`, "new"]) expect(await attempt(id, many)).toBe(false);
      await expectBalances(store, balances);
      fs.rmSync(filler);
      for (const id of ["a", `b${round}`, `new${round}`]) expect(await attempt(id, [7, 8])).toBe(true);
      await expectBalances(store, balances);
    }
    await expectFiles(filesOf(directory), directory, store);
    store = await openStore(directory, await openNodeFileSystem());
    await expectBalances(store, balances);
    await store.close();
  });
});

/** Calls that can fail because the disk is full. */
const GROWING = new Set(["makeDirectory", "write", "writeDurably", "flush", "rename", "syncDirectory"]);

describe.each([
  ["one call", 1, 0],
  ["one call, of which a part is written", 1, 40],
  ["that call and all after it", Infinity, 0],
  ["that call and all after it, of which a part is written", Infinity, 40],
])("ENOSPC at each call of a commit in turn: %s", (_, calls, written) => {
  test("the command fails or succeeds as a whole, and the next one works", async () => {
    const disk = new SimulatedDisk({ record: false });
    const first = await openStore("/store", disk.process());
    expect(await split(first, "a", [1, 2])).toBe(true);
    const moment = disk.moment();
    let failed = 0;
    for (let n = 0, more = true; more; n++) {
      const copy = diskAfterKill(moment, { record: false });
      const store = await openStore("/store", copy.process());
      const balances = new Map([["a", 3]]);
      const note = (done: boolean, id: string, amount: number): void => {
        if (done) balances.set(id, (balances.get(id) ?? 0) + amount);
        else failed++;
      };
      let count = 0;
      const room = copy.failWhen(({ operation, path: file }) =>
        GROWING.has(operation) && !file.endsWith("/lock") && count++ >= n && count <= n + calls
          ? { code: "ENOSPC", written }
          : undefined,
      );
      note(await split(store, "a", [4, 5]), "a", 9);
      note(await split(store, "new", [6, 7]), "new", 13);
      more = count > n;
      await expectBalances(store, balances);
      room();
      await expectBalances(store, balances);
      note(await split(store, "a", [10]), "a", 10);
      note(await split(store, "new", [10]), "new", 10);
      await expectBalances(store, balances);
      await expectFiles(copy, "/store", store);
      const again = await openStore("/store", copy.process());
      await expectBalances(again, balances);
      await again.close();
    }
    expect(failed).toBeGreaterThan(0);
  });
});
