import { createHash } from "node:crypto";
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { crc32 } from "node:zlib";
import { aggregate, AggregateStore, data, isEventfoldError } from "eventfold-es";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import xxhash from "xxhash-wasm";
import { codeBlocks, onlyBlock, readDocument, runProgram } from "./documentation.ts";

const document = readDocument("docs/format.md");
const shown = new Map(codeBlocks(document).flatMap(({ file, code }) => (file === undefined ? [] : [[file, code]])));

const Counter = aggregate("counter", {
  initial: 0,
  events: { Added: data<number>().to<{ by: number }>((by) => ({ by })) },
  commands: { Add: data<{ by: number }>() },
}).define({
  handle: { Add: ({ data, emit }) => emit.Added(data) },
  apply: { Added: (sum, { by }) => sum + by },
});

const caches = [
  "streams/counter/a/views/state.snapshot.json",
  "projections/sums/checkpoint.eventfold.json",
  "meta/declared/checkpoint.eventfold.json",
];
const LOG = "commit_log/0000000000000001.jsonl";

function checksum(bytes: Uint8Array | string, before = 0): string {
  return crc32(bytes, before).toString(16).padStart(8, "0");
}

/** Checks a segment byte by byte against the document. Returns its events and sections. */
function readSegment(bytes: Buffer): { sections: Record<string, unknown>[]; lines: string[] } {
  const sections: Record<string, unknown>[] = [];
  const lines: string[] = [];
  const lineAt = (at: number): string => bytes.toString("utf8", at, bytes.indexOf("\n", at));
  const header = lineAt(0);
  expect(header).toBe('{"eventfold-es":"commit log","format":1,"first":1}');
  let at = header.length + 1;
  let position = 1;
  while (at < bytes.length) {
    const first = lineAt(at);
    const record = JSON.parse(first) as Record<"commit" | "events" | "bytes" | "flushed", number> & {
      readonly crc: string;
      readonly adopted?: true;
    };
    const keys = ["commit", "events", "bytes", "flushed", ...(record.adopted === true ? ["adopted"] : []), "crc"];
    expect(Object.keys(record)).toEqual(keys);
    expect(record.commit).toBe(position);
    expect(record.flushed).toBe(at);
    const body = at + first.length + 1;
    const end = body + record.bytes;
    expect(record.crc).toBe(checksum(bytes.subarray(body, end), crc32(first.slice(0, first.indexOf(',"crc"')))));
    let adopted: true | undefined;
    for (at = body; at < end;) {
      const line = lineAt(at);
      const section = JSON.parse(line) as { events: number; bytes: number; adopted?: true };
      adopted ??= section.adopted;
      at += Buffer.byteLength(line) + 1;
      const text = bytes.toString("utf8", at, at + section.bytes);
      const events = text.split("\n").filter((event) => event !== "");
      expect(events.length).toBe(section.events);
      lines.push(...events);
      sections.push({ ...section, text });
      position += section.events;
      at += section.bytes;
    }
    expect(at).toBe(end);
    expect(record.adopted).toBe(adopted);
    expect(position).toBe(record.commit + record.events);
  }
  return { sections, lines };
}

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "format-"));
  return () => rm(directory, { recursive: true, force: true });
});

const read = (path: string): Buffer => readFileSync(join(directory, path));

function write(path: string, content: string): void {
  mkdirSync(dirname(join(directory, path)), { recursive: true });
  writeFileSync(join(directory, path), content);
}

describe("the example in docs/format.md", () => {
  let example: string;
  const file = (path: string): Buffer => readFileSync(join(example, "store", path));

  beforeAll(async () => {
    example = await mkdtemp(join(tmpdir(), "format-example-"));
    await runProgram(onlyBlock(document, "ts").code, example);
  });
  afterAll(() => rm(example, { recursive: true, force: true }));

  test("shows the bytes of the files that the program writes", () => {
    const same = [...shown].filter(([path]) => !/^adopted |snapshot|checkpoint/.test(path));
    expect(same.map(([path]) => path)).toEqual([
      "streams/counter/a/app.jsonl",
      LOG,
      "meta/streams.jsonl",
      "meta/marker.json",
      "meta/head",
    ]);
    for (const [path, code] of same) expect(file(path).toString(), path).toBe(code);
  });

  test("describes meta/stream_ends", () => {
    const table = file("meta/stream_ends");
    expect(table.toString("latin1", 0, 16)).toBe("eventfold ends 1");
    const [slots, used, position] = [16, 24, 32].map((at) => Number(table.readBigUInt64BE(at)));
    expect({ used, position, bytes: table.length }).toEqual({ used: 2, position: 4, bytes: 64 + 32 * (slots ?? 0) });
    expect(table.readUInt32BE(40)).toBe(crc32(table.subarray(0, 40)));
    for (const [name, version] of [
      ["a", 3],
      ["%b%2F%C3%BC", 1],
    ] as const) {
      const lines = file(`streams/counter/${name}/app.jsonl`);
      const hash = createHash("sha256").update(`counter/${name}`).digest();
      let at = hash.readUInt32BE(0) % (slots ?? 1);
      while (!table.subarray(64 + 32 * at, 64 + 32 * at + 12).equals(hash.subarray(0, 12))) at++;
      const slot = table.subarray(64 + 32 * at, 64 + 32 * (at + 1));
      expect([slot.readUIntBE(12, 5), slot.readUIntBE(17, 6), slot.readUInt32BE(23)]).toEqual([
        version,
        lines.length,
        crc32(lines),
      ]);
      expect(slot.readUInt32BE(28)).toBe(crc32(slot.subarray(0, 28)));
    }
  });

  test("names every file", () => {
    const files = readdirSync(join(example, "store"), { recursive: true, withFileTypes: true });
    const names = files.filter((entry) => entry.isFile()).map((entry) => entry.name);
    expect(names.sort()).toEqual(
      [
        "0000000000000001.jsonl",
        "app.jsonl",
        "app.jsonl",
        "checkpoint.eventfold.json",
        "checkpoint.eventfold.json",
        "checkpoint.eventfold.json",
        "head",
        "lock",
        "marker.json",
      ].concat("state.snapshot.json", "stream_ends", "streams.jsonl", "turn"),
    );
    for (const name of ["meta/lock", "meta/turn"]) expect(file(name).length).toBe(0);
  });

  test("follows the rules for records and sections", () => {
    const { sections, lines } = readSegment(file(LOG));
    expect(lines.map((line) => (JSON.parse(line) as { pos: number }).pos)).toEqual([1, 2, 3, 4]);
    for (const { stream, at, bytes, text } of sections) {
      const stored = file(`streams/${String(stream)}/app.jsonl`);
      expect(stored.toString("utf8", Number(at), Number(at) + Number(bytes))).toBe(text);
    }
  });

  test("follows the rules for the small files", () => {
    for (const path of ["meta/marker.json", ...caches]) {
      const [, checked = "", crc] = /^(.*),"crc":"(.{8})"\}\n?$/.exec(file(path).toString()) ?? [];
      expect(crc, path).toBe(checksum(checked));
    }
    const head = file("meta/head").toString();
    expect(head.length).toBe(60);
    expect(head.slice(51, 59)).toBe(checksum(head.slice(0, 50)));
  });

  test.each(caches)("shows %s, except the fields that depend on the code", (path) => {
    const documented = (shown.get(path) ?? "").slice(0, -1);
    let checked = file(path)
      .toString()
      .replace(/,"crc".*$/, "");
    // Where a cursor's batch began depends on how long the thread took to read it.
    for (const field of [/"fingerprint":"[0-9a-f]{16}"/, /"since":[0-9]+/, /,"bookmark":\[[0-9,]+\]/])
      checked = checked.replace(field, field.exec(documented)?.[0] ?? "");
    expect(`${checked},"crc":"${checksum(checked)}"}`).toBe(documented);
  });

  test("has the hash of the last line in its snapshot", async () => {
    const text = file("streams/counter/a/views/state.snapshot.json").toString();
    const { offset, hash } = JSON.parse(text) as { offset: number; hash: string };
    const lines = file("streams/counter/a/app.jsonl").subarray(0, offset).toString().split("\n");
    const { h64Raw } = await xxhash();
    const last = h64Raw(Buffer.from(lines.at(-2) ?? ""));
    expect(hash).toBe(last.toString(16).padStart(16, "0"));
  });
});

describe("docs/format.md describes", () => {
  const open = () =>
    AggregateStore.builder(directory)
      .aggregate(Counter)
      .clock(() => 1500)
      .ids(() => "x")
      .onUnknownEvent("skip")
      .open();

  test("adopted streams", async () => {
    const stream = "streams/counter/c-1/app.jsonl";
    const lines = shown.get(`adopted ${stream}`) ?? "";
    write(stream, lines);
    await (await AggregateStore.open(directory)).close();
    expect(read(LOG).toString()).toBe(shown.get(`adopted ${LOG}`));
    expect(read(stream).toString()).toBe(lines);
    readSegment(read(LOG));

    appendFileSync(join(directory, stream), '{"type":"Incremented","data":null,"ts":1795415062}\n\n{"torn');
    const store = await open();
    const added = store.get(Counter, "c-1").execute(Counter.commands.Add({ by: 1 }));
    expect(await added).toMatchObject({ version: 4, position: 4 });
    await store.close();
    const { sections } = readSegment(read(LOG));
    expect(sections).toMatchObject([
      { version: 1, at: 0, events: 2, bytes: 204, adopted: true },
      { version: 3, at: 204, events: 1, bytes: 52, adopted: true },
      { version: 4, at: 256, events: 1, bytes: 72 },
    ]);
    expect(read("meta/quarantine/counter.c-1.256").toString()).toBe('{"torn');
  });

  test("lines", async () => {
    const store = await open();
    await store.get(Counter, "a").execute(Counter.commands.Add({ by: 1 }));
    await store.close();
    expect(read("streams/counter/a/app.jsonl").toString()).toBe(
      '{"type":"Added","data":{"by":1},"ts":1,"id":"x","ms":500,"pos":1,"v":1}\n',
    );
  });

  test("bad lines", async () => {
    const good = '{"type":"Added","data":1,"ts":1}\n';
    write("streams/counter/a/app.jsonl", `${good}{"type":"Added","data":1,"ts":0.5}\n`);
    const store = await open();
    const failure: unknown = await store
      .get(Counter, "a")
      .state()
      .catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: "CORRUPT_STREAM", line: 2, offset: good.length });
    await store.close();
  });

  test("subscriptions", async () => {
    const store = await open();
    await store.get(Counter, "a").execute(Counter.commands.Add({ by: 1 }));
    for await (const event of store.subscribe({ name: "mailer" })) {
      if (event.position === 1) await store.get(Counter, "a").execute(Counter.commands.Add({ by: 1 }));
      else break;
    }
    await store.close();
    const text = read("subscriptions/mailer/checkpoint.eventfold.json").toString();
    const [, checked = "", crc] = /^(.*),"crc":"(.{8})"\}$/.exec(text) ?? [];
    expect(Object.entries(JSON.parse(`${checked}}`) as object).slice(0, 2)).toEqual([
      ["state", null],
      ["position", 1],
    ]);
    expect(crc).toBe(checksum(checked));
  });

  test("zeros", async () => {
    const store = await open();
    await store.get(Counter, "a").execute(Counter.commands.Add({ by: 1 }));
    const segment = read(LOG);
    const records = segment.subarray(0, segment.indexOf(0));
    expect(segment.length).toBe(51 + (1 << 20));
    expect(segment.subarray(records.length).every((byte) => byte === 0)).toBe(true);
    await store.close();
    expect(read(LOG).equals(records)).toBe(true);
  });

  test("a torn tail and damage", async () => {
    const store = await open();
    for (let by = 1; by <= 3; by++) await store.get(Counter, "a").execute(Counter.commands.Add({ by }));
    await store.close();
    rmSync(join(directory, "meta/marker.json"));
    const whole = read(LOG);
    const secondRecord = whole.indexOf('{"commit":2');
    const thirdRecord = whole.indexOf('{"commit":3');

    const damaged = Buffer.from(whole);
    damaged.write("#", secondRecord + 100);
    writeFileSync(join(directory, LOG), damaged);
    const failure: unknown = await open().catch((error: unknown) => error);
    expect(isEventfoldError(failure)).toBe(true);
    expect(read(LOG).equals(damaged)).toBe(true);

    damaged.write("#", thirdRecord + 100);
    const torn = Buffer.concat([whole.subarray(0, thirdRecord), damaged.subarray(thirdRecord)]);
    writeFileSync(join(directory, LOG), torn);
    const known: unknown = await open().catch((error: unknown) => error);
    expect(isEventfoldError(known, "CORRUPT_LOG")).toBe(true);
    expect(read(LOG).equals(torn)).toBe(true);

    // No file mentions the third record.
    rmSync(join(directory, "meta/head"));
    await (await open()).close();
    expect(read(LOG).equals(whole.subarray(0, thirdRecord))).toBe(true);
    expect(read(`meta/quarantine/commit_log.1.${thirdRecord}`).equals(damaged.subarray(thirdRecord))).toBe(true);
  });

  test("a segment of another format version", async () => {
    write(LOG, '{"eventfold-es":"commit log","format":2,"first":1}\n');
    const failure: unknown = await open().catch((error: unknown) => error);
    expect(isEventfoldError(failure)).toBe(true);
    expect(read(LOG).toString()).toContain('"format":2');
  });

  test("names", async () => {
    const rows = [...document.text.matchAll(/^\| `([^`]+)`[^|]* \| `([^`]+)` \|$/gm)];
    expect(rows.length).toBeGreaterThan(10);
    const store = await open();
    for (const [, id = "", name = ""] of rows) {
      expect(existsSync(join(directory, "streams/counter", name)), name).toBe(false);
      await store.get(Counter, id).execute(Counter.commands.Add({ by: 1 }));
      expect(readdirSync(join(directory, "streams/counter")), id).toContain(name);
    }
    expect((await store.list(Counter)).sort()).toEqual(rows.map(([, id = ""]) => id).sort());
    await store.close();
  });
});
