import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { streamKey } from "../../src/file-store/disk/stream-key.ts";
import { HEADER_ROOM, readRecord, type RecordHeader, sealRecord } from "../../src/file-store/log/record-format.ts";
import {
  type NoteSection,
  noteLines,
  readSections,
  type Section,
  sectionHeader,
} from "../../src/file-store/log/record-sections.ts";

interface GivenSection extends Pick<Section, "key" | "version" | "at" | "adopted"> {
  readonly lines: readonly string[];
}

interface Record {
  readonly bytes: Buffer;
  readonly position: number;
  readonly events: number;
}

/** A record of sections, as the log holds it. */
function recordOf(
  parts: readonly (GivenSection | NoteSection)[],
  { position = 1, flushed = 0 }: { readonly position?: number; readonly flushed?: number } = {},
): Record {
  let body = "";
  let events = 0;
  for (const part of parts) {
    if ("lines" in part) {
      const lines = part.lines.map((line) => `${line}\n`).join("");
      body += sectionHeader({ ...part, events: part.lines.length }, Buffer.byteLength(lines)) + lines;
      events += part.lines.length;
    } else body += noteLines(part);
  }
  const buffer = Buffer.concat([Buffer.alloc(HEADER_ROOM), Buffer.from(body)]);
  const adopted = parts.some((part) => "adopted" in part && part.adopted);
  const start = sealRecord(buffer, buffer.length, { position, events, flushed, adopted });
  return { bytes: buffer.subarray(start), position, events };
}

function headerOf(bytes: Buffer, offset = 0, base = 0): RecordHeader {
  const read = readRecord(bytes, offset, bytes.length, base);
  if (read.kind !== "record") throw new Error(`no record but ${JSON.stringify(read)}`);
  return read.header;
}

/** Sections with numbers up to the largest that a store can reach. */
const count = fc.oneof(fc.nat(300), fc.nat(2 ** 53 - 1000));
const text = fc.oneof(
  fc.string({ unit: "binary", maxLength: 12 }),
  fc.constantFrom('"', "\\", '\\"', '","version":1', "größe-日本-🦀", "%a%2Fb", "{", "\u2028"),
);
const key = text.map((name) => streamKey("account", name.replaceAll("\n", "")));
const line = fc.oneof(
  text.map((value) => JSON.stringify({ type: "A", data: value, ts: 1 })),
  fc.constantFrom(
    "{}",
    '{"stream":"x/y","version":1,"at":0,"events":1,"bytes":2}',
    '{"manager":"x","sequence":1,"bytes":2}',
    "é",
  ),
);
const section: fc.Arbitrary<GivenSection> = fc.record({
  key,
  version: count.map((n) => n + 1),
  at: count,
  adopted: fc.boolean(),
  lines: fc.array(line, { minLength: 1, maxLength: 4 }),
});
const consumer: fc.Arbitrary<NoteSection> = fc.record({
  name: fc.stringMatching(/^[a-z][a-z-]{0,9}$/),
  sequence: count,
  note: fc.jsonValue(),
});

describe("a record", () => {
  test("is human-readable text", () => {
    const { bytes } = recordOf(
      [
        {
          key: streamKey("account", "ada"),
          version: 4,
          at: 512,
          adopted: false,
          lines: ['{"type":"A","data":1,"ts":5,"ms":0,"pos":7}'],
        },
      ],
      { position: 7, flushed: 1022 },
    );
    const [first, second, third, rest] = bytes.toString("utf8").split("\n");
    expect(first).toMatch(/^\{"commit":7,"events":1,"bytes":\d+,"flushed":1022,"crc":"[0-9a-f]{8}"\}$/);
    expect(second).toBe('{"stream":"account/ada","version":4,"at":512,"events":1,"bytes":44}');
    expect(third).toBe('{"type":"A","data":1,"ts":5,"ms":0,"pos":7}');
    expect(rest).toBe("");
    for (const each of [first, second, third]) expect(() => JSON.parse(each ?? "") as unknown).not.toThrow();
  });

  test("has the same sections at any place in a buffer", () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof({ weight: 4, arbitrary: section }, { weight: 1, arbitrary: consumer }), { maxLength: 6 }),
        fc.record({ position: count.map((n) => n + 1), flushed: count }),
        fc.nat(500),
        fc.nat(100_000),
        (parts, { position, flushed }, before, base) => {
          const { bytes, events } = recordOf(parts, { position, flushed });
          const buffer = Buffer.concat([Buffer.alloc(before, "x"), bytes, Buffer.alloc(20)]);
          const header = headerOf(buffer, before, base);
          expect(header).toMatchObject({ position, events, flushed, start: base + before });
          expect(header.end).toBe(base + before + bytes.length);

          const seen: (Section | NoteSection)[] = [];
          readSections(
            buffer,
            header,
            base,
            (each) => seen.push(each),
            (each) => seen.push(each),
          );
          let at = position;
          for (const [i, part] of parts.entries()) {
            const found = seen[i];
            if (!("lines" in part)) {
              expect(found).toMatchObject(JSON.parse(JSON.stringify(part)) as object);
              continue;
            }
            const { lines, ...given } = part;
            expect(found).toMatchObject({ ...given, events: lines.length, position: at });
            const { start, end } = found as Section;
            expect(buffer.toString("utf8", start, end)).toBe(lines.map((each) => `${each}\n`).join(""));
            at += lines.length;
          }
          expect(seen).toHaveLength(parts.length);
        },
      ),
      { numRuns: 500 },
    );
  });

  test("can be read without its notes of consumers", () => {
    const given = { key: streamKey("a", "b"), version: 1, at: 0, adopted: false, lines: ["{}"] };
    const { bytes } = recordOf([given, { name: "pm", sequence: 3, note: { at: 1 } }, { ...given, version: 2, at: 3 }]);
    const versions: number[] = [];
    readSections(bytes, headerOf(bytes), 0, ({ version }) => versions.push(version));
    expect(versions).toEqual([1, 2]);
  });
});

describe("damage", () => {
  const { bytes } = recordOf(
    [
      {
        key: streamKey("account", "größe 🦀"),
        version: 3,
        at: 77,
        adopted: true,
        lines: ['{"type":"Ä","data":[1,2],"ts":5}', "{}"],
      },
      { name: "transfers", sequence: 12, note: { at: 5 }, deadLetters: [{ key: "k", letter: { error: "no" } }] },
      {
        key: streamKey("account", 'a"b'),
        version: 1,
        at: 0,
        adopted: false,
        lines: ['{"type":"B","data":null,"ts":5,"ms":1,"pos":9}'],
      },
    ],
    { position: 1007, flushed: 4096 },
  );
  const followed = Buffer.concat([bytes, recordOf([], { position: 1010 }).bytes, Buffer.alloc(300)]);

  test("of any bit is detected", () => {
    expect(headerOf(followed).end).toBe(bytes.length);
    for (let at = 0; at < bytes.length; at++) {
      for (let bit = 0; bit < 8; bit++) {
        const damaged = Buffer.from(followed);
        damaged[at] = (damaged[at] ?? 0) ^ (1 << bit);
        const { kind } = readRecord(damaged, 0, damaged.length, 0);
        if (kind === "record" || kind === "nothing") throw new Error(`byte ${at}, bit ${bit}: ${kind}`);
      }
    }
  });

  test("of any byte is detected, whatever its new value", () => {
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const damaged = Buffer.from(followed);
        damaged[at] = (damaged[at] ?? 0) ^ change;
        expect(readRecord(damaged, 0, damaged.length, 0).kind).not.toBe("record");
      }),
      { numRuns: 3000 },
    );
  });

  test("of several bytes in a row is detected", () => {
    const run = fc.uint8Array({ minLength: 1, maxLength: 64 });
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), run, (at, change) => {
        const damaged = Buffer.from(followed);
        for (const [i, byte] of change.slice(0, bytes.length - at).entries()) damaged[at + i] = byte;
        fc.pre(!damaged.equals(followed));
        expect(readRecord(damaged, 0, damaged.length, 0).kind).not.toBe("record");
      }),
      { numRuns: 2000 },
    );
  });

  test("by a write that stopped anywhere is detected, whatever bytes it should have replaced", () => {
    for (const filler of [0, 0x7b, 0xff]) {
      for (let written = 0; written < bytes.length; written++) {
        const torn = Buffer.alloc(followed.length, filler);
        bytes.copy(torn, 0, 0, written);
        const { kind } = readRecord(torn, 0, torn.length, 0);
        expect(kind).toBe(written === 0 && filler === 0 ? "nothing" : kind === "short" ? "short" : "invalid");
      }
    }
  });

  test("by sectors that were not written is detected", () => {
    for (let from = 0; from < bytes.length; from += 7) {
      for (const length of [1, 64, 512]) {
        const torn = Buffer.from(followed);
        torn.fill(0, from, Math.min(bytes.length, from + length));
        expect(readRecord(torn, 0, torn.length, 0).kind).not.toBe("record");
      }
    }
  });

  test("is distinguished from a record that the buffer holds only in part", () => {
    for (let length = 0; length < bytes.length; length++) {
      const read = readRecord(followed, 0, length, 0);
      if (length === 0) expect(read).toEqual({ kind: "nothing" });
      else if (read.kind === "short") expect(read.need).toBeGreaterThan(length);
      else throw new Error(`${length} bytes of a sound record are ${read.kind}`);
    }
    // With the missing bytes, the record is read.
    let length = 1;
    for (let rounds = 0; rounds < 5; rounds++) {
      const read = readRecord(followed, 0, length, 0);
      if (read.kind !== "short") break;
      length = read.need;
    }
    expect(readRecord(followed, 0, length, 0).kind).toBe("record");
  });

  test("is not reported where nothing was written", () => {
    expect(readRecord(Buffer.alloc(500), 0, 500, 0)).toEqual({ kind: "nothing" });
    expect(readRecord(bytes, bytes.length, bytes.length, 0)).toEqual({ kind: "nothing" });
  });
});
