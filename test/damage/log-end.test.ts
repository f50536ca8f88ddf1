import { isEventfoldError } from "eventfold-es";
import { repair, verify } from "eventfold-es/doctor";
import { exploreCrashes } from "eventfold-es/testing";
import { describe, expect, test } from "vitest";
import type { FileEventStore } from "../../src/file-store/file-event-store.ts";
import { openFileEventStore } from "../../src/file-store/open-store.ts";
import { collect } from "../support/collect.ts";
import {
  changedParts,
  diskOf,
  fill,
  type Image,
  imageOf,
  type NotesEnd,
  notesStore,
  observeNotes,
  STORE,
  withFile,
} from "../support/damage.ts";

/** The log's last segment: its path, its bytes without the preallocated space, and where its records begin. */
function lastSegment(image: Image): { readonly path: string; readonly bytes: Buffer; readonly records: number[] } {
  const path =
    [...image.keys()]
      .filter((file) => file.includes("/commit_log/"))
      .toSorted()
      .at(-1) ?? "";
  const whole = Buffer.from(image.get(path) ?? []);
  const bytes = whole.subarray(0, whole.lastIndexOf("\n") + 1);
  const records: number[] = [];
  for (let at = bytes.indexOf('{"commit"'); at >= 0; at = bytes.indexOf('{"commit"', at + 1)) records.push(at);
  return { path, bytes, records };
}

/** The findings about a store, and its contents after repair. */
async function examine(image: Image) {
  const seen = await observeNotes(diskOf(image));
  const disk = diskOf(image);
  const report = await verify(STORE, { fileSystem: disk });
  const { lost, after } = await repair(STORE, { fileSystem: disk });
  const again = await repair(STORE, { fileSystem: disk });
  return {
    seen,
    found: report.findings.filter(({ severity }) => severity !== "info"),
    lost,
    after,
    again: { actions: again.actions, lost: again.lost },
    repaired: await observeNotes(diskOf(imageOf(disk))),
  };
}

/** The sequences and contents of the notes of an observation. */
function notesOf(seen: Readonly<Record<string, string>>): { readonly sequence: number; readonly note: object }[] {
  return JSON.parse(seen["notes"] ?? "") as { readonly sequence: number; readonly note: object }[];
}

type Kind = Omit<NotesEnd, "closed"> & { readonly name: string };

const KINDS: readonly Kind[] = [
  { name: "a note", commits: ["note"] },
  { name: "notes", commits: ["note", "note", "note"] },
  { name: "a note with a dead letter", commits: ["note", "letter"] },
  { name: "a note after an event", commits: ["note", "event", "note"] },
  { name: "an event with a note", commits: ["note", "event and note"] },
  { name: "a segment that holds nothing but notes", commits: ["note", "note"], segmentBytes: 650 },
  { name: "a segment that begins with an event", commits: ["event", "note", "note"], segmentBytes: 400 },
];

const ends: readonly (Kind & NotesEnd)[] = KINDS.flatMap((kind) => [
  { ...kind, name: `${kind.name}, in a store that was not closed`, closed: false },
  { ...kind, name: `${kind.name}, in a closed store`, closed: true },
]);

describe.each(ends)("the end of the log is $name", ({ closed, ...end }) => {
  test("is as the name of this case says", async () => {
    const image = await notesStore({ closed, ...end });
    const { records, bytes } = lastSegment(image);
    expect(records.length).toBeGreaterThan(0);
    expect(bytes.toString("utf8", records.at(-1))).toContain('{"manager":');
    const { found, seen, lost } = await examine(image);
    expect({ found, lost, open: seen["open"] }).toEqual({ found: [], lost: [], open: "ok" });
  });

  test("commits that are cut off or overwritten are found, and reported as lost", async () => {
    const image = await notesStore({ closed, ...end });
    const reference = await observeNotes(diskOf(image));
    const { path, bytes, records } = lastSegment(image);
    const whole = image.get(path)?.length ?? 0;
    const [last = 0] = records.slice(-1);
    const starts = new Set([0, ...records]);
    for (const length of [...starts, ...Array.from({ length: bytes.length - last }, (_, i) => last + i)]) {
      const cut = bytes.subarray(0, length);
      const zeroed = Buffer.alloc(whole);
      cut.copy(zeroed);
      for (const [how, content] of [
        ["cut", cut],
        ["zeroed", zeroed],
      ] as const) {
        const name = `${how} from byte ${length} on`;
        const { seen, found, lost, after, again, repaired } = await examine(withFile(image, path, content));
        expect(changedParts(reference, seen), name).toEqual([]);
        const isLastByte = length === bytes.length - 1;
        if (!closed || how === "cut") expect(seen, name).toEqual({ open: "error CORRUPT_LOG" });
        expect(new Set(found.map(({ file }) => file)), name).toEqual(new Set([path]));
        expect(found.every(({ severity, offset }) => severity === "error" && (offset ?? 0) <= length)).toBe(true);
        expect(
          { clean: after.clean, findings: after.findings.filter(({ severity }) => severity !== "info") },
          name,
        ).toEqual({ clean: true, findings: [] });
        expect(again, name).toEqual({ actions: [], lost: [] });
        expect({ open: repaired["open"], events: repaired["events"], all: repaired["all"] }, name).toEqual({
          open: "ok",
          events: reference["events"],
          all: reference["all"],
        });
        const before = notesOf(reference);
        const left = notesOf(repaired).filter(({ note }) => Object.keys(note).length > 0);
        expect(left, name).toEqual(before.slice(0, left.length));
        if (left.length < before.length)
          expect(new Set(lost.map(({ kind }) => kind)), name).toEqual(new Set(["notes-lost"]));
        else expect(lost, name).toEqual([]);
        expect(left.length === before.length, name).toBe(isLastByte && how === "zeroed");
      }
    }
  });

  test("commits that many changed bytes have destroyed are found, and reported as lost", async () => {
    const image = await notesStore({ closed, ...end });
    const reference = await observeNotes(diskOf(image));
    const { path, bytes, records } = lastSegment(image);
    const [last = 0] = records.slice(-1);
    for (const [name, from, to] of [
      ["the record's first line", last + 3, last + 20],
      ["the note", bytes.length - 8, bytes.length - 2],
      ["the whole record", last, bytes.length],
    ] as const) {
      const changed = Buffer.from(image.get(path) ?? []);
      changed.fill("#", from, to);
      const { seen, found, lost, after, again, repaired } = await examine(withFile(image, path, changed));
      expect(changedParts(reference, seen), name).toEqual([]);
      if (!closed) expect(seen, name).toEqual({ open: "error CORRUPT_LOG" });
      expect(new Set(found.map(({ file }) => file)), name).toEqual(new Set([path]));
      expect(after.clean, name).toBe(true);
      expect(again, name).toEqual({ actions: [], lost: [] });
      expect(new Set(lost.map(({ kind }) => kind)), name).toEqual(new Set(["notes-lost"]));
      expect(repaired["events"]).toEqual(reference["events"]);
    }
  });

  test("a changed byte is repaired", async () => {
    const image = await notesStore({ closed, ...end });
    const reference = await observeNotes(diskOf(image));
    const { path, bytes, records } = lastSegment(image);
    for (let at = records.at(-1) ?? 0; at < bytes.length; at++) {
      const changed = Buffer.from(image.get(path) ?? []);
      changed[at] = (changed[at] ?? 0) ^ 0x01;
      const { seen, found, lost, after, repaired } = await examine(withFile(image, path, changed));
      const name = `byte ${at}`;
      if (!closed) expect(seen, name).toEqual({ open: "error CORRUPT_LOG" });
      else expect(changedParts(reference, seen), name).toEqual([]);
      expect(new Set(found.map(({ file }) => file)), name).toEqual(new Set([path]));
      expect({ lost, clean: after.clean, repaired }, name).toEqual({ lost: [], clean: true, repaired: reference });
    }
  });

  test("a missing segment is found", async () => {
    const image = await notesStore({ closed, ...end });
    const reference = await observeNotes(diskOf(image));
    const { path } = lastSegment(image);
    const { seen, found, lost, after, again, repaired } = await examine(withFile(image, path, undefined));
    // Without any log, the next opening rebuilds it from the streams' files.
    const isWholeLog = path.endsWith("0000000000000001.jsonl");
    expect(changedParts(reference, seen)).toEqual(isWholeLog ? ["notes"] : []);
    expect(found.every(({ file, severity }) => file.includes("/commit_log/") && severity === "error")).toBe(true);
    expect(found.length).toBeGreaterThan(0);
    expect(lost.map(({ kind }) => kind)).toContain("notes-lost");
    expect(after.clean).toBe(true);
    expect(again).toEqual({ actions: [], lost: [] });
    expect(repaired["events"]).toEqual(reference["events"]);
  });
});

describe("meta/head after a power cut", () => {
  const HEAD = `${STORE}/meta/head`;

  test.each<[string, (heads: readonly Uint8Array[]) => Uint8Array | undefined]>([
    ["nothing", () => undefined],
    ["an empty file", () => new Uint8Array()],
    ["zeros", () => new Uint8Array(60)],
    ["half of the last one", ([last]) => last?.subarray(0, 30)],
    [
      "half of the last one and half of one before",
      ([last, , old]) =>
        Buffer.concat([last?.subarray(0, 40) ?? Buffer.alloc(0), old?.subarray(40) ?? Buffer.alloc(0)]),
    ],
    ["the one before", ([, before]) => before],
    ["one before that, in another segment", ([, , old]) => old],
  ])("is no damage: %s", async (_, choose) => {
    const commits = ["note", "event", "note", "note"] as const;
    const images = await Promise.all(
      [4, 3, 0].map((count) => notesStore({ commits: commits.slice(0, count), closed: false, segmentBytes: 400 })),
    );
    const [image = new Map<string, Uint8Array>()] = images;
    const reference = await observeNotes(diskOf(image));
    const heads = images.map((each) => each.get(HEAD) ?? new Uint8Array());
    const places = heads.map((head) => Buffer.from(head).toString("latin1", 0, 16));
    expect(places[2]).not.toBe(places[0]);
    const left = withFile(image, HEAD, choose(heads));
    const { path, bytes } = lastSegment(image);
    // After the last commit, there is nothing or a torn one.
    const torn = Buffer.from(image.get(path) ?? []);
    torn.write('{"commit":4,"events":0,"bytes":90', bytes.length);
    for (const crashed of [left, withFile(left, path, torn)]) {
      const { seen, found, lost } = await examine(crashed);
      expect(seen).toEqual(reference);
      expect({ lost, damage: found.filter(({ kind }) => kind !== "head-damaged") }).toEqual({ lost: [], damage: [] });
    }
  });
});

describe("a repair that a power cut interrupts", () => {
  const damages: readonly {
    readonly name: string;
    readonly of: (bytes: Buffer, records: readonly number[]) => Buffer;
  }[] = [
    { name: "the last record is cut off", of: (bytes, records) => bytes.subarray(0, records.at(-1)) },
    { name: "the last record is cut in two", of: (bytes, records) => bytes.subarray(0, (records.at(-1) ?? 0) + 90) },
    { name: "the last two records are gone", of: (bytes, records) => bytes.subarray(0, records.at(-2)) },
    {
      name: "the last two records are overwritten",
      of: (bytes, records) => Buffer.from(bytes).fill("#", records.at(-2), bytes.length - 5),
    },
    {
      name: "an earlier record and the end are damaged",
      of: (bytes, records) =>
        Buffer.from(bytes)
          .fill("#", (records[0] ?? 0) + 5, (records[0] ?? 0) + 60)
          .subarray(0, records.at(-1)),
    },
  ];
  const cases = ends.flatMap((end) => damages.map((damage) => ({ ...end, damage })));

  test.each(cases)("leaves a store that opens or can be repaired ($name, $damage.name)", async ({ damage, ...end }) => {
    const image = await notesStore(end);
    const reference = await observeNotes(diskOf(image));
    const { path, bytes, records } = lastSegment(image);
    const damaged = withFile(image, path, damage.of(bytes, records));
    const events = (JSON.parse(reference["all"] ?? "") as unknown[]).length;
    for (const first of ["repair", "open"] as const) {
      let isRepaired = false;
      await exploreCrashes<FileEventStore>({
        seed: `${end.name} ${damage.name}`,
        maxDisks: 40,
        nestEvery: 5,
        prepare: (disk) => fill(disk, damaged),
        open: async (fileSystem) => {
          if (first === "repair" || !isRepaired) await repair(STORE, { fileSystem });
          isRepaired = true;
          let store: FileEventStore | undefined;
          try {
            store = await openFileEventStore(fileSystem, STORE);
            await collect(store.readAll());
            return store;
          } catch (error) {
            if (!isEventfoldError(error) || error.code !== "CORRUPT_LOG") throw error;
            await store?.close();
            await repair(STORE, { fileSystem });
          }
          return openFileEventStore(fileSystem, STORE);
        },
        workload: async () => {},
        check: async ({ store, disk }) => {
          const lines: string[] = [];
          for await (const batch of store.readAll())
            for (const { position, eventId } of batch) lines.push(`${position} ${eventId}`);
          if (lines.length < events) throw new Error(`${lines.length} of ${events} events are there`);
          const { findings } = await verify(STORE, { fileSystem: disk });
          const wrong = findings.filter(({ severity }) => severity === "error");
          if (wrong.length > 0) throw new Error(JSON.stringify(wrong));
          return lines;
        },
        goOn: async ({ store }) => {
          const version = (await collect(store.readStream({ type: "s", id: "p" }))).flat().length;
          const event = { type: "Added", data: "null", schemaVersion: 0, timestamp: 1, eventId: `next ${version}` };
          await store.commit({
            appends: [{ stream: { type: "s", id: "p" }, expectedVersion: version, events: [event] }],
          });
        },
      });
    }
  });

  test("or a kill at any call leaves no marker inside the rewritten part", async () => {
    const disk = diskOf(await notesStore({ commits: ["event"], closed: true }));
    const store = await openFileEventStore(disk, STORE);
    const event = { type: "Added", data: "null", schemaVersion: 0, timestamp: 1, eventId: "last" };
    await store.commit({ appends: [{ stream: { type: "s", id: "p" }, expectedVersion: 3, events: [event] }] });
    // The marker is between the last two commits, and the head is lost.
    const image = new Map(imageOf(disk));
    image.delete(`${STORE}/meta/head`);
    await store.close();
    const { path, bytes, records } = lastSegment(image);
    const damaged = withFile(image, path, Buffer.from(bytes).fill("#", records.at(-2), bytes.length - 5));
    const events = async (on: typeof disk) => (await observeNotes(diskOf(imageOf(on))))["all"];
    const reference = await events(diskOf(image));
    const whole = diskOf(damaged);
    const before = whole.callCount;
    await repair(STORE, { fileSystem: whole });
    expect(await events(whole)).toBe(reference);
    for (let stop = 0, calls = whole.callCount - before; stop < calls; stop++) {
      const stopped = diskOf(damaged);
      const process = stopped.process();
      let count = 0;
      const end = stopped.failWhen(() => {
        if (count++ >= stop) process.kill();
        return undefined;
      });
      await expect(repair(STORE, { fileSystem: process })).rejects.toThrow();
      end();
      const isMended = !Buffer.from(stopped.bytesOf(path) ?? []).equals(damaged.get(path) ?? Buffer.alloc(0));
      const seen = await observeNotes(stopped);
      if (isMended && seen["open"] === "ok") expect(seen["all"], `stopped at call ${stop}`).toBe(reference);
      expect([undefined, "error CORRUPT_LOG", reference], `stopped at call ${stop}`).toContain(seen["all"]);
      const { after, lost } = await repair(STORE, { fileSystem: stopped });
      expect({ clean: after.clean, lost, all: await events(stopped) }, `stopped at call ${stop}`).toEqual({
        clean: true,
        lost: [],
        all: reference,
      });
    }
  });
});
