import { repair, verify } from "eventfold-es/doctor";
import { SimulatedDisk } from "eventfold-es/testing";
import { describe, expect, test } from "vitest";
import { openFileEventStore } from "../../src/file-store/open-store.ts";
import {
  diskOf,
  imageOf,
  itemStore,
  segmentedStore,
  STORE,
  text,
  withFile,
  lastRecord,
  overwrite,
} from "../support/damage.ts";

const LOG = `${STORE}/commit_log/0000000000000001.jsonl`;
const Q = `${STORE}/streams/s/q/app.jsonl`;

describe("verify", () => {
  test("counts a sound store and finds no damage", async () => {
    const report = await verify(STORE, { fileSystem: diskOf(await itemStore()) });
    expect(report).toMatchObject({ directory: STORE, clean: true, locked: true, findings: [] });
    expect(report.counts).toMatchObject({
      streams: 3,
      events: 7,
      segments: 1,
      snapshots: 3,
      checkpoints: 3,
      deadLetters: 1,
    });
  });

  test("reports what each finding is, where it is, and whether it can be repaired", async () => {
    const disk = diskOf(overwrite(await segmentedStore(), Q, '"n":1'));
    const { findings } = await verify(STORE, { fileSystem: disk });
    expect(findings).toEqual([
      {
        kind: "stream-damaged",
        severity: "error",
        file: Q,
        line: 2,
        offset: Buffer.from(text(await segmentedStore(), Q)).indexOf('"n":1'),
        message: expect.stringContaining("version 2") as string,
        repairable: true,
      },
    ]);
  });

  test("names the segment that ends too early between two commits, and the one that may be missing instead", async () => {
    const image = await segmentedStore();
    const at = lastRecord(image, LOG);
    const disk = diskOf(withFile(image, LOG, image.get(LOG)?.subarray(0, at)));
    const { findings } = await verify(STORE, { fileSystem: disk });
    expect(findings).toEqual([
      {
        kind: "log-missing",
        severity: "error",
        file: LOG,
        line: 14,
        offset: at,
        message: expect.stringMatching(/ends too early, or .*0000000000000006\.jsonl is gone \(from position 6 to 6\)/),
        repairable: true,
      },
    ]);
  });

  test("finds bytes that are no character where U+FFFD, which replaces such bytes, was written", async () => {
    const disk = new SimulatedDisk();
    const store = await openFileEventStore(disk, STORE);
    const stream = { type: "s", id: "a\ufffd" };
    const event = { type: "Added", data: "null", schemaVersion: 0, timestamp: 1 };
    await store.commit({
      appends: [{ stream, expectedVersion: 0, events: [event] }],
      consumer: {
        name: "copier",
        expectedSequence: 0,
        note: {},
        deadLetters: [{ key: "1", letter: { error: "\ufffd" } }],
      },
    });
    const state = "\ufffd";
    await store.saveSnapshot(stream, { state, version: 1, position: 1, fingerprint: "" });
    await store.saveCheckpoint("projection", "sums", { state, position: 1, fingerprint: "" });
    await store.close();
    const image = imageOf(disk);
    const damaged: string[] = [];
    for (const [path, bytes] of image) {
      const at = Buffer.from(bytes).indexOf("\ufffd");
      if (at < 0) continue;
      // The first byte of a longer character, whose end is missing: both are read as U+FFFD.
      const changed = Uint8Array.from(bytes);
      changed[at] = 0xf1;
      expect(Buffer.from(changed).toString()).toBe(Buffer.from(bytes).toString());
      const { clean, findings } = await verify(STORE, { fileSystem: diskOf(withFile(image, path, changed)) });
      expect({ clean, files: findings.map(({ file }) => file) }).toEqual({
        clean: false,
        files: expect.arrayContaining([path]),
      });
      damaged.push(path.slice(path.lastIndexOf("/") + 1));
    }
    expect(damaged.toSorted()).toEqual([
      "0000000000000001.jsonl",
      "checkpoint.eventfold.json",
      "dead_letters.jsonl",
      "state.snapshot.json",
      "streams.jsonl",
    ]);
  });

  test("runs while a store is being written to", async () => {
    const disk = new SimulatedDisk({ record: false, latency: () => 3 });
    const store = await openFileEventStore(disk, STORE);
    const event = { type: "Added", data: "null", schemaVersion: 0, timestamp: 1 };
    let writing = true;
    const writer = (async () => {
      for (let n = 0; n < 150; n++)
        await store.commit({
          appends: [{ stream: { type: "s", id: `s${n % 7}` }, expectedVersion: Math.floor(n / 7), events: [event] }],
        });
      writing = false;
    })();
    let runs = 0;
    while (writing) {
      const { clean, findings, locked } = await verify(STORE, { fileSystem: disk.process() });
      expect({ clean, locked, findings: findings.filter(({ severity }) => severity !== "info") }).toEqual({
        clean: true,
        locked: true,
        findings: [],
      });
      runs++;
    }
    await writer;
    await store.close();
    expect(runs).toBeGreaterThan(0);
  });

  test("reports the traces of a crash as no damage", async () => {
    const disk = new SimulatedDisk();
    const store = await openFileEventStore(disk, STORE);
    const event = { type: "Added", data: "null", schemaVersion: 0, timestamp: 1 };
    await store.commit({ appends: [{ stream: { type: "s", id: "p" }, expectedVersion: 0, events: [event, event] }] });
    const torn = Buffer.from(disk.bytesOf(LOG) ?? []);
    torn.write('{"commit":3,"events":1,"byt', torn.indexOf(0));
    const { clean, findings } = await verify(STORE, { fileSystem: diskOf(withFile(imageOf(disk), LOG, torn)) });
    expect(clean).toBe(true);
    expect(new Set(findings.map(({ kind }) => kind))).toEqual(new Set(["needs-recovery"]));
  });

  test("reports files that are not part of a store, events that share an id, and ids that collide on other systems", async () => {
    const image = new Map(await segmentedStore());
    const twice = '{"type":"Added","data":null,"ts":1,"id":"same"}\n'.repeat(2);
    image.set(`${STORE}/streams/s/P/app.jsonl`, Buffer.from(twice));
    image.set(`${STORE}/notes.txt`, Buffer.from("mine"));
    image.set(`${STORE}/meta/marker.json.tmp`, Buffer.from("{"));
    const disk = diskOf(image);
    const store = await openFileEventStore(disk, STORE);
    for await (const _ of store.readStream({ type: "s", id: "P" }));
    await store.close();
    const { findings } = await verify(STORE, { fileSystem: disk });
    expect(new Set(findings.map(({ kind }) => kind))).toEqual(
      new Set(["unknown-file", "duplicate-event-id", "id-collision"]),
    );
  });

  test("refuses a directory that does not exist, and does not create it", async () => {
    const disk = new SimulatedDisk();
    await expect(verify("/nowhere", { fileSystem: disk })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(repair("/nowhere", { fileSystem: disk })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    expect(disk.stat("/nowhere")).toBeUndefined();
  });
});
