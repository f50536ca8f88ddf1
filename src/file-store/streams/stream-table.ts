import { CorruptionError } from "../../errors.ts";
import type { CommitLog } from "../log/commit-log.ts";
import type { Section } from "../log/record-sections.ts";
import { positionOfLine } from "../lines/line-scanner.ts";
import {
  endOfLastLine,
  isBlank,
  lineBefore,
  readLines,
  type ReadableFile,
  crcOfSection,
} from "../lines/line-reader.ts";
import type { PendingBatches } from "./unapplied-records.ts";
import type { StreamEnds } from "./stream-index.ts";
import type { StreamKey } from "../disk/stream-key.ts";
import type { StreamFiles } from "./stream-files.ts";

/** A place between two lines of a stream's file. */
export interface StreamPlace {
  readonly version: number;
  /** Byte offset behind the line with this version. */
  readonly end: number;
  /** CRC-32 of the lines before; `undefined` when it is not known. */
  readonly crc: number | undefined;
}

export const STREAM_START: StreamPlace = { version: 0, end: 0, crc: 0 };

/** Where a stream ends, as far as it is committed. */
export interface StreamEntry {
  version: number;
  end: number;
  crc: number | undefined;
  /** A place up to which somebody has read: reading on from there needs no counting. */
  mark: StreamPlace;
  /** From this offset on the file has been compared with `crc`. */
  verifiedFrom: number;
}

/** The ends of the streams that are in use. */
export class StreamTable {
  readonly #files: StreamFiles;
  readonly #pending: PendingBatches;
  readonly #log: CommitLog;
  readonly #ends: StreamEnds;
  readonly #entries = new Map<StreamKey, StreamEntry>();

  constructor(files: StreamFiles, pending: PendingBatches, log: CommitLog, ends: StreamEnds) {
    this.#files = files;
    this.#pending = pending;
    this.#log = log;
    this.#ends = ends;
  }

  known(key: StreamKey): StreamEntry | undefined {
    return this.#entries.get(key);
  }

  /**
   * The entry of a stream; `"foreign"` when another program has appended events that are not in the
   * commit log yet. `mark` is a place that the caller knows.
   */
  get(key: StreamKey, mark: StreamPlace = STREAM_START): StreamEntry | "foreign" {
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      const file = this.#files.openForReading(key);
      try {
        const readable = this.#pending.overlay(key, file);
        const end = this.#ends.of(key) ?? this.#endOf(readable);
        const size = readable?.size() ?? 0;
        if (size < end.end) throw this.#cutShort(key, end, size);
        if (readable !== undefined && size > end.end && this.#hasForeign(readable, end.end, size)) return "foreign";
        entry = this.#enter(key, end);
      } finally {
        file?.close();
      }
    }
    if (mark.version > entry.mark.version && mark.version <= entry.version && mark.end <= entry.end) entry.mark = mark;
    return entry;
  }

  /** The entry of a stream by what is committed, for a caller who is about to take in what else its file has. */
  getCommitted(key: StreamKey): StreamEntry {
    return this.#entries.get(key) ?? this.#enter(key, this.#ends.of(key) ?? this.#endOfFile(key));
  }

  /** Takes note of a section that another process has committed. */
  grow(section: Section, buffer: Buffer): void {
    this.#ends.add(section, buffer);
    const entry = this.#entries.get(section.key);
    const version = section.version + section.events - 1;
    if (entry === undefined || entry.version >= version) return;
    entry.version = version;
    entry.end = section.at + section.end - section.start;
    if (entry.crc !== undefined)
      entry.crc = crcOfSection(buffer, section.start, section.end, section.adopted, entry.crc);
  }

  delete(key: StreamKey): void {
    this.#entries.delete(key);
  }

  #enter(key: StreamKey, { version, end, crc }: StreamPlace): StreamEntry {
    const entry = { version, end, crc, mark: STREAM_START, verifiedFrom: end };
    this.#entries.set(key, entry);
    return entry;
  }

  #cutShort(key: StreamKey, { version, end }: StreamPlace, size: number): CorruptionError {
    const file = this.#files.path(key);
    const why = `the file has ${size} bytes; ${end} (${version} events) were committed: repair() brings them back from the commit log`;
    return new CorruptionError("CORRUPT_STREAM", { file, line: this.#files.lineNumber(key, size), offset: size }, why);
  }

  /**
   * Whether anything but blank lines stands behind the committed events: another program's, a commit that another process is just
   * writing, or events that the commit log has lost. With the store's lock in hand these can be told apart.
   */
  #hasForeign(file: ReadableFile, committed: number, size: number): boolean {
    let end = endOfLastLine(file, size);
    while (end > committed) {
      const line = lineBefore(file, end);
      if (line === undefined) return false;
      if (!isBlank(line.bytes, 0, line.bytes.length)) return true;
      end = line.offset;
    }
    return false;
  }

  #endOfFile(key: StreamKey): StreamPlace {
    const file = this.#files.openForReading(key);
    try {
      return this.#endOf(this.#pending.overlay(key, file));
    } finally {
      file?.close();
    }
  }

  /** What the file itself says, for when neither the table of ends nor the log can tell. */
  #endOf(file: ReadableFile | undefined): StreamPlace {
    if (file === undefined) return STREAM_START;
    let end = endOfLastLine(file, file.size());
    for (let line = lineBefore(file, end); line !== undefined; line = lineBefore(file, end)) {
      const position = positionOfLine(line.bytes.toString("latin1", Math.max(0, line.bytes.length - 80)));
      if (position === undefined || position <= this.#log.end.position) break;
      end = line.offset;
    }
    let version = 0;
    for (const lines of readLines(file, 0, end)) version += lines.length;
    return { version, end, crc: undefined };
  }
}
