import { CorruptionError, EventfoldError } from "../../errors.ts";
import type { FileHandle, FileSystem } from "../../fs/file-system.ts";
import { readWhole } from "../disk/whole-file.ts";
import { isBefore, type LogPlace } from "./log-place.ts";
import { HEADER_ROOM, type RecordHeader, readRecord } from "./record-format.ts";
import { MalformedRecordError } from "./record-sections.ts";
import { FORMAT, listSegments, segmentHeader, segmentPath } from "./segment.ts";

/** Called for each record, in order; returning false stops the scan after it. Gets a buffer that holds it; `base` is the segment's offset of the buffer's first byte. */
export type RecordVisitor = (header: RecordHeader, buffer: Buffer, base: number, segment: number) => boolean | void;

/** Where a scan ended, and whether something that is not a record stands there. */
export interface ScanResult {
  readonly end: LogPlace;
  readonly invalid: string | undefined;
  /** The visitor ended it. */
  readonly stopped?: boolean;
}

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
  release(path: string): FileHandle | undefined {
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

/** Reads the commit log's segments. It writes nothing and needs no lock. */
export class LogScanner {
  readonly #fs: FileSystem;
  readonly #directory: string;

  constructor(fs: FileSystem, directory: string) {
    this.#fs = fs;
    this.#directory = directory;
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
   * Reads the records from a place on, up to `limit` or the end of the log, without writing anything.
   * Stops at the first thing that is neither a record nor untouched room.
   */
  scan(from: LogPlace, limit: LogPlace | undefined, visit: RecordVisitor, cursor?: ScanCursor): ScanResult {
    let place = from;
    for (;;) {
      const path = this.segmentPath(place.segment);
      if (cursor?.file?.path !== path && this.#fs.stat(path) === undefined) return { end: place, invalid: undefined };
      const file = cursor?.release(path) ?? this.#fs.open(path, "read");
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
    // Skip the preallocated room after the limit.
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

  #visit(visit: RecordVisitor, header: RecordHeader, buffer: Buffer, base: number, place: LogPlace): boolean | void {
    try {
      return visit(header, buffer, base, place.segment);
    } catch (error) {
      // It was written like this, so it is no torn tail that recovery may cut off.
      throw error instanceof MalformedRecordError ? this.corruption(place, error.message) : error;
    }
  }
}
