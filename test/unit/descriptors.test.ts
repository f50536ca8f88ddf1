import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { openNodeFileSystem } from "eventfold-es/testing";
import { describe, expect, test } from "vitest";
import { DescriptorPool, PooledDescriptor } from "../../src/fs/descriptor-pool.ts";
import { oneTo } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const READ = fs.constants.O_RDONLY;

/** Files `1`, `2`, … with their own names in them, opened through a pool. */
function pooled(pool: DescriptorPool, count: number) {
  const directory = temporaryDirectory();
  return oneTo(count).map((n) => {
    const file = path.join(directory, String(n));
    fs.writeFileSync(file, String(n));
    return { file, descriptor: new PooledDescriptor(pool, file, READ, pool.open(file, READ)) };
  });
}

function firstByte(descriptor: number): string {
  const buffer = Buffer.alloc(1);
  fs.readSync(descriptor, buffer, 0, 1, 0);
  return buffer.toString();
}

/** How many of them the process has open. */
function openCount(files: readonly { readonly file: string }[]): number {
  const wanted = new Set(files.map(({ file }) => file));
  const links = fs.readdirSync("/proc/self/fd").map((name) => {
    try {
      return fs.readlinkSync(`/proc/self/fd/${name}`);
    } catch {
      return "";
    }
  });
  return links.filter((link) => wanted.has(link)).length;
}

describe.runIf(process.platform === "linux")("a pool of descriptors", () => {
  test("keeps few open, and opens the others again when they are used", () => {
    const files = pooled(new DescriptorPool(40), 30);
    expect(openCount(files)).toBe(12);
    for (const round of [1, 2]) {
      for (const [i, { descriptor }] of files.entries())
        expect(firstByte(descriptor.get()), `round ${round}`).toBe(String(i + 1)[0]);
      expect(openCount(files)).toBe(12);
    }
    for (const { descriptor } of files) descriptor.close();
    expect(openCount(files)).toBe(0);
  });

  test("never closes one that is pinned", () => {
    const pool = new DescriptorPool(40);
    const first = pooled(pool, 1);
    const pinned = first[0]?.descriptor.pin();
    const others = pooled(pool, 30);
    expect(openCount(first)).toBe(1);
    expect(first[0]?.descriptor.get()).toBe(pinned);
    for (const { descriptor } of [...first, ...others]) descriptor.close();
  });

  test("gives a good descriptor also when all others are pinned", () => {
    const files = pooled(new DescriptorPool(40), 30);
    for (const { descriptor } of files.slice(0, 20)) descriptor.pin();
    for (const [i, { descriptor }] of files.entries()) expect(firstByte(descriptor.get())).toBe(String(i + 1)[0]);
    for (const { descriptor } of files) descriptor.close();
  });

  test("does not go on in another file that has taken the place of the first", () => {
    const files = pooled(new DescriptorPool(40), 1);
    const [{ file, descriptor }] = files as [(typeof files)[number]];
    descriptor.park();
    fs.renameSync(file, `${file}.old`);
    fs.writeFileSync(file, "another");
    expect(() => descriptor.get()).toThrow(expect.objectContaining({ code: "ESTALE" }));
    fs.renameSync(`${file}.old`, file);
    expect(firstByte(descriptor.get())).toBe("1");
    descriptor.close();
    expect(() => descriptor.get()).toThrow(expect.objectContaining({ code: "EBADF" }));
  });

  test("gives all that are not in use back when the system refuses another, and tries again", () => {
    const pool = new DescriptorPool(1000);
    const files = pooled(pool, 20);
    let refusals = 0;
    const opened = pool.withRoom(() => {
      if (openCount(files) > 0 && ++refusals < 2) throw Object.assign(new Error("full"), { code: "EMFILE" });
      return "opened";
    });
    expect([opened, refusals, openCount(files)]).toEqual(["opened", 1, 0]);
    expect(() =>
      pool.withRoom(() => {
        throw Object.assign(new Error("full"), { code: "EMFILE" });
      }),
    ).toThrow("full");
  });

  test("does not take a lock away", async () => {
    const [here, there] = [await openNodeFileSystem(), await openNodeFileSystem()];
    const file = path.join(temporaryDirectory(), "locked");
    const [mine, other] = [here.open(file, "create"), there.open(file, "update")];
    expect(mine.tryLock()).toBe(true);
    expect(mine.tryLock()).toBe(true);
    const many = oneTo(600).map(() => here.open(file, "read"));
    expect(other.tryLock()).toBe(false);
    mine.unlock();
    mine.unlock();
    expect(other.tryLock()).toBe(true);
    other.unlock();
    for (const handle of [...many, mine, other]) handle.close();
  });
});

/** Runs a file of `support/` in a process that may open so many files at the same time. */
function runWithLimit(limit: number, worker: string): unknown {
  const file = fileURLToPath(new URL(`../support/${worker}`, import.meta.url));
  const node = `exec "${process.execPath}" --import tsx --conditions=eventfold-es-source "${file}" "$0"`;
  const { stdout, stderr } = spawnSync("sh", ["-c", `ulimit -n ${limit}; ${node}`, temporaryDirectory()], {
    encoding: "utf8",
  });
  return stdout === "" ? stderr : (JSON.parse(stdout) as unknown);
}

test.skipIf(process.platform === "win32")(
  "with 128 descriptors, 1,000 instances one after the other and 500 at the same time work, and 300 readers that pause",
  () => {
    expect(runWithLimit(128, "many-instances-worker.ts")).toEqual({
      one: 1500,
      states: 1500,
      read: 300,
      accounts: 1000,
      balance: 2040,
      // Three stores of a process share its limit.
      together: 90,
    });
  },
);
