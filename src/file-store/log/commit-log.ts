import { CorruptionError, EventfoldError } from "../../errors.ts";
import type { FileHandle, FileSystem } from "../../fs/file-system.ts";
import { HEADER_ROOM, MalformedRecordError, type RecordHeader, readRecord } from "./record-format.ts";
import { readWhole } from "../disk/store-paths.ts";

/** A place between two records of the log. */
export interface LogPlace {
  /** First position of the segment: its name. */
  readonly segment: number;
  /** Byte offset in the segment's file. */
  readonly offset: number;
  /** Position of the last event before this place; 0 at the very beginning. */
  readonly position: number;
}

export interface CommitLogOptions {
  /** A new segment is begun when the current one would grow beyond this many bytes. */
  readonly segmentBytes: number;
  /** How far the file is extended ahead of its records, so that a durable write changes no metadata. */
  readonly preallocateBytes: number;
}

export const DEFAULT_LOG_OPTIONS: CommitLogOptions = { segmentBytes: 64 << 20, preallocateBytes: 1 << 20 };

/** Called for each record, in order; the scan stops behind it when this returns false. Gets a buffer that holds it; `base` is the segment's offset of the buffer's first byte. */
export type RecordVisitor = (header: RecordHeader, buffer: Buffer, base: number, segment: number) => boolean | void;

/** Where a scan ended, and whether something that is not a record stands there. */
export interface ScanResult {
  readonly end: LogPlace;
  readonly invalid: string | undefined;
  /** The visitor ended it. */
  readonly stopped?: boolean;
}

/** A record this large is written as fast without room prepared for it, which would be as much to write again. */
const LARGE_BYTES = 64 << 10;

const SCAN_CHUNK = 256 << 10;

/** A part of a segment's file that was read. */
interface ScanChunk {
  readonly buffer: Buffer;
  /** Offset of its first byte in the file. */
  readonly base: number;
  readonly length: number;
}

/** What a scan that its visitor has ended leaves for the one that goes on there: the open file and what was read of it. */
export class ScanCursor {
  file: FileHandle | undefined;
  #chunk: ScanChunk | undefined;

  keep(file: FileHandle, chunk: ScanChunk): void {
    this.file = file;
    this.#chunk = chunk;
  }

  /** Hands the file over if it is this one. */
  take(path: string): FileHandle | undefined {
    const { file } = this;
    if (file === undefined) return undefined;
    this.file = undefined;
    if (file.path === path) return file;
    this.#chunk = undefined;
    file.close();
    return undefined;
  }

  chunkAt(offset: number): ScanChunk | undefined {
    const chunk = this.#chunk;
    this.#chunk = undefined;
    return chunk !== undefined && offset >= chunk.base && offset < chunk.base + chunk.length ? chunk : undefined;
  }

  close(): void {
    this.file?.close();
    this.file = undefined;
    this.#chunk = undefined;
  }
}

/**
 * The commit log: segment files in `commit_log/`, each named for its first position, each a header line
 * and records back to back. Behind the last record there are only zeros (room prepared for the next
 * ones) or nothing. All writing happens under the store's lock.
 */
export class CommitLog {
  readonly #fs: FileSystem;
  readonly #directory: string;
  readonly #options: CommitLogOptions;
  #end: LogPlace;
  #file: FileHandle | undefined;
  /** The current segment's file is known to be at least this long, and durably so. */
  #allocated = 0;

  constructor(fs: FileSystem, directory: string, options: CommitLogOptions, end: LogPlace) {
    this.#fs = fs;
    this.#directory = directory;
    this.#options = options;
    this.#end = end;
  }

  /** Where the next record goes. */
  get end(): LogPlace {
    return this.#end;
  }

  /** Moves the end to a place that a scan has found. */
  moveTo(end: LogPlace): void {
    if (end.segment !== this.#end.segment) this.#closeFile();
    this.#end = end;
  }

  /** The segments that exist, by first position. */
  segments(): number[] {
    return listSegments(this.#fs, this.#directory);
  }

  /** The place before everything. */
  beginning(): LogPlace {
    return { segment: this.segments()[0] ?? 1, offset: 0, position: 0 };
  }

  /** The error for something unreadable at a place. */
  corruption({ segment, offset, position }: LogPlace, why: string): CorruptionError {
    const file = this.segmentPath(segment);
    const bytes = readWhole(this.#fs, file)?.subarray(0, offset) ?? Buffer.alloc(0);
    let line = 1;
    for (let at = bytes.indexOf("\n"); at >= 0; at = bytes.indexOf("\n", at + 1)) line++;
    return new CorruptionError("CORRUPT_LOG", { file, line, offset }, `${why}; position ${position + 1} is due here`);
  }

  segmentPath(segment: number): string {
    return segmentPath(this.#directory, segment);
  }

  /**
   * Makes room for a record of `bytes` at the end: begins a new segment if it does not fit, prepares the
   * file. Throws (ENOSPC) before anything of the record is written. Returns where the record will start.
   */
  prepare(bytes: number): LogPlace | Promise<LogPlace> {
    return this.hasRoom(bytes) ? this.#end : this.#prepare(bytes);
  }

  /** Whether a record of `bytes` can be written as things are, as nearly always: without a new segment, or a flush of new room. */
  hasRoom(bytes: number): boolean {
    const end = this.#end.offset + bytes;
    return (
      this.#file !== undefined &&
      this.#end.offset > 0 &&
      end <= this.#options.segmentBytes &&
      (end <= this.#allocated || bytes >= LARGE_BYTES || this.#options.preallocateBytes === 0)
    );
  }

  async #prepare(bytes: number): Promise<LogPlace> {
    const { offset, position } = this.#end;
    const isNew = offset === 0;
    if (isNew || (offset + bytes > this.#options.segmentBytes && this.#end.position >= this.#end.segment)) {
      await this.#beginSegment(position + 1, isNew ? undefined : this.#end);
    }
    const file = this.#open();
    const needed = this.#end.offset + bytes;
    if (needed > this.#allocated) {
      this.#allocated = file.size();
      if (needed > this.#allocated && this.#options.preallocateBytes > 0 && bytes < LARGE_BYTES) {
        const zeros = Buffer.alloc(Math.max(this.#options.preallocateBytes, needed - this.#allocated));
        file.write(zeros, 0, zeros.length, this.#allocated);
        await file.flush();
        this.#allocated += zeros.length;
      }
    }
    return this.#end;
  }

  /**
   * Writes a record at the end (after `prepare`); returns the place behind it, at once if that is asked for and can be had. The end
   * moves when the caller says so, in the same breath in which he takes note of the record.
   */
  append(
    buffer: Buffer,
    start: number,
    end: number,
    events: number,
    how: "durably" | "durably on the spot" | "not durably",
  ): LogPlace | Promise<LogPlace> {
    const file = this.#open();
    const { segment, offset, position } = this.#end;
    const place: LogPlace = { segment, offset: offset + (end - start), position: position + events };
    if (how === "not durably") file.write(buffer, start, end - start, offset);
    else {
      const written = file.writeDurably(buffer, start, end - start, offset, how === "durably on the spot");
      if (written instanceof Promise) return written.then(() => place);
    }
    return place;
  }

  /** Makes everything in the current segment durable, whoever wrote it. */
  async flush(): Promise<void> {
    await this.#open().flush();
  }

  /** Makes the segments from a place on durable, with their names, whoever wrote them. */
  async flushFrom(place: LogPlace): Promise<void> {
    let named = place.offset > 0;
    for (const segment of this.segments()) {
      if (segment < place.segment) continue;
      named &&= segment === place.segment;
      const file = this.#fs.open(this.segmentPath(segment), "update");
      try {
        await file.flush();
      } finally {
        file.close();
      }
    }
    // Whoever began a segment may have died before its name was durable.
    if (!named) await this.#syncNames();
  }

  /**
   * Writes the first line of a segment without records again: whoever began it may have failed to flush it, and then it is not
   * certain even if it can be read.
   */
  async renewBeginning(): Promise<void> {
    const { segment, offset, position } = this.#end;
    if (offset === 0 || position >= segment) return;
    const header = Buffer.from(segmentHeader(segment));
    await this.#open().writeDurably(header, 0, header.length, 0);
    await this.#syncNames();
  }

  async #syncNames(): Promise<void> {
    if (this.#fs.stat(this.#directory) === undefined) return;
    await this.#fs.syncDirectory(this.#directory);
    await this.#fs.syncDirectory(this.#directory.slice(0, this.#directory.lastIndexOf("/")));
  }

  /** The bytes behind the end of the current segment that are not zeros; empty when there are none. */
  tail(): Buffer {
    if (this.#end.offset === 0 && this.#fs.stat(this.segmentPath(this.#end.segment)) === undefined)
      return Buffer.alloc(0);
    const file = this.#open();
    const size = file.size();
    if (size <= this.#end.offset) return Buffer.alloc(0);
    const bytes = Buffer.alloc(size - this.#end.offset);
    const length = file.read(bytes, 0, bytes.length, this.#end.offset);
    return bytes.subarray(0, lengthWithoutZeros(bytes, length));
  }

  /** Removes everything behind the end of the current segment, durably. */
  async cutTail(): Promise<void> {
    if (this.#end.offset === 0 && this.#fs.stat(this.segmentPath(this.#end.segment)) === undefined) return;
    // A failed flush may have left pages that look written: forget the descriptor and what it knew.
    this.#closeFile();
    const file = this.#open();
    if (file.size() > this.#end.offset) {
      file.truncate(this.#end.offset);
      await file.flush();
    }
  }

  /**
   * After a failure: forgets the descriptor (its unwritten pages may be gone although they can be read)
   * and writes the given records again, durably.
   */
  async rewrite(
    records: readonly {
      readonly buffer: Buffer;
      readonly start: number;
      readonly end: number;
      readonly place: LogPlace;
    }[],
  ): Promise<void> {
    this.#closeFile();
    if (this.#end.offset === 0) return;
    for (const { buffer, start, end, place } of records) {
      const file = this.#fs.open(this.segmentPath(place.segment), "update", { durable: true });
      try {
        await file.writeDurably(buffer, start, end - start, place.offset);
      } finally {
        file.close();
      }
    }
  }

  /** Whether a whole record stands at a place of the current segment. */
  hasRecordAt(place: LogPlace): boolean {
    const file = this.#open();
    const bytes = Buffer.alloc(Math.max(0, file.size() - place.offset));
    const length = file.read(bytes, 0, bytes.length, place.offset);
    return readRecord(bytes, 0, length, place.offset).kind === "record";
  }

  /** Whether anything was written at the end since we last looked: one small read. */
  hasMore(): boolean {
    if (this.#end.offset > 0) {
      const probe = Buffer.alloc(1);
      const length = this.#open().read(probe, 0, 1, this.#end.offset);
      // Untouched room: it would have been cut off if there were a next segment.
      if (length === 1) return probe[0] !== 0;
    }
    return this.#nextSegmentHasRecords();
  }

  #nextSegmentHasRecords(): boolean {
    if (this.#end.position + 1 === this.#end.segment)
      return this.#end.offset === 0 && this.#fs.stat(this.segmentPath(this.#end.segment)) !== undefined;
    return this.#fs.stat(this.segmentPath(this.#end.position + 1)) !== undefined;
  }

  /**
   * Reads the records from a place on, up to `limit` or the end of the log, without writing anything.
   * Stops at the first thing that is neither a record nor untouched room.
   */
  scan(from: LogPlace, limit: LogPlace | undefined, visit: RecordVisitor, cursor?: ScanCursor): ScanResult {
    let place = from;
    for (;;) {
      const path = this.segmentPath(place.segment);
      if (cursor?.file?.path !== path && this.#fs.stat(path) === undefined) return { end: place, invalid: undefined };
      const file = cursor?.take(path) ?? this.#fs.open(path, "read");
      try {
        const result = this.#scanSegment(file, place, limit, visit, cursor);
        place = result.end;
        if (result.invalid !== undefined || result.stopped === true || (limit !== undefined && !isBefore(place, limit)))
          return result;
      } finally {
        if (cursor?.file !== file) file.close();
      }
      const next = place.position + 1;
      if (next === place.segment || this.#fs.stat(this.segmentPath(next)) === undefined)
        return { end: place, invalid: undefined };
      place = { segment: next, offset: 0, position: place.position };
    }
  }

  /**
   * Reads all records from a place up to another. Throws where there is anything else, and where there is nothing: zeros in the
   * middle of the log look like its end.
   */
  read(from: LogPlace, limit: LogPlace, visit: RecordVisitor): void {
    const { end, invalid } = this.scan(from, limit, visit);
    if (invalid !== undefined || isBefore(end, limit))
      throw this.corruption(end, invalid ?? `the commit log ends here; position ${limit.position} was committed`);
  }

  #scanSegment(
    file: FileHandle,
    from: LogPlace,
    limit: LogPlace | undefined,
    visit: RecordVisitor,
    cursor: ScanCursor | undefined,
  ): ScanResult {
    const size = file.size();
    let { offset, position } = from;
    const at = (): LogPlace => ({ segment: from.segment, offset, position });
    if (offset === 0) {
      const expected = Buffer.from(segmentHeader(from.segment));
      const header = Buffer.alloc(expected.length);
      const length = file.read(header, 0, header.length, 0);
      if (!header.equals(expected)) {
        const blank = header.subarray(0, length).every((byte) => byte === 0);
        const format = /"format":(\d+)/.exec(header.toString("latin1"));
        if (!blank && format !== null && format[1] !== String(FORMAT)) {
          throw new EventfoldError(
            "UNSUPPORTED_FORMAT",
            `${file.path} has format ${format[1]}; this version of eventfold-es reads format ${FORMAT}`,
          );
        }
        return { end: at(), invalid: blank ? undefined : "the segment's first line is not what we write" };
      }
      offset = expected.length;
    }
    // What is preallocated behind the limit is not worth reading.
    const stop = limit?.segment === from.segment ? Math.min(size, limit.offset) : size;
    let { buffer, base, length } = cursor?.chunkAt(offset) ?? this.#readChunk(file, offset, stop);
    while (limit === undefined || from.segment < limit.segment || offset < limit.offset) {
      const read = readRecord(buffer, offset - base, length, base);
      if (read.kind === "nothing") {
        if (offset - base < length || offset >= size) break;
        base = offset;
        length = file.read(buffer, 0, buffer.length, base);
        if (length === 0) break;
      } else if (read.kind === "short") {
        if (base === offset && length >= Math.min(read.need, size - base)) {
          return { end: at(), invalid: "a commit record is cut short" };
        }
        if (read.need > buffer.length) {
          if (offset + read.need > size && read.need > HEADER_ROOM)
            return { end: at(), invalid: "a commit record is cut short" };
          buffer = Buffer.allocUnsafe(Math.max(read.need, SCAN_CHUNK));
        }
        base = offset;
        length = file.read(buffer, 0, Math.min(buffer.length, size - base), base);
      } else if (read.kind === "invalid") {
        return { end: at(), invalid: read.why };
      } else if (read.header.position !== position + 1) {
        return {
          end: at(),
          invalid: `a commit record begins with position ${read.header.position} where ${position + 1} is due`,
        };
      } else {
        const goOn = this.#visit(visit, read.header, buffer, base, at());
        offset = read.header.end;
        position += read.header.events;
        if (goOn === false) {
          cursor?.keep(file, { buffer, base, length });
          return { end: at(), invalid: undefined, stopped: true };
        }
      }
    }
    return { end: at(), invalid: undefined };
  }

  #readChunk(file: FileHandle, offset: number, stop: number): ScanChunk {
    const buffer = Buffer.allocUnsafe(Math.max(1, Math.min(SCAN_CHUNK, stop - offset)));
    return { buffer, base: offset, length: file.read(buffer, 0, buffer.length, offset) };
  }

  close(): void {
    this.#closeFile();
  }

  #visit(visit: RecordVisitor, header: RecordHeader, buffer: Buffer, base: number, place: LogPlace): boolean | void {
    try {
      return visit(header, buffer, base, place.segment);
    } catch (error) {
      // It was written like this, so it is no torn tail that recovery may cut off.
      throw error instanceof MalformedRecordError ? this.corruption(place, error.message) : error;
    }
  }

  async #beginSegment(first: number, previous: LogPlace | undefined): Promise<void> {
    if (previous !== undefined) {
      await this.flush();
      await this.cutTail();
    }
    this.#closeFile();
    this.#fs.makeDirectory(this.#directory);
    const path = this.segmentPath(first);
    const header = Buffer.from(segmentHeader(first));
    const file = this.#fs.open(path, "create", { durable: true });
    try {
      // A leftover of a process that died here holds no record: nothing is lost by starting over.
      file.truncate(0);
      file.write(header, 0, header.length, 0);
      await file.flush();
      await this.#syncNames();
    } catch (error) {
      file.close();
      throw error;
    }
    this.#file = file;
    this.#allocated = header.length;
    this.#end = { segment: first, offset: header.length, position: first - 1 };
  }

  #open(): FileHandle {
    if (this.#file === undefined) {
      this.#file = this.#fs.open(this.segmentPath(this.#end.segment), "update", { durable: true });
      this.#allocated = 0;
    }
    return this.#file;
  }

  #closeFile(): void {
    this.#file?.close();
    this.#file = undefined;
  }
}

/** Whether a place comes before another in the log. */
export function isBefore(a: LogPlace, b: LogPlace): boolean {
  return a.segment < b.segment || (a.segment === b.segment && a.offset < b.offset);
}

const ZEROS = Buffer.alloc(64 << 10);

/** How many of the first `length` bytes there are in front of the zeros at their end. */
function lengthWithoutZeros(bytes: Buffer, length: number): number {
  let used = length;
  while (used >= ZEROS.length && bytes.compare(ZEROS, 0, ZEROS.length, used - ZEROS.length, used) === 0)
    used -= ZEROS.length;
  while (used > 0 && bytes[used - 1] === 0) used--;
  return used;
}

/** The number in `"format"` of a segment's first line. */
const FORMAT = 1;

export function segmentHeader(first: number): string {
  return `{"eventfold-es":"commit log","format":${FORMAT},"first":${first}}\n`;
}

export function segmentPath(directory: string, segment: number): string {
  return `${directory}/${String(segment).padStart(16, "0")}.jsonl`;
}

export function listSegments(fs: FileSystem, directory: string): number[] {
  return fs
    .readDirectory(directory)
    .filter((entry) => !entry.directory && /^\d{16}\.jsonl$/.test(entry.name))
    .map((entry) => Number(entry.name.slice(0, 16)))
    .sort((a, b) => a - b);
}
