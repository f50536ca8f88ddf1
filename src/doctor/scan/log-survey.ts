import { turn } from "../../event-loop.ts";
import { EventfoldError } from "../../errors.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import { listSegments, segmentHeader, segmentPath } from "../../file-store/log/segment.ts";
import type { LogPlace } from "../../file-store/log/log-place.ts";
import { readRecord, type RecordHeader } from "../../file-store/log/record-format.ts";
import { readAt } from "../findings.ts";

/** Bytes between two good records, or after the last one, that are no record, and the positions that were there. */
export interface LogGap {
  /** The segment that the bytes are in; for a gap of its own, the name that its segment would have. */
  readonly segment: number;
  readonly from: number;
  readonly to: number;
  /** There is no such file, or nothing in it. */
  readonly isMissing: boolean;
  readonly firstPosition: number;
  /** Nothing when the log ends here: it is not known how many there were. */
  readonly lastPosition: number | undefined;
  readonly why: string;
}

/** A gap whose records are to stand in a segment of their own. */
export function missingSegment(firstPosition: number, lastPosition: number | undefined): LogGap {
  return { segment: firstPosition, from: 0, to: 0, isMissing: true, firstPosition, lastPosition, why: COMMITS_MISSING };
}

/** Gets each good record, in order; `buffer` holds it, and `base` is the segment's offset of its first byte. */
export type SurveyVisitor = (header: RecordHeader, buffer: Buffer, base: number, segment: number) => void;

const COMMITS_MISSING = "commits are missing";
const RECORD_START = Buffer.from('{"commit":');
/** How much of a segment is read at once while its records are good. */
const WINDOW_BYTES = 4 << 20;

/**
 * Reads the commit log to its last good record, whatever is damaged in between. Unlike `CommitLog.scan` it looks for the
 * next good record after a bad one.
 */
export class LogSurvey {
  /** Parts that cannot be read, in order. Only the last one may have no `lastPosition`. */
  readonly gaps: LogGap[] = [];
  /** Segments whose first line is damaged. */
  readonly badHeaders: number[] = [];
  /** Files in the log's directory that are named like segments and fit nowhere. */
  readonly strays: number[] = [];
  records = 0;
  events = 0;
  bytes = 0;
  /** The place after the last good record. */
  end: LogPlace = { segment: 1, offset: 0, position: 0 };
  readonly #fs: FileSystem;
  readonly #directory: string;
  readonly #visit: SurveyVisitor;
  /** Used again for each part of the log: a buffer for each would fill the memory before one is collected. */
  readonly #window: Buffer = Buffer.allocUnsafeSlow(WINDOW_BYTES);
  /** Where the records of each segment but the last one end. */
  readonly #ends = new Map<number, number>();
  #tail: LogGap | undefined;

  constructor(fs: FileSystem, directory: string, visit: SurveyVisitor) {
    this.#fs = fs;
    this.#directory = directory;
    this.#visit = visit;
  }

  get segments(): number[] {
    return listSegments(this.#fs, this.#directory).filter((segment) => !this.strays.includes(segment));
  }

  /** The bytes after the last good record that are no record, as far as the last `advance` has looked. */
  get tail(): LogGap | undefined {
    return this.#tail;
  }

  /** Reads on, up to a place or to the end of the log. Other work runs between two segments. */
  async advance(limit?: LogPlace): Promise<void> {
    await turn();
    for (const segment of listSegments(this.#fs, this.#directory)) {
      await turn();
      if (segment < this.end.segment || (limit !== undefined && segment > limit.segment)) continue;
      if (segment === this.end.segment && this.end.offset > 0) {
        this.#scan(segment, limit);
        continue;
      }
      if (this.#enter(segment)) this.#scan(segment, limit);
    }
  }

  /** Whether a commit ends (and the next one begins, if there is one) at a place. */
  isBoundary({ segment, offset, position }: LogPlace): boolean {
    const { end } = this;
    if (segment === end.segment && offset === end.offset) return position === end.position;
    if (!this.segments.includes(segment)) return false;
    const next = readAt(this.#fs, segmentPath(this.#directory, segment), offset, 30).toString("latin1");
    return (
      next.startsWith(`{"commit":${position + 1},`) ||
      (/^\0*$/.test(next) && this.segments.includes(position + 1)) ||
      (offset === 0 && position === segment - 1)
    );
  }

  /** The gap after the last good record, if records that existed are missing there; `known` are places that the log once reached. */
  nothingMore(known: readonly LogPlace[] = []): LogGap {
    const { segment, offset, position } = this.end;
    const due = position + 1;
    if (offset === 0) return missingSegment(due, undefined);
    const isShort = due === segment || known.some((place) => place.segment === segment && place.offset > offset);
    // The names of the segments do not tell the end of one from another that is gone.
    const orNext = isShort ? "" : `, or ${segmentPath(this.#directory, due)} is gone`;
    return {
      segment,
      from: offset,
      to: offset,
      isMissing: false,
      firstPosition: due,
      lastPosition: undefined,
      why: `${COMMITS_MISSING}: this file ends too early${orNext}`,
    };
  }

  /** Records that a segment had more records, without events, after its last one. There is no gap before it. */
  reopen(segment: number, why: string): void {
    const next = this.segments.find((other) => other > segment) ?? this.end.position + 1;
    const offset = this.#ends.get(segment) ?? 0;
    const place = { segment, from: offset, to: offset, isMissing: false };
    this.gaps.unshift({ ...place, firstPosition: next, lastPosition: next - 1, why });
  }

  /** Records that the bytes after the last record, or (for `undefined`) none, were once part of the log. */
  closeTail(gap: LogGap): void {
    this.#tail = undefined;
    this.gaps.push(gap);
  }

  /** Begins a segment; false if it fits nowhere. */
  #enter(segment: number): boolean {
    const due = this.end.position + 1;
    if (segment < due) {
      if (!this.strays.includes(segment)) this.strays.push(segment);
      return false;
    }
    if (this.#tail !== undefined) {
      this.gaps.push({ ...this.#tail, lastPosition: segment - 1 });
      this.#tail = undefined;
    } else if (segment > due) {
      this.gaps.push({ ...this.nothingMore(), lastPosition: segment - 1 });
    }
    this.#ends.set(this.end.segment, this.end.offset);
    this.end = { segment, offset: 0, position: segment - 1 };
    return true;
  }

  #scan(segment: number, limit: LogPlace | undefined): void {
    const path = segmentPath(this.#directory, segment);
    const stop = limit !== undefined && limit.segment === segment ? limit.offset : Infinity;
    let base = this.end.offset;
    let isRest = false;
    let bytes: Buffer = this.#window;
    const readFrom = (from: number, length: number): void => {
      base = from;
      const into = length === WINDOW_BYTES ? this.#window : undefined;
      bytes = readAt(this.#fs, path, from, Math.min(length, stop - from), into);
      isRest = bytes.length < length;
    };
    readFrom(base, WINDOW_BYTES);
    this.#tail = undefined;
    let offset = base;
    if (base === 0) {
      if (!beginsWell(segment, bytes)) readFrom(0, Infinity);
      const start = this.#header(segment, bytes);
      if (start === undefined) return;
      offset = start;
    }
    for (;;) {
      const read = readRecord(bytes, offset - base, bytes.length, base);
      if (read.kind === "record" && read.header.position === this.end.position + 1) {
        this.#take(read.header, bytes, base, segment);
        offset = this.end.offset;
        continue;
      }
      if (!isRest) {
        // The record may go on after the window. Without a record there, the search for the next one needs the rest of the segment.
        readFrom(offset, offset === base ? Infinity : WINDOW_BYTES);
        continue;
      }
      this.end = { ...this.end, offset };
      if (offset - base >= usedLength(bytes)) return;
      const why =
        read.kind === "invalid"
          ? read.why
          : read.kind === "short"
            ? "a commit record is cut short"
            : read.kind === "record"
              ? `a commit record begins with position ${read.header.position} where ${this.end.position + 1} is due`
              : "there are zeros before a commit record";
      const next = this.#nextRecord(bytes, offset - base, base);
      const gap = { segment, from: offset, isMissing: false, firstPosition: this.end.position + 1, why };
      if (next === undefined) {
        // What a limit cuts off is read again by the next call.
        if (stop === Infinity) this.#tail = { ...gap, to: base + usedLength(bytes), lastPosition: undefined };
        return;
      }
      this.gaps.push({ ...gap, to: next.start, lastPosition: next.position - 1 });
      this.end = { segment, offset: next.start, position: next.position - 1 };
      offset = next.start;
    }
  }

  #take(header: RecordHeader, bytes: Buffer, base: number, segment: number): void {
    this.#visit(header, bytes, base, segment);
    this.records++;
    this.events += header.events;
    this.bytes += header.end - header.start;
    this.end = { segment, offset: header.end, position: this.end.position + header.events };
  }

  /** Where the records of a segment start; nothing if there is nothing in it yet. */
  #header(segment: number, bytes: Buffer): number | undefined {
    const { length } = segmentHeader(segment);
    if (beginsWell(segment, bytes)) return length;
    if (bytes.every((byte) => byte === 0)) return undefined;
    const next = this.#nextRecord(bytes, 0, 0);
    const format = /"format":(\d+)/.exec(bytes.toString("latin1", 0, length))?.[1];
    if (next === undefined && format !== undefined && format !== "1") {
      throw new EventfoldError(
        "UNSUPPORTED_FORMAT",
        `${segmentPath(this.#directory, segment)} has format ${format}; this version of eventfold-es reads format 1`,
      );
    }
    this.badHeaders.push(segment);
    return length;
  }

  /** The next good record at or after an index that can follow the records read so far. */
  #nextRecord(bytes: Buffer, from: number, base: number): RecordHeader | undefined {
    for (let at = bytes.indexOf(RECORD_START, from); at >= 0; at = bytes.indexOf(RECORD_START, at + 1)) {
      const read = readRecord(bytes, at, bytes.length, base);
      if (read.kind === "record" && read.header.position > this.end.position) return read.header;
    }
    return undefined;
  }
}

function beginsWell(segment: number, bytes: Buffer): boolean {
  const expected = Buffer.from(segmentHeader(segment));
  return bytes.subarray(0, expected.length).equals(expected);
}

/** Without the zeros at the end. */
function usedLength(bytes: Buffer): number {
  let used = bytes.length;
  while (used > 0 && bytes[used - 1] === 0) used--;
  return used;
}
