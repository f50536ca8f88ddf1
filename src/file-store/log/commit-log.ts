import { type FileHandle, type FileSystem, systemErrorCode } from "../../fs/file-system.ts";
import { storeReplaced } from "../disk/store-replaced.ts";
import type { LogPlace } from "./log-place.ts";
import { LogScanner } from "./log-scanner.ts";
import { readRecord } from "./record-format.ts";
import { CompressedSegment } from "./segment-blocks.ts";
import { segmentHeader, segmentPath } from "./segment.ts";
import { isPromise } from "../../realm.ts";

export interface CommitLogOptions {
  /** A new segment is begun when the current one would grow beyond this many bytes. */
  readonly segmentBytes: number;
  /** How far the file is extended ahead of its records, so that a durable write changes no metadata. */
  readonly preallocateBytes: number;
}

export const DEFAULT_LOG_OPTIONS: CommitLogOptions = { segmentBytes: 64 << 20, preallocateBytes: 1 << 20 };

/** A record this large is written as fast without room prepared for it, which would be as much to write again. */
const LARGE_BYTES = 64 << 10;

/** How much of the last record is compared: enough for the ids and times of its last events. */
const LAST_BYTES = 512;
const PROBE = Buffer.alloc(LAST_BYTES + 1);

/**
 * The commit log: segment files in `commit_log/`, each named for its first position, each a header line
 * and records back to back. After the last record there are only zeros (room prepared for the next
 * ones) or nothing. All writing happens under the store's lock.
 */
export class CommitLog {
  /** Reads what the log has. */
  readonly scanner: LogScanner;
  readonly #fs: FileSystem;
  readonly #directory: string;
  readonly #options: CommitLogOptions;
  #end: LogPlace;
  #file: FileHandle | undefined;
  /** The last bytes before the end, as they were when the end moved there. */
  #last: { readonly end: LogPlace; readonly length: number } | undefined;
  readonly #lastBytes = Buffer.alloc(LAST_BYTES);
  /** The current segment's file is known to be at least this long, and durably so. */
  #allocated = 0;

  constructor(fs: FileSystem, directory: string, options: CommitLogOptions, end: LogPlace) {
    this.scanner = new LogScanner(fs, directory);
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

  /** Remembers the record before the end. */
  remember(buffer: Buffer, start: number, stop: number): void {
    const from = Math.max(start, stop - LAST_BYTES);
    this.#last = { end: this.#end, length: buffer.copy(this.#lastBytes, 0, from, stop) };
  }

  /** The current segment's file. */
  get path(): string {
    return segmentPath(this.#directory, this.#end.segment);
  }

  /** Whether the file of the current segment, if it is begun, is still the one at its path. */
  isAtPath(): boolean {
    if (this.#end.offset === 0) return true;
    try {
      return this.#open().isAtPath() || this.#reopenCompressed();
    } catch (error) {
      if (systemErrorCode(error) === "ENOENT") return false;
      throw error;
    }
  }

  /** Another process may have begun a new segment, and compressed this one. */
  #reopenCompressed(): boolean {
    const file = this.#fs.open(this.path, "update");
    if (!(file instanceof CompressedSegment)) {
      file.close();
      return false;
    }
    this.#closeFile();
    this.#file = file;
    return true;
  }

  /**
   * Whether the log still has the record that was last read or written here. Files that are overwritten in place, as some tools restore a
   * backup, keep their identity.
   */
  hasLastRecord(): boolean {
    return this.#end.offset === 0 || this.#probe() !== "replaced";
  }

  /** Reads the bytes of the last record, as many as are remembered, and the first byte after the end. */
  #probe(): number | undefined | "replaced" {
    const { end } = this;
    const file = this.#open();
    if (file instanceof CompressedSegment) {
      // Lines of the last record may have been reclaimed.
      if (file.size() < end.offset) return "replaced";
      return file.read(PROBE, 0, 1, end.offset) === 0 ? undefined : PROBE[0];
    }
    if (this.#last?.end.segment !== end.segment || this.#last.end.offset !== end.offset) {
      // Known from now on: the end was found without a record, or in a marker.
      const known = Math.min(end.offset, LAST_BYTES);
      this.#last = { end, length: this.#open().read(this.#lastBytes, 0, known, end.offset - known) };
    }
    const { length } = this.#last;
    const read = this.#open().read(PROBE, 0, length + 1, end.offset - length);
    if (read < length || this.#lastBytes.compare(PROBE, 0, length, 0, length) !== 0) return "replaced";
    return read > length ? PROBE[length] : undefined;
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
   * Writes a record at the end (after `prepare`); returns the place after it, synchronously if the write needed no waiting. Does not
   * move the log's end; the caller does, when it registers the record.
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
      if (isPromise(written)) return written.then(() => place);
    }
    return place;
  }

  /** Makes everything in the current segment durable, including the records of other processes. */
  async flush(): Promise<void> {
    await this.#open().flush();
  }

  /** Makes the segments from a place on durable, with their names, including those of other processes. */
  async flushFrom(place: LogPlace): Promise<void> {
    let named = place.offset > 0;
    for (const segment of this.scanner.segments()) {
      if (segment < place.segment) continue;
      named &&= segment === place.segment;
      const file = this.#fs.open(segmentPath(this.#directory, segment), "update");
      try {
        await file.flush();
      } finally {
        file.close();
      }
    }
    // The process that began a segment may have died before its name was durable.
    if (!named) await this.#syncNames();
  }

  /**
   * Rewrites the first line of a segment without records: the process that began it may have failed to flush it, and then the line
   * can be read without being durable.
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

  /** The bytes after the end of the current segment, without trailing zeros. */
  tail(): Buffer {
    if (this.#end.offset === 0 && this.#fs.stat(segmentPath(this.#directory, this.#end.segment)) === undefined)
      return Buffer.alloc(0);
    const file = this.#open();
    const size = file.size();
    if (size <= this.#end.offset) return Buffer.alloc(0);
    const bytes = Buffer.alloc(size - this.#end.offset);
    const length = file.read(bytes, 0, bytes.length, this.#end.offset);
    return bytes.subarray(0, lengthWithoutZeros(bytes, length));
  }

  /** Begins a new segment, so that nothing is appended to the current one any more. Needs the store's lock. */
  async seal(): Promise<void> {
    const { segment, position } = this.#end;
    if (position >= segment) await this.#beginSegment(position + 1, this.#end);
  }

  /** Removes everything after the end of the current segment, durably. */
  async cutTail(): Promise<void> {
    if (this.#end.offset === 0 && this.#fs.stat(segmentPath(this.#directory, this.#end.segment)) === undefined) return;
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
      const file = this.#fs.open(segmentPath(this.#directory, place.segment), "update", { durable: true });
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

  /**
   * Whether anything was written at the end since we last looked: one small read. Throws `STORE_REPLACED` if the record before the end is
   * another one now.
   */
  hasMore(): boolean {
    if (this.#end.offset > 0) {
      const next = this.#probe();
      if (next === "replaced")
        throw storeReplaced(this.#directory.slice(0, this.#directory.lastIndexOf("/")), this.path);
      // Untouched room: it would have been cut off if there were a next segment.
      if (next !== undefined) return next !== 0;
    }
    return this.#nextSegmentHasRecords();
  }

  #nextSegmentHasRecords(): boolean {
    if (this.#end.position + 1 === this.#end.segment)
      return this.#end.offset === 0 && this.#fs.stat(segmentPath(this.#directory, this.#end.segment)) !== undefined;
    return this.#fs.stat(segmentPath(this.#directory, this.#end.position + 1)) !== undefined;
  }

  close(): void {
    this.#closeFile();
  }

  async #beginSegment(first: number, previous: LogPlace | undefined): Promise<void> {
    if (previous !== undefined) {
      await this.flush();
      await this.cutTail();
    }
    this.#closeFile();
    this.#fs.makeDirectory(this.#directory);
    const path = segmentPath(this.#directory, first);
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
      this.#file = this.#fs.open(segmentPath(this.#directory, this.#end.segment), "update", { durable: true });
      this.#allocated = 0;
    }
    return this.#file;
  }

  #closeFile(): void {
    this.#file?.close();
    this.#file = undefined;
  }
}

const ZEROS = Buffer.alloc(64 << 10);

/** Length of the first `length` bytes without the zeros at their end. */
function lengthWithoutZeros(bytes: Buffer, length: number): number {
  let used = length;
  while (used >= ZEROS.length && bytes.compare(ZEROS, 0, ZEROS.length, used - ZEROS.length, used) === 0)
    used -= ZEROS.length;
  while (used > 0 && bytes[used - 1] === 0) used--;
  return used;
}
