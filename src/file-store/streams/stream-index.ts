import { present } from "../../assert-invariant.ts";
import { CorruptionError } from "../../errors.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import type { StreamKey } from "../disk/stream-key.ts";
import { crcOfSection } from "../lines/line-reader.ts";
import type { CommitLog } from "../log/commit-log.ts";
import type { CommitObserver, CommittedRecord } from "../log/committed-record.ts";
import { isBefore, type LogPlace } from "../log/log-place.ts";
import { readSections, type Section } from "../log/record-sections.ts";
import type { Cuts } from "./cuts.ts";
import { endOfFile, hasLinesAfter, STREAM_START, type StreamEnd } from "./stream-end.ts";
import type { StreamFiles } from "./stream-files.ts";
import { DamagedStreamIndexError, StreamIndexFile } from "./stream-index-file.ts";
import type { UnappliedRecords } from "./unapplied-records.ts";

/** A stream that is in use. Only the index changes it. */
export interface KnownStream {
  /** Where its committed events end. */
  readonly end: StreamEnd;
  /** A place up to which it was read or written here: a reader that starts there need not count lines. */
  readonly mark: StreamEnd;
  /** From this offset on, the file has been compared with its checksum. */
  readonly verifiedFrom: number;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

type Ends = ReadonlyMap<StreamKey, StreamEnd>;

export interface StreamIndexParts {
  readonly fs: FileSystem;
  /** Of the index on disk. */
  readonly path: string;
  readonly log: CommitLog;
  readonly files: StreamFiles;
  readonly unapplied: UnappliedRecords;
  readonly cuts: Cuts;
}

/**
 * Where every stream ends. Three layers, each ahead of the next: the streams in use, up to the last commit; the ends that were
 * applied to the streams' files since the index was saved; the index on disk, which is as new as the marker or newer.
 */
export class StreamIndex implements CommitObserver {
  readonly #parts: StreamIndexParts;
  readonly #known = new Map<StreamKey, Mutable<KnownStream>>();
  /** Ends of records that are committed and not applied: with durability `"os"`, these must not reach the disk yet. */
  readonly #committed = new Map<CommittedRecord, Ends>();
  /** Applied ends that the index on disk may lack. */
  #unsaved = new Map<StreamKey, StreamEnd>();
  /** Those of them that are being written. */
  #saving: Ends | undefined;
  #file: StreamIndexFile | undefined;
  /** `"suspect"`: the last attempt to save failed, the file has to be replaced; `"lost"`: memory has all that there is. */
  #state: "good" | "suspect" | "lost" = "good";
  /** The index was lost and the log is damaged, so that neither knows where the other streams end. */
  #isIncomplete = false;

  constructor(parts: StreamIndexParts) {
    this.#parts = parts;
  }

  /** Opens the index on disk; makes it again from the log up to the marker if it is older than that. */
  open(marker: LogPlace): void {
    this.#file = StreamIndexFile.open(this.#parts.fs, this.#parts.path);
    if ((this.#file?.position ?? 0) < marker.position) this.#rebuild(marker);
  }

  /** After recovery: an index that is ahead of the log belongs to another log. */
  check(): void {
    if ((this.#file?.position ?? 0) > this.#parts.log.end.position) this.rebuild();
  }

  /** The stream, if it is in use. */
  known(key: StreamKey): KnownStream | undefined {
    return this.#known.get(key);
  }

  /**
   * A stream for a reader; `"foreign"` when the file has lines that are not in the commit log yet. `mark` is a place that the
   * caller knows.
   */
  find(key: StreamKey, mark: StreamEnd = STREAM_START): KnownStream | "foreign" {
    const known = this.#known.get(key) ?? this.#enterFromFile(key);
    if (known === "foreign") return known;
    if (mark.version > known.mark.version && mark.version <= known.end.version && mark.end <= known.end.end)
      known.mark = mark;
    return known;
  }

  /** A stream by what is committed, for a caller that is about to adopt what else its file has. */
  committed(key: StreamKey): KnownStream {
    return this.#known.get(key) ?? this.#enter(key, this.applied(key) ?? this.#endOfFile(key));
  }

  /** Where a stream ends by what was applied to the streams' files; `undefined` when only its file can tell. */
  applied(key: StreamKey): StreamEnd | undefined {
    const unsaved = this.#unsaved.get(key) ?? this.#saving?.get(key);
    if (unsaved !== undefined) return unsaved;
    try {
      const saved = this.#file?.find(key);
      if (saved !== undefined) return saved;
    } catch (error) {
      if (!(error instanceof DamagedStreamIndexError)) throw error;
      this.rebuild();
    }
    return this.#unsaved.get(key) ?? (this.#isIncomplete ? undefined : STREAM_START);
  }

  /** Remembers that a reader has read a stream up to `mark`, which becomes the place to read on from. */
  passed(key: StreamKey, stream: KnownStream, mark: StreamEnd): void {
    const known = this.#known.get(key);
    if (known === stream && known.mark.version < mark.version) known.mark = mark;
  }

  /** Remembers that a stream's lines from an offset on are those that its checksum was made of. */
  verified(key: StreamKey, stream: KnownStream, from: number): void {
    const known = this.#known.get(key);
    if (known === stream) known.verifiedFrom = Math.min(known.verifiedFrom, from);
  }

  /** Whether a stream was deleted and has no new life. */
  isDeleted(key: StreamKey): boolean {
    const { cuts } = this.#parts;
    if (cuts.last(key)?.kind !== "deleted") return false;
    const end = this.#known.get(key)?.end ?? this.#committedEnd(key) ?? this.applied(key);
    return end !== undefined && cuts.isDeleted(key, end.version);
  }

  /** Where a stream ends by records that are committed and not applied. */
  #committedEnd(key: StreamKey): StreamEnd | undefined {
    return [...this.#committed.values()].findLast((ends) => ends.has(key))?.get(key);
  }

  /** Forgets a stream that is not in use any more, unless its end is known only here. */
  release(key: StreamKey): void {
    if (!this.#parts.unapplied.has(key)) this.#known.delete(key);
  }

  onCommitted(record: CommittedRecord): void {
    const ends = new Map<StreamKey, StreamEnd>();
    for (const section of record.sections) {
      const end = this.#endAfter(section, record, ends.get(section.key));
      if (end === undefined) continue;
      ends.set(section.key, end);
      const known = this.#known.get(section.key);
      if (record.isOwn || record.isKept === true) {
        const own = known ?? this.#enter(section.key, end);
        own.end = own.mark = end;
      } else if (known !== undefined && known.end.version < end.version) known.end = end;
    }
    this.#committed.set(record, ends);
  }

  onApplied(record: CommittedRecord): void {
    const ends = present(this.#committed.get(record), "a record is applied once, after it was committed");
    this.#committed.delete(record);
    for (const [key, end] of ends) this.#unsaved.set(key, end);
  }

  /** Makes the index again from the log, as far as that is in the streams' files. */
  rebuild(): void {
    this.#rebuild(this.#parts.unapplied.start ?? this.#parts.log.end);
  }

  /** After a stream's checksum turned out to be wrong: rebuilds the index. The file itself is what was committed. */
  correct(key: StreamKey, stream: KnownStream): void {
    this.rebuild();
    const known = this.#known.get(key);
    if (known === undefined || known !== stream) return;
    const applied = this.applied(key);
    known.end = applied?.version === known.end.version ? applied : { ...known.end, crc: undefined };
  }

  /** Whether saving the index is worth while even if nothing was committed. */
  get needsSaving(): boolean {
    return this.#state !== "good" && !this.#isIncomplete;
  }

  /** Returns what is to be saved, and keeps it at hand until `save` or `saveFailed`. */
  beginSave(): Ends {
    this.#saving = this.#unsaved;
    this.#unsaved = new Map();
    return this.#saving;
  }

  saveFailed(): void {
    this.#unsaved = new Map([...(this.#saving ?? []), ...this.#unsaved]);
    this.#saving = undefined;
  }

  /** Writes the ends to disk, durably; everything up to `position` is there then. Needs the store's lock. */
  async save(ends: Ends, position: number): Promise<void> {
    // An index without all streams would say that the others are empty. The old one is older than the marker will be, which says enough.
    if (this.#isIncomplete) {
      this.saveFailed();
      return;
    }
    const { fs, path } = this.#parts;
    const state = this.#state;
    // Another process may have replaced the file.
    const file = StreamIndexFile.open(fs, path);
    try {
      this.#state = state === "good" ? "suspect" : state;
      if (file === undefined || state !== "good")
        await StreamIndexFile.create(fs, path, state === "lost" ? undefined : file, ends, position);
      else await file.write(ends, position);
      this.#state = "good";
    } finally {
      file?.close();
    }
    this.close();
    this.#file = StreamIndexFile.open(fs, path);
    this.#saving = undefined;
  }

  close(): void {
    this.#file?.close();
    this.#file = undefined;
  }

  /** Where a section's stream ends after it; `undefined` when that cannot be known. `before` is known from the same record. */
  #endAfter(section: Section, record: CommittedRecord, before: StreamEnd | undefined): StreamEnd | undefined {
    const expected = section.version - 1;
    if (before?.version !== expected) before = this.#known.get(section.key)?.end;
    if (before?.version !== expected) before = this.applied(section.key);
    const last = expected + section.events;
    if (before !== undefined && before.version !== expected && before.version < last) {
      this.rebuild();
      before = this.applied(section.key);
    }
    if (before === undefined) return undefined;
    // The index on disk may be ahead. It may also turn out to be damaged, and is rebuilt from the log up to here only.
    return before.version >= last ? before : sectionEnd(before, section, record.buffer);
  }

  #enterFromFile(key: StreamKey): Mutable<KnownStream> | "foreign" {
    const { files, unapplied, log } = this.#parts;
    const file = files.openForReading(key);
    try {
      const readable = unapplied.overlay(key, file);
      const end = this.applied(key) ?? endOfFile(readable, log.end.position);
      const size = readable?.size() ?? 0;
      if (size < end.end) throw this.#cutShort(key, end, size);
      if (readable !== undefined && size > end.end && hasLinesAfter(readable, end.end, size)) return "foreign";
      return this.#enter(key, end);
    } finally {
      file?.close();
    }
  }

  #enter(key: StreamKey, end: StreamEnd): Mutable<KnownStream> {
    const stream = { end, mark: STREAM_START, verifiedFrom: end.end };
    this.#known.set(key, stream);
    return stream;
  }

  #endOfFile(key: StreamKey): StreamEnd {
    const { files, unapplied, log } = this.#parts;
    const file = files.openForReading(key);
    try {
      return endOfFile(unapplied.overlay(key, file), log.end.position);
    } finally {
      file?.close();
    }
  }

  #cutShort(key: StreamKey, { version, end }: StreamEnd, size: number): CorruptionError {
    const { files } = this.#parts;
    const where = { file: files.path(key), line: files.lineNumber(key, size), offset: size };
    const why = `the file has ${size} bytes; ${end} (${version} events) were committed: repair() brings them back from the commit log`;
    return new CorruptionError("CORRUPT_STREAM", where, why);
  }

  #rebuild(limit: LogPlace): void {
    const { log } = this.#parts;
    this.close();
    this.#state = "lost";
    const ends = new Map<StreamKey, StreamEnd>();
    const { invalid, end } = log.scanner.scan(log.scanner.beginning(), limit, (header, buffer, base) => {
      readSections(buffer, header, base, (section) => {
        ends.set(section.key, sectionEnd(ends.get(section.key) ?? STREAM_START, section, buffer));
      });
    });
    this.#unsaved = new Map([...ends, ...this.#unsaved]);
    this.#isIncomplete = invalid !== undefined || isBefore(end, limit);
  }
}

/** Where a stream that ended at `before` ends after a section. */
function sectionEnd(before: StreamEnd, section: Section, buffer: Buffer): StreamEnd {
  const { version, events, at, start, end, adopted, cut } = section;
  const crc = cut === undefined ? before.crc : 0;
  return {
    version: version + events - 1,
    end: at + end - start,
    crc: section.crc ?? (crc === undefined ? undefined : crcOfSection(buffer, start, end, adopted, crc)),
  };
}
