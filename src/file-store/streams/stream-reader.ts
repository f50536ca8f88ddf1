import { isAscii } from "node:buffer";
import { crc32 } from "node:zlib";
import { present } from "../../assert-invariant.ts";
import { CorruptionError } from "../../errors.ts";
import type { StoredEvent, StreamName } from "../../event-store/event-store.ts";
import type { CommitLog } from "../log/commit-log.ts";
import { readSections } from "../log/record-sections.ts";
import { LazyEvent, type LineOrigin, parsePayloads } from "../lines/lazy-event.ts";
import { type LineStart, mayHaveKeyV, startOfOurs } from "../lines/line-scanner.ts";
import { ioError } from "../disk/io-error.ts";
import { crcOfLines, isBlank, type LineChunk, linesOf, readChunks, type ReadableFile } from "../lines/line-reader.ts";
import type { Cuts } from "./cuts.ts";
import type { AdoptedPositions } from "./adopted-positions.ts";
import type { UnappliedRecords } from "./unapplied-records.ts";
import { Slice } from "../../event-loop.ts";
import type { StreamKey } from "../disk/stream-key.ts";
import type { StreamFiles } from "./stream-files.ts";
import type { StreamEnd } from "./stream-end.ts";
import type { KnownStream, StreamIndex } from "./stream-index.ts";

const CHUNK = 256 << 10;
const NEWLINE = 0x0a;
const OPENING_BRACE = 0x7b;

export interface StreamReaderParts {
  readonly log: CommitLog;
  readonly files: StreamFiles;
  readonly index: StreamIndex;
  readonly unapplied: UnappliedRecords;
  readonly positions: AdoptedPositions;
  readonly cuts: Cuts;
}

/** Reads streams from their own files. The first read of a stream verifies its checksum. */
export class StreamReader {
  readonly #parts: StreamReaderParts;

  constructor(parts: StreamReaderParts) {
    this.#parts = parts;
  }

  async *read(
    stream: StreamName,
    key: StreamKey,
    known: KnownStream,
    from: number,
  ): AsyncGenerator<readonly StoredEvent[], void, undefined> {
    const { files, unapplied, index, cuts } = this.#parts;
    const last = known.end;
    const first = cuts.startOf(key);
    const start = from > known.mark.version && known.mark.version > first.version ? known.mark : first;
    let { version, end: offset } = start;
    const file = files.openForReading(key);
    const origin = this.origin(stream, key);
    try {
      const readable = unapplied.overlay(key, file);
      if (readable !== undefined) {
        const crc = await this.#verified(key, readable, known, start.crc === undefined ? first : start, last);
        const slice = new Slice();
        const starts: LineStart[] = [];
        for (const chunk of readChunks(readable, offset, last.end)) {
          const events: LazyEvent[] = [];
          // Whether the lines are what was committed is certain only if there was a checksum to compare them with.
          version = collect(chunk, version, from, origin, crc === undefined ? undefined : starts, events);
          offset = chunk.base + chunk.end;
          if (events.length > 0) yield events;
          if (slice.isOver) await slice.next();
        }
        if (version === last.version) index.passed(key, known, { ...last, crc });
      }
      if (version !== last.version)
        throw origin.problem(offset, `the stream ends with version ${version}; version ${last.version} was committed`);
    } catch (error) {
      throw ioError(error, `reading ${files.path(key)}`);
    } finally {
      file?.close();
    }
  }

  origin(stream: StreamName, key: StreamKey): LineOrigin {
    return new StreamOrigin(this, stream, key);
  }

  /** The position of a foreign line's event, which the line does not carry. */
  adoptedPosition(key: StreamKey, version: number, offset: number): number {
    const position = this.#parts.positions.find(key, version);
    if (position === undefined)
      throw this.problem(key, offset, `version ${version} has no position, here or in the commit log`);
    return position;
  }

  /** The error for something wrong with the line at a byte offset of a stream's file. */
  problem(key: StreamKey, offset: number, why: string, cause?: unknown): CorruptionError {
    const { files } = this.#parts;
    const place = { file: files.path(key), line: files.lineNumber(key, offset), offset };
    return new CorruptionError("CORRUPT_STREAM", place, why, { cause });
  }

  /** Compares the lines with their checksum, once. Returns the checksum up to the end; `undefined` when it is unknown. */
  async #verified(
    key: StreamKey,
    file: ReadableFile,
    known: KnownStream,
    from: StreamEnd,
    last: StreamEnd,
  ): Promise<number | undefined> {
    const { index } = this.#parts;
    if (last.crc === undefined || from.end >= known.verifiedFrom) return last.crc;
    // Blank lines do not count, and there are hardly ever any.
    const isSound =
      (await crcOf(file, from, last.end, (bytes, crc) => crc32(bytes, crc))) === last.crc ||
      (await crcOf(file, from, last.end, (bytes, crc) => crcOfLines(bytes, 0, bytes.length, crc))) === last.crc;
    if (!isSound) {
      const difference = this.#differenceFromLog(key, file, this.#parts.cuts.startOf(key).end, last.end);
      if (difference !== undefined) throw difference;
      // The file and the log agree, so the index is what is wrong.
      index.correct(key, known);
      return undefined;
    }
    index.verified(key, known, from.end);
    return last.crc;
  }

  /** The error for the first byte in which a stream's file and the commit log differ. */
  #differenceFromLog(key: StreamKey, file: ReadableFile, start: number, end: number): CorruptionError | undefined {
    const { log } = this.#parts;
    let found: CorruptionError | undefined;
    let compared = 0;
    const { invalid } = log.scanner.scan(log.scanner.beginning(), log.end, (header, buffer, base) => {
      readSections(buffer, header, base, (section) => {
        if (section.key !== key || found !== undefined || section.at < start || section.at >= end) return;
        const there = Buffer.alloc(section.end - section.start);
        const length = file.read(there, 0, there.length, section.at);
        const different = there.findIndex((byte, i) => i >= length || byte !== buffer[section.start + i]);
        compared = section.at + there.length;
        if (different < 0) return;
        const lines = buffer.toString("latin1", section.start, section.start + different).split("\n");
        const offset = section.at + different - (lines.at(-1)?.length ?? 0);
        const version = section.version + lines.length - 1;
        found = this.problem(
          key,
          offset,
          `this line is not what was committed as version ${version}; the commit log still has it, and repair() brings it back`,
        );
      });
      return found === undefined;
    });
    if (found === undefined && invalid !== undefined)
      return this.problem(
        key,
        compared,
        `the file is not what was committed (from here on), and the commit log is damaged too: ${invalid}`,
      );
    return found;
  }
}

/** A reader of the log creates one for each stream that it meets, so it is small. */
class StreamOrigin implements LineOrigin {
  readonly stream: StreamName;
  readonly #reader: StreamReader;
  readonly #key: StreamKey;

  constructor(reader: StreamReader, stream: StreamName, key: StreamKey) {
    this.stream = stream;
    this.#reader = reader;
    this.#key = key;
  }

  problem(offset: number, why: string, cause?: unknown): CorruptionError {
    return this.#reader.problem(this.#key, offset, why, cause);
  }

  adoptedPosition(version: number, offset: number): number {
    return this.#reader.adoptedPosition(this.#key, version, offset);
  }
}

/**
 * The events of some lines of a stream's file, from a version on. `version` is that of the line before; returns that of the last
 * one. With `starts` the lines are certain to be what was committed, and their payloads are parsed; it is added to.
 */
function collect(
  chunk: LineChunk,
  version: number,
  from: number,
  origin: LineOrigin,
  starts: LineStart[] | undefined,
  events: LazyEvent[],
): number {
  const { buffer, end, base } = chunk;
  let last = version;
  if (isAscii(buffer.subarray(0, end))) {
    const text = buffer.toString("latin1", 0, end);
    // One look at the whole chunk. Only if a key `v` is elsewhere than at the end of a line, each line is checked.
    const isAnyUnsure = starts !== undefined && mayHaveKeyV(text);
    for (let at = 0; at < end;) {
      const stop = text.indexOf("\n", at);
      const line = at;
      at = stop + 1;
      if (text.charCodeAt(line) !== OPENING_BRACE && isBlank(buffer, line, stop)) continue;
      if (++last < from) continue;
      const isUnsure = starts === undefined || (isAnyUnsure && mayHaveKeyV(text.slice(line, stop)));
      const start = isUnsure ? undefined : startOfOurs(text, line, stop, starts);
      events.push(new LazyEvent(text, line, stop, last, base + line, origin, undefined, start));
    }
  } else {
    for (const { text, offset } of linesOf(chunk)) {
      if (++last >= from) events.push(new LazyEvent(text, 0, text?.length ?? 0, last, offset, origin));
    }
  }
  if (starts !== undefined) parsePayloads(events);
  return last;
}

/** Carries a checksum on over whole lines of a file; nothing if the file ends too early, or in the middle of a line. */
async function crcOf(
  file: ReadableFile,
  from: StreamEnd,
  end: number,
  add: (lines: Buffer, crc: number) => number,
): Promise<number | undefined> {
  let crc = present(from.crc, "a checksum is carried on from a known one");
  let buffer = Buffer.allocUnsafe(Math.max(1, Math.min(CHUNK, end - from.end)));
  let kept = 0;
  const slice = new Slice();
  for (let at = from.end; at < end;) {
    if (kept === buffer.length) buffer = Buffer.concat([buffer, Buffer.allocUnsafe(buffer.length)]);
    const count = file.read(buffer, kept, Math.min(buffer.length - kept, end - at), at);
    if (count === 0) return undefined;
    at += count;
    const length = kept + count;
    const whole = buffer.lastIndexOf(NEWLINE, length - 1) + 1;
    crc = add(buffer.subarray(0, whole), crc);
    buffer.copyWithin(0, whole, length);
    kept = length - whole;
    if (slice.isOver) await slice.next();
  }
  return kept === 0 ? crc : undefined;
}
