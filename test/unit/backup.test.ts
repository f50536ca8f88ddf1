import * as fs from "node:fs";
import * as path from "node:path";
import { describe, expect, test } from "vitest";
import { AggregateStore, follow, type RecordedEvent, restore } from "eventfold-es";
import { verify } from "eventfold-es/doctor";
import type { FileEventStore } from "../../src/file-store/file-event-store.ts";
import { restoreDirectory } from "../../src/file-store/directory-copies.ts";
import { openFileEventStore } from "../../src/file-store/open-store.ts";
import { openNodeFileSystem } from "../../src/fs/node-file-system.ts";
import { Account } from "../support/account.ts";
import { collect } from "../support/collect.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { Purse, Transfer, Transfers } from "../support/transfer.ts";
import { until } from "../support/until.ts";

const open = (directory: string) => AggregateStore.builder(directory).aggregate(Account).open();
const openToRead = (directory: string) => AggregateStore.builder(directory).aggregate(Account).readOnly().open();
const openTransfers = (directory: string, now: () => number = Date.now) =>
  AggregateStore.builder(directory)
    .aggregate(Purse)
    .aggregate(Transfer)
    .processManager(Transfers)
    .processManagerMode("manual")
    .clock(now)
    .open();

function directories() {
  const base = temporaryDirectory();
  return { source: path.join(base, "store"), target: path.join(base, "a", "copy"), other: path.join(base, "other") };
}

async function eventsOf(store: AggregateStore): Promise<RecordedEvent[]> {
  return (await collect(store.events())) as RecordedEvent[];
}

async function openSegments(directory: string): Promise<FileEventStore> {
  return openFileEventStore(await openNodeFileSystem(), directory, {
    log: { segmentBytes: 900, preallocateBytes: 300 },
  });
}

async function append(store: FileEventStore, count: number): Promise<void> {
  const head = await store.head();
  for (let i = head; i < head + count; i++) {
    const event = { type: "Deposited", data: '{"amount":1}', schemaVersion: 0, timestamp: 1000 + i };
    await store.commit({ appends: [{ stream: { type: "account", id: "a" }, expectedVersion: i, events: [event] }] });
  }
}

/** Opens a copy, reads all of its events, and has it verified. */
async function readCopy(directory: string): Promise<RecordedEvent[]> {
  expect(await problemsOf(directory)).toEqual([]);
  const store = await open(directory);
  const events = await eventsOf(store);
  await store.close();
  expect(await problemsOf(directory)).toEqual([]);
  return events;
}

async function problemsOf(directory: string) {
  const { findings } = await verify(directory);
  return findings.filter(({ severity }) => severity !== "info");
}

async function fill(store: Awaited<ReturnType<typeof open>>, ids: readonly string[], count = 3): Promise<void> {
  for (const id of ids) {
    const account = store.get(Account, id);
    await account.execute({ type: "Open", data: { owner: id } });
    for (let i = 1; i <= count; i++) await account.execute({ type: "Deposit", data: { amount: i } });
  }
}

describe("a backup", () => {
  test("has the deletions of the store, and goes back to before them", async () => {
    const { source, target, other } = directories();
    const store = await open(source);
    for (const id of ["ada", "bob"]) await store.get(Account, id).execute(Account.commands.Open({ owner: id }));
    await store.backup(target);
    await store.delete(Account, "ada");
    await store.get(Account, "ada").execute(Account.commands.Open({ owner: "Eve" }));
    await store.backup(target, { incremental: true });
    expect(await readCopy(target)).toEqual(await eventsOf(store));
    expect((await eventsOf(store)).map(({ id, type }) => `${id} ${type}`)).toEqual([
      "bob Opened",
      "ada $deleted",
      "ada Opened",
    ]);
    await store.close();
    await restore(target, `${other}-3`, { position: 3 });
    expect((await readCopy(`${other}-3`)).map(({ id, type }) => `${id} ${type}`)).toEqual([
      "bob Opened",
      "ada $deleted",
    ]);
    await restore(target, `${other}-2`, { position: 2 });
    expect((await readCopy(`${other}-2`)).map(({ id, type }) => `${id} ${type}`)).toEqual(["ada Opened", "bob Opened"]);
  });

  test("has every acknowledged commit and opens as a store", async () => {
    const { source, target } = directories();
    const store = await open(source);
    await fill(store, ["ada", "a/b ü", "%x"]);
    const progress: number[] = [];
    const report = await store.backup(target, {
      onProgress: ({ bytes, totalBytes }) => progress.push(bytes / totalBytes),
    });
    expect(report.position).toBe(12);
    expect(report.bytes).toBeGreaterThan(1000);
    expect(progress[0]).toBe(0);
    expect(progress.at(-1)).toBe(1);
    expect(await readCopy(target)).toEqual(await eventsOf(store));
    const copy = await open(target);
    await copy.get(Account, "ada").execute({ type: "Deposit", data: { amount: 9 } });
    expect(await copy.get(Account, "ada").state()).toEqual({ open: true, balance: 15 });
    expect(await store.get(Account, "ada").state()).toEqual({ open: true, balance: 6 });
    await copy.close();
    await store.close();
  });

  test("of a store without events is a store without events", async () => {
    const { source, target } = directories();
    const store = await open(source);
    expect(await store.backup(target)).toEqual({ position: 0, bytes: 0 });
    expect(await readCopy(target)).toEqual([]);
    await fill(store, ["ada"]);
    expect((await store.backup(target, { incremental: true })).position).toBe(4);
    expect(await readCopy(target)).toEqual(await eventsOf(store));
    await store.close();
  });

  test("has the commits that durability os has acknowledged", async () => {
    const { source, target } = directories();
    const store = await AggregateStore.builder(source).aggregate(Account).durability("os").open();
    for (let round = 1; round <= 10; round++) {
      await fill(store, [`a${round}`]);
      expect((await store.backup(target, { incremental: true })).position).toBe(round * 4);
    }
    expect(await readCopy(target)).toHaveLength(40);
    await store.close();
  });

  test("copies only what is new if it is incremental", async () => {
    const { source, target } = directories();
    const store = await open(source);
    await fill(store, ["ada", "bob"], 50);
    const first = await store.backup(target, { incremental: true });
    await store.get(Account, "ada").execute({ type: "Deposit", data: { amount: 1 } });
    const second = await store.backup(target, { incremental: true });
    expect(second.position).toBe(first.position + 1);
    expect(second.bytes).toBeLessThan(first.bytes / 50);
    expect(await store.backup(target, { incremental: true })).toEqual({ position: second.position, bytes: 0 });
    expect(await readCopy(target)).toEqual(await eventsOf(store));
    await store.close();
  });

  test("is seen by a program that reads the copy", async () => {
    const { source, target } = directories();
    const store = await open(source);
    await fill(store, ["ada"]);
    await store.backup(target);
    const copy = await open(target);
    expect(await copy.head()).toBe(4);
    await fill(store, ["bob"]);
    await store.backup(target, { incremental: true });
    expect(await copy.head()).toBe(8);
    expect(await copy.get(Account, "bob").state()).toEqual({ open: true, balance: 6 });
    await copy.close();
    await store.close();
  });

  test("refuses a directory with something else, and changes nothing in it", async () => {
    const { source, target, other } = directories();
    const store = await open(source);
    await fill(store, ["ada"]);
    fs.mkdirSync(other);
    fs.writeFileSync(path.join(other, "letter.txt"), "Dear Ada");
    for (const incremental of [false, true])
      await expect(store.backup(other, { incremental })).rejects.toMatchObject({ code: "TARGET_NOT_EMPTY" });
    expect(fs.readdirSync(other)).toEqual(["letter.txt"]);
    await store.backup(target);
    await expect(store.backup(target)).rejects.toMatchObject({ code: "TARGET_NOT_EMPTY" });
    for (const inside of [source, path.join(source, "copy")])
      await expect(store.backup(inside, { incremental: true })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await store.close();
  });

  test("refuses to add to a store that has other events, and leaves it as it is", async () => {
    const { source, target, other } = directories();
    const store = await open(source);
    await fill(store, ["ada"]);
    await store.backup(target);
    const copy = await open(target);
    await copy.get(Account, "ada").execute({ type: "Deposit", data: { amount: 1 } });
    const expected = await eventsOf(copy);
    await copy.close();
    await expect(store.backup(target, { incremental: true })).rejects.toMatchObject({ code: "COPY_DIVERGED" });
    await fill(store, ["bob"]);
    await expect(store.backup(target, { incremental: true })).rejects.toMatchObject({ code: "COPY_DIVERGED" });
    expect(await readCopy(target)).toEqual(expected);
    const stranger = await open(other);
    await fill(stranger, ["zoe"], 30);
    const strange = await eventsOf(stranger);
    await stranger.close();
    await expect(store.backup(other, { incremental: true })).rejects.toMatchObject({ code: "COPY_DIVERGED" });
    expect(await readCopy(other)).toEqual(strange);
    await store.close();
  });

  test("that was aborted is not taken for a whole one, and goes on", async () => {
    const { source, target } = directories();
    const store = await open(source);
    await fill(store, ["ada"], 5);
    for (let i = 0; i < 4; i++)
      await store.get(Account, "ada").execute({ type: "Open", data: { owner: "x" } }, { metadata: { i } });
    const big = store.get(Account, "big");
    await big.execute({ type: "Open", data: { owner: "y".repeat(3 << 20) } });
    const abort = new AbortController();
    const backup = store.backup(target, {
      signal: abort.signal,
      onProgress: ({ bytes }) => {
        if (bytes > 1 << 20) abort.abort(new Error("enough"));
      },
    });
    await expect(backup).rejects.toThrow("enough");
    await expect(open(target)).rejects.toMatchObject({ code: "COPY_INCOMPLETE" });
    await expect(openToRead(target)).rejects.toMatchObject({ code: "COPY_INCOMPLETE" });
    await expect(restore(target, `${target}-2`)).rejects.toMatchObject({ code: "COPY_INCOMPLETE" });
    expect(await problemsOf(target)).toMatchObject([{ kind: "copy-incomplete", severity: "error" }]);
    await store.backup(target);
    expect(await readCopy(target)).toEqual(await eventsOf(store));
    await store.close();
  });

  test("to which an addition was aborted is the whole backup that it was, or more", async () => {
    const { source, target } = directories();
    const store = await open(source);
    await fill(store, ["ada"]);
    await store.backup(target);
    const before = await eventsOf(store);
    for (let i = 0; i < 3; i++)
      await store.get(Account, `big${i}`).execute({ type: "Open", data: { owner: "y".repeat(1 << 20) } });
    const abort = new AbortController();
    const backup = store.backup(target, {
      incremental: true,
      signal: abort.signal,
      onProgress: ({ bytes }) => {
        if (bytes > 2 << 20) abort.abort(new Error("enough"));
      },
    });
    await expect(backup).rejects.toThrow("enough");
    const earlier = `${target}-2`;
    expect((await restore(target, earlier)).position).toBe(4);
    expect(await readCopy(earlier)).toEqual(before);
    expect(await problemsOf(target)).toMatchObject([{ kind: "copy-incomplete", severity: "warning" }]);
    const reader = await openToRead(target);
    expect(await eventsOf(reader)).toEqual(before);
    await reader.close();
    await (await open(target)).close();
    const events = await readCopy(target);
    expect(events.slice(0, 4)).toEqual(before);
    expect(events).toEqual((await eventsOf(store)).slice(0, events.length));
    await fill(store, ["bob"]);
    await store.backup(target, { incremental: true });
    expect(await readCopy(target)).toEqual(await eventsOf(store));
    await store.close();
  });

  test("of a store in memory is refused with the way to go", async () => {
    const { target } = directories();
    const { memory } = await import("eventfold-es");
    await using store = await AggregateStore.open(memory());
    await expect(store.backup(target)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("export"),
    });
  });

  test("of a damaged store names the damaged file of the store", async () => {
    const { source, target } = directories();
    const store = await open(source);
    await fill(store, ["ada"]);
    const segment = path.join(source, "commit_log", "0000000000000001.jsonl");
    const bytes = fs.readFileSync(segment);
    const at = bytes.indexOf("Deposited");
    const file = fs.openSync(segment, "r+");
    fs.writeSync(file, "X", at);
    fs.closeSync(file);
    await expect(store.backup(target)).rejects.toMatchObject({ code: "CORRUPT_LOG", file: segment });
    await expect(open(target)).rejects.toMatchObject({ code: "COPY_INCOMPLETE" });
    await store.close();
  });

  test("has several segments", async () => {
    const { target } = directories();
    const store = await openSegments(path.join(temporaryDirectory(), "store"));
    await append(store, 40);
    for (const total of [80, 120]) {
      await store.backup(target, { incremental: true });
      await append(store, 40);
      expect(fs.readdirSync(path.join(target, "commit_log")).length).toBeGreaterThan(total / 20);
      expect(await problemsOf(target)).toEqual([]);
    }
    await store.backup(target, { incremental: true });
    expect(await readCopy(target)).toHaveLength(120);
    for (const position of [1, 39, 40, 41, 77, 119]) {
      await restoreDirectory(await openNodeFileSystem(), target, `${target}-${position}`, { position });
      expect(await readCopy(`${target}-${position}`)).toHaveLength(position);
    }
    await store.close();
  });
});

describe("restore", () => {
  test("brings back the store up to each position", async () => {
    const { source, other } = directories();
    const store = await open(source);
    await fill(store, ["ada"], 2);
    await Promise.all(
      ["bob", "cid", "dan"].map((id) => store.get(Account, id).execute({ type: "Open", data: { owner: id } })),
    );
    await store.get(Account, "ada").execute({ type: "Split", data: { amounts: [1, 2, 3] } });
    const all = await eventsOf(store);
    for (let position = 0; position <= all.length; position++) {
      const target = `${other}-${position}`;
      expect((await restore(source, target, { position })).position).toBe(position);
      expect(await readCopy(target)).toEqual(all.slice(0, position));
      const copy = await open(target);
      await fill(copy, ["new"], 1);
      await copy.close();
      expect(await readCopy(target)).toHaveLength(position + 2);
    }
    await expect(restore(source, other, { position: all.length + 1 })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    await store.close();
  });

  test("brings back what was deleted later, and a backup has the deletion", async () => {
    const { source, target, other } = directories();
    const store = await open(source);
    await fill(store, ["ada", "bob"], 2);
    await store.backup(target);
    await store.delete(Account, "ada");
    await store.get(Account, "ada").execute({ type: "Open", data: { owner: "new" } });
    await store.backup(target, { incremental: true });
    expect(await readCopy(target)).toEqual(await eventsOf(store));
    const head = await store.head();
    for (const position of [head - 2, head - 1, head]) {
      await restore(target, `${other}-${position}`, { position });
      const copy = await open(`${other}-${position}`);
      expect(await copy.get(Account, "ada").state()).toEqual({
        ...(position === head - 2 ? { open: true, balance: 3 } : { open: position === head, balance: 0 }),
      });
      await copy.close();
      expect(await problemsOf(`${other}-${position}`)).toEqual([]);
    }
    await store.close();
  });

  test("brings back the store as it was at a time", async () => {
    const { source, other } = directories();
    let now = 1_000_000;
    const store = await AggregateStore.builder(source)
      .aggregate(Account)
      .clock(() => now)
      .open();
    for (const id of ["a", "b", "c"]) {
      now += 1500;
      await store.get(Account, id).execute({ type: "Open", data: { owner: id } });
    }
    await store.close();
    const expected = [
      [1_001_499, 0],
      [1_001_500, 1],
      [1_002_999, 1],
      [1_003_000, 2],
      [2_000_000, 3],
    ] as const;
    for (const [at, position] of expected)
      expect(await restore(source, `${other}-${at}`, { at: new Date(at) })).toMatchObject({ position });
    expect(await readCopy(`${other}-1003000`)).toHaveLength(2);
  });

  test("refuses a target that is not empty, a source that is no store, and senseless options", async () => {
    const { source, target, other } = directories();
    const store = await open(source);
    await fill(store, ["ada"]);
    await store.backup(target);
    await expect(restore(source, target)).rejects.toMatchObject({ code: "TARGET_NOT_EMPTY" });
    await expect(restore(`${source}-x`, other)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    for (const options of [{ position: -1 }, { position: 0.5 }, { at: NaN }, { position: 1, at: 1 }])
      await expect(restore(source, other, options)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    expect(fs.existsSync(other)).toBe(false);
    await store.close();
  });

  test("keeps what process managers have done, and sends nothing again", async () => {
    const { source, other } = directories();
    let now = 1_000_000;
    const store = await openTransfers(source, () => now);
    await store.get(Purse, "ada").execute({ type: "Fill", data: { amount: 10 } });
    for (const id of ["t1", "t2"]) {
      await store.get(Transfer, id).execute({ type: "Request", data: { from: "ada", to: "bob", amount: 6 } });
      await store.runProcessManagers();
    }
    const events = await eventsOf(store);
    const status = await store.status();
    expect(status.processManagers[0]).toMatchObject({ deadLetters: 1, scheduled: [{ key: "t2" }] });
    await restore(source, other);
    const copy = await openTransfers(other, () => now);
    expect(await copy.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 0 });
    expect(await eventsOf(copy)).toEqual(events);
    expect((await copy.status()).processManagers).toEqual(status.processManagers);
    expect(await copy.deadLetters()).toEqual(await store.deadLetters());
    now += 31 * 60_000;
    expect(await copy.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
    await copy.close();
    // At each earlier position, the managers go on from there and come to the same end.
    for (let position = 1; position < events.length; position++) {
      await restore(source, `${other}-${position}`, { position });
      const earlier = await openTransfers(`${other}-${position}`, () => 1_000_000);
      await earlier.runProcessManagers();
      const types = (await eventsOf(earlier)).map(({ aggregate, id, type }) => `${aggregate}/${id} ${type}`);
      expect(types).toEqual([...new Set(types)]);
      await earlier.close();
      expect(await problemsOf(`${other}-${position}`)).toEqual([]);
    }
    await store.close();
  });

  test("lets a named subscription go on where it was, or at the restored position", async () => {
    const { source, other } = directories();
    const store = await open(source);
    await fill(store, ["ada"], 5);
    for await (const event of store.subscribe({ name: "mailer" })) if (event.position === 5) break;
    await store.close();
    const expected = [
      [6, 5],
      [4, 5],
      [3, 4],
    ] as const;
    for (const [position, next] of expected) {
      await restore(source, `${other}-${position}`, { position });
      const copy = await open(`${other}-${position}`);
      await fill(copy, ["new"], 1);
      for await (const event of copy.subscribe({ name: "mailer" })) {
        expect(event.position).toBe(next);
        break;
      }
      await copy.close();
    }
  });
});

describe("follow", () => {
  test("keeps a copy up to date until it is aborted", async () => {
    const { source, target } = directories();
    const store = await open(source);
    await fill(store, ["ada"]);
    const abort = new AbortController();
    let position = 0;
    const following = follow(source, target, {
      signal: abort.signal,
      onProgress: (progress) => ({ position } = progress),
    });
    await until(() => position === 4);
    await fill(store, ["bob"]);
    await until(() => position === 8);
    const copy = await openToRead(target);
    expect(await copy.get(Account, "bob").state()).toEqual({ open: true, balance: 6 });
    await fill(store, ["cid"]);
    await until(() => position === 12);
    expect(await copy.head()).toBe(12);
    await copy.close();
    abort.abort();
    expect(await following).toEqual({ position: 12 });
    await fill(store, ["dan"]);
    const again = new AbortController();
    const further = follow(source, target, {
      signal: again.signal,
      onProgress: (progress) => ({ position } = progress),
    });
    await until(() => position === 16);
    again.abort();
    await further;
    expect(await readCopy(target)).toEqual(await eventsOf(store));
    await store.close();
  });

  test("ends with an error when the source is gone or the copy has other events", async () => {
    const { source, target } = directories();
    const store = await open(source);
    await fill(store, ["ada"]);
    await store.close();
    let position = 0;
    const following = follow(source, target, { onProgress: (progress) => ({ position } = progress) });
    await until(() => position === 4);
    fs.renameSync(source, `${source}-moved`);
    await expect(following).rejects.toMatchObject({ code: "STORE_REPLACED" });
    const copy = await open(target);
    await fill(copy, ["zoe"]);
    await copy.close();
    await expect(follow(`${source}-moved`, target)).rejects.toMatchObject({ code: "COPY_DIVERGED" });
  });
});
