import { describe, expect, test } from "vitest";
import { SimulatedDisk, type SimulatedProcess } from "eventfold-es/testing";
import { verify } from "eventfold-es/doctor";
import { openLog } from "../support/crash-stores.ts";
import type { FileEventStore } from "../../src/file-store/file-event-store.ts";
import { crateLine, RustCrate } from "../support/rust-crate.ts";
import { until } from "../support/until.ts";

const STREAM = { type: "s", id: "a" };
const FILE = "/store/streams/s/a/app.jsonl";

function draft(n: number, fill = "") {
  const meta = { correlation_id: `c-${n}` };
  return { type: "Added", data: `{"n":${n}${fill}}`, schemaVersion: 0, timestamp: 1_700_000_000_000, meta };
}

async function commit(store: FileEventStore, expectedVersion: number, ...numbers: number[]): Promise<void> {
  const result = await store.commit({
    appends: [{ stream: STREAM, expectedVersion, events: numbers.map((n) => draft(n)) }],
  });
  expect(result).toMatchObject({ ok: true });
}

async function numbersOf(store: FileEventStore): Promise<unknown[]> {
  const numbers: unknown[] = [];
  for await (const batch of store.readStream(STREAM))
    numbers.push(...batch.map(({ data }) => (data as { readonly n: number }).n));
  return numbers;
}

function setFile(disk: SimulatedDisk, path: string, text: string | Uint8Array): void {
  const file = disk.open(path, "create");
  const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
  file.truncate(0);
  file.write(bytes, 0, bytes.length, 0);
  file.close();
  disk.settle(path);
}

/** A store whose process was killed when its log had events 1, 2, 3 and the stream's file only `size` bytes of them. */
async function killed(size: (whole: string) => number): Promise<{ disk: SimulatedDisk; whole: string }> {
  const disk = new SimulatedDisk({ record: false });
  const process = disk.process();
  const store = await openLog(process);
  await commit(store, 0, 1);
  await commit(store, 1, 2, 3);
  process.kill();
  const whole = new TextDecoder().decode(disk.bytesOf(FILE));
  setFile(disk, FILE, whole.slice(0, size(whole)));
  return { disk, whole };
}

function quarantined(disk: SimulatedDisk): string[] {
  return disk
    .files()
    .filter((path) => path.startsWith("/store/meta/quarantine/s.a"))
    .map((path) => new TextDecoder().decode(disk.bytesOf(path)));
}

/** Opens twice, and checks that the stream has our events first, then those of the crate, and that nothing is left to repair. */
async function expectBoth(disk: SimulatedDisk, numbers: readonly unknown[]): Promise<void> {
  const store = await openLog(disk.process());
  expect(await numbersOf(store)).toEqual(numbers);
  await commit(store, numbers.length, 99);
  await store.close();
  const again = await openLog(disk.process());
  expect(await numbersOf(again)).toEqual([...numbers, 99]);
  await again.close();
  const report = await verify("/store", { fileSystem: disk });
  expect(report.findings.filter(({ severity }) => severity !== "info")).toEqual([]);
  expect(disk.files().filter((path) => path.includes("/moves/"))).toEqual([]);
}

describe("after a kill that left the log ahead of a stream's file", () => {
  test("lines that the Rust crate appended to any prefix of ours come after ours", async () => {
    const { whole } = await killed((text) => text.length);
    for (let size = 0; size <= whole.length; size += 3) {
      const { disk } = await killed(() => size);
      const crate = new RustCrate(disk);
      expect(crate.appendOnce(FILE, crateLine(10))).toBe(true);
      crate.appendOnce(FILE, crateLine(11));
      await expectBoth(disk, [1, 2, 3, 10, 11]);
      if (size < whole.length) expect(quarantined(disk).join("")).toContain(crateLine(10) + crateLine(11));
    }
  });

  test.each([
    [
      "a line with other keys, blanks and another order",
      '  { "ts" : 1700000000 , "x":{"a":[{"b":1}]}, "data":{"n":10}, "type":"Added" }\n',
    ],
    [
      "a line that begins as ours does",
      '{"type":"Added","data":{"n":2},"ts":1700000000,"meta":{"correlation_id":"c-2"}}\n',
    ],
    ["a line that ends with CR LF", `${crateLine(10).trimEnd()}\r\n`],
    ["blank lines and a line", `\n\n${crateLine(10)}\n`],
    ["a long line", `{"type":"Added","data":{"n":10,"fill":"${"ü{}".repeat(3000)}"},"ts":1700000000}\n`],
    ["two lines that are equal", '{"type":"Added","data":{"n":10},"ts":1700000000}\n'.repeat(2)],
  ])("%s", async (_, text) => {
    for (const cut of [0, 1, 30, 80, 81, 82, 120, 150]) {
      const { disk } = await killed((whole) => Math.max(0, whole.length - 150 + cut));
      new RustCrate(disk).appendOnce(FILE, text);
      const numbers = text.split("\n").filter((line) => line.trim() !== "");
      const expected = numbers.map((line) => (JSON.parse(line) as { readonly data: { readonly n: number } }).data.n);
      await expectBoth(disk, [1, 2, 3, ...expected]);
    }
  });

  test("an unfinished line of the Rust crate goes to the quarantine, and a line glued to it counts", async () => {
    for (const cut of [0, 1, 40, 100]) {
      for (const torn of ['{"type":"Ad', '{"type":"Added","data":{"n":10},"ts":1700000000}']) {
        const { disk } = await killed((whole) => whole.length - 150 + cut);
        const crate = new RustCrate(disk);
        crate.appendOnce(FILE, torn);
        await expectBoth(disk, [1, 2, 3]);
        const { disk: glued } = await killed((whole) => whole.length - 150 + cut);
        new RustCrate(glued).appendOnce(FILE, torn);
        new RustCrate(glued).appendOnce(FILE, crateLine(11));
        new RustCrate(glued).appendOnce(FILE, crateLine(12));
        await expectBoth(glued, [1, 2, 3, 11, 12]);
        expect(quarantined(glued).join("")).toContain(torn);
      }
    }
  });

  test("a kill at any call of the recovery, after which the crate appends again, loses nothing", async () => {
    for (const cut of [0, 20, 149]) {
      let kills = 0;
      for (let calls = 0; ; calls++) {
        const { disk } = await killed((whole) => whole.length - 150 + cut);
        const crate = new RustCrate(disk);
        crate.appendOnce(FILE, crateLine(10));
        const process = disk.process("doomed");
        const died = await openUntil(disk, process, calls);
        if (!died) break;
        kills++;
        crate.appendOnce(FILE, crateLine(11));
        await expectBoth(disk, [1, 2, 3, 10, 11]);
      }
      expect(kills).toBeGreaterThan(20);
    }
  });

  test("a kill at every call of a commit, in ten rounds, after each of which the crate appends", async () => {
    let points = 0;
    for (let calls = 0; ; calls++) {
      const disk = new SimulatedDisk({ record: false });
      const crate = new RustCrate(disk);
      const acknowledged: unknown[] = [];
      let kills = 0;
      for (let round = 0; round < 10; round++) {
        const process = disk.process(`doomed ${round}`);
        const store = await openLog(process);
        const before = await numbersOf(store);
        expect(before).toEqual(expect.arrayContaining(acknowledged));
        let left = calls;
        const stop = disk.failWhen((call) => {
          if (call.process !== process.name || left-- !== 0) return undefined;
          kills++;
          process.kill();
          return undefined;
        });
        const [n, m] = [round * 10 + 1, round * 10 + 2];
        const result = await commit(store, before.length, n, m).then(
          () => true,
          () => false,
        );
        stop();
        process.kill();
        if (result) acknowledged.push(n, m);
        expect(crate.appendOnce(FILE, crateLine(round * 10 + 5))).toBe(true);
        acknowledged.push(round * 10 + 5);
      }
      const store = await openLog(disk.process());
      const found = await numbersOf(store);
      await store.close();
      expect(found).toEqual(expect.arrayContaining(acknowledged));
      expect(new Set(found).size).toBe(found.length);
      for (let round = 0; round < 10; round++)
        expect(found.includes(round * 10 + 1)).toBe(found.includes(round * 10 + 2));
      expect(
        (await verify("/store", { fileSystem: disk })).findings.filter(({ severity }) => severity !== "info"),
      ).toEqual([]);
      if (kills === 0) break;
      points++;
    }
    expect(points).toBeGreaterThan(10);
  });

  test("a write of ours that was torn while it moved the crate's lines is completed", async () => {
    // What a kill in the middle of one write leaves.
    const { disk: model } = await killed(() => 0);
    new RustCrate(model).appendOnce(FILE, crateLine(10));
    const before = new TextDecoder().decode(model.bytesOf(FILE));
    const stop = model.failWhen(({ operation, path }) =>
      operation === "write" && path === FILE ? { code: "EIO", written: 0 } : undefined,
    );
    await expect(openLog(model.process())).rejects.toThrow();
    stop();
    const moves = model.files().filter((path) => path.includes("/meta/moves/"));
    expect(moves).toHaveLength(1);
    const note = new TextDecoder().decode(model.bytesOf(moves[0] ?? ""));
    const bytes = note.slice(note.indexOf("\n") + 1);
    for (let done = 0; done <= bytes.length; done += 7) {
      for (const more of ["", crateLine(11)]) {
        const { disk } = await killed(() => 0);
        setFile(disk, FILE, bytes.slice(0, done) + before.slice(done));
        disk.makeDirectory("/store/meta/moves");
        setFile(disk, moves[0] ?? "", note);
        if (more !== "") new RustCrate(disk).appendOnce(FILE, more);
        await expectBoth(disk, [1, 2, 3, 10, ...(more === "" ? [] : [11])]);
      }
    }
  });

  test("zeros that a power cut left before the crate's line", async () => {
    const { disk, whole } = await killed(() => 0);
    const zeros = `${whole.slice(0, 200)}${"\0".repeat(40)}`;
    setFile(disk, FILE, zeros);
    new RustCrate(disk).appendOnce(FILE, crateLine(10));
    await expectBoth(disk, [1, 2, 3, 10]);
  });
});

describe("while the Rust crate holds the stream's file", () => {
  test("the store opens, other streams work, the stream says why it does not, and comes back by itself", async () => {
    const { disk, whole } = await killed((text) => text.length - 100);
    const crate = new RustCrate(disk);
    expect(crate.open(FILE)).toBe(true);
    crate.append(FILE, crateLine(10));
    const store = await openLog(disk.process());
    const other = { type: "s", id: "b" };
    expect(await store.commit({ appends: [{ stream: other, expectedVersion: 0, events: [draft(5)] }] })).toMatchObject({
      ok: true,
    });
    await expect(numbersOf(store)).rejects.toMatchObject({ code: "STREAM_LOCKED" });
    await expect(commit(store, 3, 4)).rejects.toMatchObject({ code: "STREAM_LOCKED" });
    crate.append(FILE, crateLine(11));
    await store.close();
    // The next process still knows.
    const next = await openLog(disk.process());
    await expect(numbersOf(next)).rejects.toMatchObject({ code: "STREAM_LOCKED" });
    crate.close(FILE);
    expect(await numbersOf(next)).toEqual([1, 2, 3, 10, 11]);
    await commit(next, 5, 12);
    expect(new TextDecoder().decode(disk.bytesOf(FILE)).startsWith(whole + crateLine(10) + crateLine(11))).toBe(true);
    await next.close();
    await expectBoth(disk, [1, 2, 3, 10, 11, 12]);
  });

  test("a full disk keeps our lines out of the file, the crate appends: both count", async () => {
    const disk = new SimulatedDisk({ record: false });
    const store = await openLog(disk.process());
    await commit(store, 0, 1);
    const stop = disk.failWhen(({ operation, path, process }) =>
      operation === "write" && path === FILE && process !== "the Rust crate"
        ? { code: "ENOSPC", written: 17 }
        : undefined,
    );
    await commit(store, 1, 2);
    await until(() => new RustCrate(disk).appendOnce(FILE, crateLine(10)));
    stop();
    expect(
      (await store.commit({ appends: [{ stream: { type: "s", id: "b" }, expectedVersion: 0, events: [draft(5)] }] }))
        .ok,
    ).toBe(true);
    const late = await store.commit({ appends: [{ stream: STREAM, expectedVersion: 2, events: [draft(5)] }] });
    expect(late).toMatchObject({ ok: false, actualVersion: 3 });
    await until(async () => (await numbersOf(store)).length === 3);
    await store.close();
    await expectBoth(disk, [1, 2, 10]);
  });
});

/** Opens the store in a process that is killed at one of its calls. Returns whether it came to that. */
async function openUntil(disk: SimulatedDisk, process: SimulatedProcess, calls: number): Promise<boolean> {
  let left = calls;
  let died = false;
  const stop = disk.failWhen((call) => {
    if (call.process === process.name && left-- === 0) {
      died = true;
      process.kill();
    }
    return undefined;
  });
  await openLog(process).then(
    () => process.kill(),
    () => {},
  );
  stop();
  return died;
}

describe("a process that is open already, while another one recovers a stream that the crate holds", () => {
  /** B has recovered, and could not complete the stream. C had opened before A committed. */
  async function recovered() {
    const disk = new SimulatedDisk({ record: false });
    const first = disk.process("A");
    const a = await openLog(first);
    await commit(a, 0, 1);
    const c = await openLog(disk.process("C"));
    expect(await numbersOf(c)).toEqual([1]);
    await commit(a, 1, 2, 3);
    first.kill();
    // The last commit reached the log alone, and was not announced.
    const whole = new TextDecoder().decode(disk.bytesOf(FILE));
    setFile(disk, FILE, `${whole.split("\n")[0]}\n`);
    const crate = new RustCrate(disk);
    expect(crate.open(FILE)).toBe(true);
    crate.append(FILE, crateLine(10) + crateLine(11) + crateLine(12));
    const b = await openLog(disk.process("B"));
    return { disk, crate, b, c };
  }

  test("answers reads and commits with STREAM_LOCKED, and has all events when the crate lets go", async () => {
    const { disk, crate, b, c } = await recovered();
    await expect(numbersOf(b)).rejects.toMatchObject({ code: "STREAM_LOCKED" });
    await expect(numbersOf(c)).rejects.toMatchObject({ code: "STREAM_LOCKED" });
    const events = [draft(4)];
    await expect(c.commit({ appends: [{ stream: STREAM, expectedVersion: 3, events }] })).rejects.toMatchObject({
      code: "STREAM_LOCKED",
    });
    // Other streams work.
    const other = { stream: { type: "s", id: "other" }, expectedVersion: 0, events };
    expect(await c.commit({ appends: [other] })).toMatchObject({ ok: true });
    crate.close(FILE);
    expect(await numbersOf(c)).toEqual([1, 2, 3, 10, 11, 12]);
    expect(await numbersOf(b)).toEqual([1, 2, 3, 10, 11, 12]);
    await commit(c, 6, 4);
    expect(await numbersOf(b)).toEqual([1, 2, 3, 10, 11, 12, 4]);
    await b.close();
    await c.close();
    await expectBoth(disk, [1, 2, 3, 10, 11, 12, 4]);
  });

  test("does not move the marker past the lines, so that they come back after either process dies", async () => {
    for (const closes of [true, false]) {
      const { disk, crate, b, c } = await recovered();
      const events = [draft(4)];
      await c.commit({ appends: [{ stream: { type: "s", id: "other" }, expectedVersion: 0, events }] });
      disk.process("B").kill();
      if (closes) await c.close();
      void b;
      crate.close(FILE);
      await expectBoth(disk, [1, 2, 3, 10, 11, 12]);
    }
  });
});
