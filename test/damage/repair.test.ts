import { repair, verify } from "eventfold-es/doctor";
import { SimulatedDisk } from "eventfold-es/testing";
import { describe, expect, test } from "vitest";
import type { FileEventStore } from "../../src/file-store/file-event-store.ts";
import { openFileEventStore } from "../../src/file-store/open-store.ts";
import {
  diskOf,
  imageOf,
  itemCase,
  itemStore,
  observeSegments,
  sameImage,
  segmentedCase,
  segmentedStore,
  STORE,
  text,
  violations,
  withFile,
  lastRecord,
  overwrite,
} from "../support/damage.ts";

const LOG = `${STORE}/commit_log/0000000000000001.jsonl`;
const P = `${STORE}/streams/s/p/app.jsonl`;
const Q = `${STORE}/streams/s/q/app.jsonl`;
const LETTERS = `${STORE}/process_managers/copier/dead_letters.jsonl`;

/** Writes the n-th event of stream p. */
function writeP(store: FileEventStore, n: number, payload: string): Promise<unknown> {
  const event = { type: "Added", data: JSON.stringify(payload), schemaVersion: 0, timestamp: 1, eventId: `p${n}` };
  return store.commit({ appends: [{ stream: { type: "s", id: "p" }, expectedVersion: n, events: [event] }] });
}

async function errorsOf(disk: SimulatedDisk): Promise<string[]> {
  const { findings } = await verify(STORE, { fileSystem: disk });
  return findings.filter(({ severity }) => severity === "error").map(({ kind }) => kind);
}

describe("repair", () => {
  test("with dryRun reports what it would do, and changes nothing", async () => {
    const image = overwrite(await segmentedStore(), Q, '"n":1');
    const disk = diskOf(image);
    const { actions, dryRun } = await repair(STORE, { fileSystem: disk, dryRun: true });
    expect({ dryRun, files: actions.map(({ file }) => file) }).toEqual({ dryRun: true, files: [Q] });
    expect(sameImage(imageOf(disk), image)).toBe(true);
  });

  test("moves the bytes that it replaces to quarantine", async () => {
    const image = overwrite(await segmentedStore(), Q, '"n":1');
    const disk = diskOf(image);
    const { actions } = await repair(STORE, { fileSystem: disk });
    const [{ quarantined = "" } = {}] = actions;
    expect(quarantined).toMatch(/^\/store\/meta\/quarantine\//);
    expect(text(image, Q)).toContain(Buffer.from(disk.bytesOf(quarantined) ?? []).toString());
    expect(Buffer.from(disk.bytesOf(quarantined) ?? []).toString()).toContain("#####");
  });

  test.each([
    ["one event of a record", ['"n":2']],
    ["several records", ['"n":0', '"n":2']],
    [
      "the first line of a record and its events",
      ['{"commit":4,"events":2', '"fill":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"'],
    ],
    ["the names of streams", ['{"stream":"s/q","version":1', '{"stream":"s/r","version":1']],
  ])("brings back from the streams what many damaged bytes have destroyed: %s", async (_, pieces) => {
    const { image, reference } = await segmentedCase();
    const disk = diskOf(pieces.reduce((damaged, piece) => overwrite(damaged, LOG, piece), image));
    expect(await errorsOf(disk)).toContain("log-damaged");
    const { after, lost } = await repair(STORE, { fileSystem: disk });
    expect({ clean: after.clean, lost }).toEqual({ clean: true, lost: [] });
    expect(await observeSegments(disk)).toEqual(reference);
  });

  test("continues a segment that ends too early between two commits", async () => {
    const store = await segmentedCase();
    const segments = [...store.image.keys()].filter((path) => path.includes("/commit_log/"));
    for (const path of segments) {
      const bytes = Buffer.from(store.image.get(path) ?? []);
      for (let at = bytes.indexOf('{"commit"'); at >= 0; at = bytes.indexOf('{"commit"', at + 1)) {
        const cut = bytes.subarray(0, at);
        expect(await violations(store, path, cut), `${path} cut to ${at} bytes`).toEqual([]);
        const disk = diskOf(withFile(store.image, path, cut));
        await repair(STORE, { fileSystem: disk });
        expect(disk.files().filter((file) => file.includes("/commit_log/"))).toEqual(segments);
      }
    }
  });

  test("writes a missing segment again when its events do not fit into the one before", async () => {
    const disk = new SimulatedDisk({ record: false });
    const store = await openFileEventStore(disk, STORE);
    await writeP(store, 0, "x".repeat(64 << 20));
    await writeP(store, 1, "");
    await store.close();
    const second = `${STORE}/commit_log/0000000000000002.jsonl`;
    disk.remove(second);
    const { before, actions } = await repair(STORE, { fileSystem: disk, dryRun: true });
    expect(before.findings[0]).toMatchObject({ kind: "log-missing", file: second, repairable: true });
    expect(actions[0]?.file).toBe(second);
  });

  test("finds lost commits without events by the numbers of notes, and keeps the numbers", async () => {
    const disk = new SimulatedDisk();
    const store = await openFileEventStore(disk, STORE, { log: { segmentBytes: 650, preallocateBytes: 100 } });
    const note = (expectedSequence: number): Promise<unknown> =>
      store.commit({ appends: [], consumer: { name: "copier", expectedSequence, note: {} } });
    const fill = "x".repeat(100);
    await writeP(store, 0, fill);
    await note(0);
    await note(1);
    await writeP(store, 1, fill);
    await note(2);
    await writeP(store, 2, fill);
    await store.close();
    const image = imageOf(disk);
    const segments = [...image.keys()].filter((path) => path.includes("/commit_log/")).toSorted();
    const ending = segments.filter((path) => text(image, path).slice(lastRecord(image, path)).includes('"events":0'));
    expect(segments.length).toBeGreaterThan(ending.length);
    expect(ending.length).toBeGreaterThan(0);
    for (const path of ending) {
      const at = lastRecord(image, path);
      const cut = diskOf(withFile(image, path, image.get(path)?.subarray(0, at)));
      const { before, lost, after } = await repair(STORE, { fileSystem: cut });
      expect(before.findings.map(({ kind, file, offset }) => ({ kind, file, offset }))).toEqual([
        { kind: "log-missing", file: path, offset: at },
        { kind: "notes-lost", file: path, offset: at },
      ]);
      expect({ lost: lost.map(({ kind }) => kind), clean: after.clean }).toEqual({ lost: ["notes-lost"], clean: true });
      expect((await repair(STORE, { fileSystem: cut })).actions).toEqual([]);
      const again = await openFileEventStore(cut, STORE);
      expect((await again.consumerNotes("copier", 0)).map(({ sequence }) => sequence)).toEqual([1, 2, 3]);
      await again.close();
    }
  });

  test.each([
    ["ends in the middle of a character", (line: Buffer) => line.subarray(0, line.indexOf("ä") + 1)],
    ["lacks a byte", (line: Buffer) => Buffer.concat([line.subarray(0, 30), line.subarray(31)])],
    ["has a byte twice", (line: Buffer) => Buffer.concat([line.subarray(0, 31), line.subarray(30)])],
    ["became two lines", (line: Buffer) => Buffer.concat([line.subarray(0, 30), Buffer.from("\n"), line.subarray(30)])],
  ])("takes a dead letter from the log that %s", async (_, damage) => {
    const store = await itemCase();
    expect(await violations(store, LETTERS, damage(Buffer.from(store.image.get(LETTERS) ?? [])))).toEqual([]);
  });

  test("keeps a dead letter that only the file has, byte for byte, next to one from the log", async () => {
    const image = await itemStore();
    const own = text(image, LETTERS);
    const broken = Buffer.concat([Buffer.from('{"error":"'), Buffer.from([0xc3]), Buffer.from('"}\n')]);
    const disk = diskOf(withFile(image, LETTERS, Buffer.concat([broken, Buffer.from(own.slice(0, 50))])));
    const { after } = await repair(STORE, { fileSystem: disk });
    expect(disk.bytesOf(LETTERS)).toEqual(new Uint8Array(Buffer.concat([broken, Buffer.from(own)])));
    expect(after.findings).toMatchObject([{ kind: "dead-letters-damaged", file: LETTERS, line: 1, repairable: false }]);
  });

  test("repairs two damaged copies from each other", async () => {
    const { image, reference } = await segmentedCase();
    const disk = diskOf(overwrite(overwrite(image, LOG, '"p0"'), Q, '"n":1'));
    const { after, lost } = await repair(STORE, { fileSystem: disk });
    expect({ clean: after.clean, lost }).toEqual({ clean: true, lost: [] });
    expect(await observeSegments(disk)).toEqual(reference);
  });

  test("rebuilds a lost commit log with the same positions", async () => {
    const { image, reference } = await segmentedCase();
    const disk = diskOf(new Map([...image].filter(([path]) => !path.includes("/commit_log/"))));
    expect(await errorsOf(disk)).toContain("log-missing");
    expect((await repair(STORE, { fileSystem: disk })).after.clean).toBe(true);
    expect(await observeSegments(disk)).toEqual(reference);
  });

  test("reports an event that is damaged in both copies and leaves it; all other events are kept", async () => {
    const { image, reference } = await segmentedCase();
    // The payload's closing brace and the quotes around it: neither copy is JSON any more.
    const disk = diskOf(overwrite(overwrite(image, LOG, '{"n":0,"fill"'), P, '{"n":0,"fill"'));
    const { after } = await repair(STORE, { fileSystem: disk });
    const left = after.findings.filter(({ severity }) => severity === "error");
    expect(left.map(({ kind, file, line, repairable }) => ({ kind, file, line, repairable }))).toEqual([
      { kind: "event-lost", file: P, line: 1, repairable: false },
    ]);
    const seen = await observeSegments(disk);
    expect(seen["events of p"]).toBe("error CORRUPT_STREAM");
    for (const part of ["open", "list", "events of q", "events of r"]) expect(seen[part]).toBe(reference[part]);
    expect((await repair(STORE, { fileSystem: disk })).actions).toEqual([]);
  });

  test("reports an event that is missing from both copies; events of other streams are kept", async () => {
    const { image, reference } = await segmentedCase();
    const disk = diskOf(withFile(overwrite(overwrite(image, LOG, '"n":0'), LOG, '"p0"'), P, undefined));
    const { lost, after } = await repair(STORE, { fileSystem: disk });
    expect(lost.map(({ kind }) => kind)).toContain("event-lost");
    expect(after.clean).toBe(false);
    const seen = await observeSegments(disk);
    for (const part of ["open", "events of q", "events of r"]) expect(seen[part]).toBe(reference[part]);
  });

  test("continues wherever it was interrupted", async () => {
    const { image, reference } = await segmentedCase();
    const damaged = overwrite(overwrite(overwrite(image, LOG, '"n":0'), LOG, '"n":2'), Q, '"n":4');
    const whole = diskOf(damaged);
    const first = whole.callCount;
    await repair(STORE, { fileSystem: whole });
    const calls = whole.callCount - first;
    for (let stop = 0; stop < calls; stop += 1 + Math.floor(calls / 60)) {
      const disk = diskOf(damaged);
      const process = disk.process();
      let count = 0;
      const end = disk.failWhen(() => {
        if (count++ >= stop) process.kill();
        return undefined;
      });
      await expect(repair(STORE, { fileSystem: process })).rejects.toThrow();
      end();
      expect((await repair(STORE, { fileSystem: disk })).after.clean, `stopped at call ${stop}`).toBe(true);
      expect(await observeSegments(disk)).toEqual(reference);
    }
  });

  test("does not change a stream that another process holds", async () => {
    const disk = diskOf(overwrite(await segmentedStore(), Q, '"n":1'));
    const other = disk.process().open(Q, "update");
    expect(other.tryLock()).toBe(true);
    await expect(repair(STORE, { fileSystem: disk })).rejects.toMatchObject({ code: "STREAM_LOCKED" });
  });

  test("keeps notes of process managers in order when the log that held them is missing", async () => {
    const { image, observe, reference } = await itemCase();
    const disk = diskOf(withFile(image, LOG, undefined));
    const { lost, after } = await repair(STORE, { fileSystem: disk });
    expect(lost.map(({ kind }) => kind)).toEqual(["notes-lost"]);
    expect(after.clean).toBe(true);
    expect(await observe(disk)).toEqual(reference);
  });
});
