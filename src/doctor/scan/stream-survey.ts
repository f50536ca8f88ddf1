import { isUtf8 } from "node:buffer";
import { type FileHandle, type FileSystem, systemErrorCode } from "../../fs/file-system.ts";
import { findStreams } from "../../file-store/streams/stream-list.ts";
import type { RecordHeader } from "../../file-store/log/record-format.ts";
import type { CutRow } from "../../file-store/streams/cuts.ts";
import { isReclaimed, reclaimedPlaces } from "../../file-store/log/reclaimed-section.ts";
import { cutOfLine } from "../../file-store/lines/cut-line.ts";
import type { Section } from "../../file-store/log/record-sections.ts";
import { parseLine } from "../../file-store/lines/parse-line.ts";
import type { StorePaths } from "../../file-store/disk/store-paths.ts";
import { crcOfLines } from "../../file-store/lines/line-reader.ts";
import type { StreamKey } from "../../file-store/disk/stream-key.ts";
import { lineAt, type LogBytes, readAt } from "../findings.ts";

/** A part of a stream's file that the log's good records say nothing about. */
export interface Uncovered {
  readonly key: StreamKey;
  readonly from: number;
  readonly to: number;
  readonly firstVersion: number;
  /** Nothing for lines after the last covered byte. */
  readonly lastVersion: number | undefined;
}

/** A section whose bytes in the stream's file are others than in the log. */
export interface Difference {
  readonly key: StreamKey;
  readonly at: number;
  /** First byte of the file that is wrong. */
  readonly wrong: number;
  readonly version: number;
  readonly source: LogBytes;
  /** Nothing was written there yet, or not all of it: what a crash leaves. */
  readonly unwritten: boolean;
  /** There are blank lines, as `reclaim` leaves them in the place of dropped events. */
  readonly isReclaimed: boolean;
}

/** What the log says of a stream. */
export interface SurveyedStream {
  version: number;
  end: number;
  /** CRC-32 of its lines; not to be used if the log has a gap in the stream. */
  crc: number;
  /** Of the first section. */
  readonly first: LogBytes;
  /** The time of the first event is not known: the Rust crate wrote its line, or it was reclaimed. */
  readonly adopted: boolean;
  readonly seconds: number;
  differences: Difference[];
  readonly holes: Uncovered[];
  /** What the log contradicts itself in. */
  readonly contradictions: string[];
  /** Version of the last event whose line was reclaimed in the log; 0 for none. */
  reclaimedTo: number;
}

/** One line of a part of a stream's file that the log does not have. */
export interface UncoveredLine {
  readonly key: StreamKey;
  readonly version: number;
  readonly from: number;
  readonly to: number;
  /** Nothing for a foreign line, and for one that cannot be read. */
  readonly position: number | undefined;
  readonly readable: boolean;
  /** Milliseconds since 1970; of the line before for one that cannot be read. */
  readonly time: number;
  /** The line was reclaimed; the file has blank lines there. */
  readonly isReclaimed?: true;
}

const MAX_OPEN = 200;
const NEWLINE = 0x0a;

/** Follows the streams through the log and compares each section with the stream's own file. */
export class StreamSurvey {
  readonly streams: Map<StreamKey, SurveyedStream> = new Map();
  /** Where the log cuts streams, in its order. */
  readonly cuts: CutRow[] = [];
  /** Files that the system does not let us read. */
  readonly unreadable: Map<string, unknown> = new Map();
  readonly #fs: FileSystem;
  readonly #paths: StorePaths;
  readonly #open = new Map<StreamKey, FileHandle | undefined>();

  constructor(fs: FileSystem, paths: StorePaths) {
    this.#fs = fs;
    this.#paths = paths;
  }

  path(key: StreamKey): string {
    return `${this.#paths.streams}/${key}/app.jsonl`;
  }

  /** Takes a section of a good record. */
  add(
    section: Section,
    buffer: Buffer,
    header: RecordHeader,
    base: number,
    segment: Pick<LogBytes, "path" | "segment">,
  ): void {
    const { key, version, at, events, adopted, cut, start, end } = section;
    const source = { ...segment, offset: base + start, length: end - start };
    let stream = this.streams.get(key);
    if (stream === undefined) {
      const isUnknown = adopted || isReclaimed(buffer, section);
      const seconds = isUnknown ? 0 : secondsOf(buffer, start);
      stream = {
        version: 0,
        end: 0,
        crc: 0,
        first: source,
        adopted: isUnknown,
        seconds,
        differences: [],
        holes: [],
        contradictions: [],
        reclaimedTo: 0,
      };
      this.streams.set(key, stream);
    }
    const where = `the commit of position ${header.position}`;
    if (version <= stream.version || at < stream.end)
      stream.contradictions.push(
        `${where} puts version ${version} at byte ${at}; version ${stream.version} ends at byte ${stream.end}`,
      );
    else if (version !== stream.version + 1 || (at !== stream.end && !this.#isBlank(key, stream.end, at))) {
      stream.holes.push({
        key,
        from: stream.end,
        to: at,
        firstVersion: stream.version + 1,
        lastVersion: version - 1,
      });
    }
    if (isReclaimed(buffer, section)) stream.reclaimedTo = version + events - 1;
    else {
      const wrong = checkLines(buffer, section);
      if (wrong !== undefined) stream.contradictions.push(`${where}: ${wrong}`);
    }
    this.#compare(stream, section, buffer, source);
    if (cut !== undefined) {
      this.cuts.push([key, { version, at, position: section.position, kind: cut }]);
      // Dropped lines may be reclaimed in one place and not yet in the other.
      stream.differences = stream.differences.filter((difference) => !difference.isReclaimed);
      stream.reclaimedTo = 0;
    }
    stream.crc = crcOfLines(buffer, start, end, cut === undefined ? stream.crc : 0);
    stream.version = version + events - 1;
    stream.end = at + end - start;
  }

  close(): void {
    for (const file of this.#open.values()) file?.close();
    this.#open.clear();
  }

  /** The lines after the last byte that the log covers, for every stream, including those that only have a file. */
  tails(): Uncovered[] {
    const tails: Uncovered[] = [];
    for (const key of new Set([...this.streams.keys(), ...findStreams(this.#fs, this.#paths)])) {
      const { version, end } = this.streams.get(key) ?? { version: 0, end: 0 };
      const size = this.#fs.stat(this.path(key))?.size ?? 0;
      if (size > end) tails.push({ key, from: end, to: size, firstVersion: version + 1, lastVersion: undefined });
    }
    return tails;
  }

  /** The complete lines of an uncovered part, and where the last of them ends. */
  lines({ key, from, to, firstVersion, lastVersion }: Uncovered): {
    readonly lines: readonly UncoveredLine[];
    readonly end: number;
  } {
    const bytes = this.bytes(key, from, to);
    const lines: UncoveredLine[] = [];
    let version = firstVersion;
    let time = 0;
    let start = 0;
    let blankFrom = from;
    const addReclaimed = (next: number | undefined, before: number, cut: number): void => {
      for (const { version: missing, offset, end } of reclaimedPlaces(version, next, blankFrom, before)) {
        const place = { key, version: missing, from: offset, to: end };
        lines.push({ ...place, position: undefined, readable: true, time: cut, isReclaimed: true });
        version = missing + 1;
      }
    };
    for (let stop = bytes.indexOf(NEWLINE); stop >= 0; stop = bytes.indexOf(NEWLINE, start)) {
      const text = bytes.toString("utf8", start, stop);
      if (!/^[ \t\r]*$/.test(text)) {
        const parsed = tryParse(bytes.subarray(start, stop));
        if (parsed !== undefined) time = parsed.ts * 1000 + (parsed.ms ?? 0);
        addReclaimed(cutOfLine(text)?.version, from + start, parsed?.pos ?? 0);
        const readable = parsed !== undefined;
        lines.push({ key, version, from: from + start, to: from + stop + 1, position: parsed?.pos, readable, time });
        version++;
        blankFrom = from + stop + 1;
      }
      start = stop + 1;
    }
    if (lastVersion !== undefined) addReclaimed(lastVersion + 1, from + start, 0);
    return { lines, end: from + start };
  }

  bytes(key: StreamKey, from: number, to: number): Buffer {
    const file = this.#file(key);
    const bytes = Buffer.alloc(Math.max(0, to - from));
    return bytes.subarray(0, file?.read(bytes, 0, bytes.length, from) ?? 0);
  }

  /** The 1-based line of a byte in a stream's file. */
  line(key: StreamKey, offset: number): number {
    return lineAt(readAt(this.#fs, this.path(key), 0, offset), offset);
  }

  #compare(stream: SurveyedStream, { key, at, start, end, version }: Section, buffer: Buffer, source: LogBytes): void {
    if (this.unreadable.has(this.path(key))) return;
    let there: Buffer;
    try {
      there = this.bytes(key, at, at + end - start);
    } catch (error) {
      if (systemErrorCode(error) === undefined) throw error;
      this.unreadable.set(this.path(key), error);
      return;
    }
    const expected = buffer.subarray(start, end);
    if (there.equals(expected)) return;
    // The file still has the lines, or blank ones; zeros are neither.
    if (isReclaimed(buffer, { start, end }) && there.length === expected.length && !there.includes(0)) return;
    let wrong = 0;
    while (wrong < there.length && there[wrong] === expected[wrong]) wrong++;
    let unwritten = true;
    for (let i = wrong; i < there.length && unwritten; i++) unwritten = there[i] === expected[i] || there[i] === 0;
    const isBlank = there.length === expected.length && there.every((byte) => byte === NEWLINE);
    stream.differences.push({ key, at, wrong: at + wrong, version, source, unwritten, isReclaimed: isBlank });
  }

  #isBlank(key: StreamKey, from: number, to: number): boolean {
    return /^[ \t\r\n]*$/.test(this.bytes(key, from, to).toString("latin1"));
  }

  #file(key: StreamKey): FileHandle | undefined {
    if (this.#open.has(key)) {
      const known = this.#open.get(key);
      this.#open.delete(key);
      this.#open.set(key, known);
      return known;
    }
    let file: FileHandle | undefined;
    try {
      file = this.#fs.open(this.path(key), "read");
    } catch (error) {
      if (systemErrorCode(error) !== "ENOENT") throw error;
    }
    this.#open.set(key, file);
    const [oldest] = this.#open.keys();
    if (this.#open.size > MAX_OPEN && oldest !== undefined) {
      this.#open.get(oldest)?.close();
      this.#open.delete(oldest);
    }
    return file;
  }
}

/** The first problem of a section's lines, whose bytes are as they were written. */
function checkLines(buffer: Buffer, { start, end, events, position, adopted }: Section): string | undefined {
  let count = 0;
  for (let from = start; from < end;) {
    const stop = buffer.indexOf(NEWLINE, from);
    if (stop < 0 || stop >= end) return "a section does not end with a line";
    const text = buffer.toString("latin1", from, stop);
    from = stop + 1;
    if (/^[ \t\r]*$/.test(text)) continue;
    const written = /,"pos":(\d{1,16})(?:,"v":\d{1,16})?\}$/.exec(text)?.[1];
    if (!adopted && Number(written) !== position + count)
      return `a line says position ${written ?? "nothing"} where ${position + count} is due`;
    count++;
  }
  return count === events ? undefined : `a section has ${count} lines and says ${events} events`;
}

/** The time of a section's first event; 0 if it cannot be read. */
function secondsOf(buffer: Buffer, start: number): number {
  return tryParse(buffer.subarray(start, buffer.indexOf(NEWLINE, start)))?.ts ?? 0;
}

/** A line's event; nothing for a line that cannot be read. */
export function tryParse(line: Buffer): ReturnType<typeof parseLine> | undefined {
  if (!isUtf8(line)) return undefined;
  try {
    return parseLine(line.toString("utf8"), (why) => new Error(why));
  } catch {
    return undefined;
  }
}
