import type { CommitLog } from "./commit-log.ts";
import type { Section } from "./commit-record.ts";
import { positionOfLine } from "./event-line.ts";
import { endOfLastLine, lineBefore, readLines, type ReadableFile } from "./lines.ts";
import { LogIndex } from "./log-index.ts";
import type { PendingBatches } from "./pending-batches.ts";
import type { StreamKey } from "./stream-directory.ts";
import type { StreamFiles } from "./stream-files.ts";

/** Where a stream ends, as far as it is committed. */
export interface StreamEntry {
  version: number;
  /** Byte offset behind the last event in the stream's file. */
  end: number;
  /** A place up to which somebody has read: reading on from there needs no counting. */
  markVersion: number;
  markEnd: number;
}

/** The ends of the streams that are in use. */
export class StreamTable {
  readonly #files: StreamFiles;
  readonly #pending: PendingBatches;
  readonly #log: CommitLog;
  readonly #entries = new Map<StreamKey, StreamEntry>();
  #index: LogIndex | undefined;

  constructor(files: StreamFiles, pending: PendingBatches, log: CommitLog) {
    this.#files = files;
    this.#pending = pending;
    this.#log = log;
  }

  known(key: StreamKey): StreamEntry | undefined {
    return this.#entries.get(key);
  }

  /**
   * The entry of a stream, found from its file if it is not known; `"foreign"` when another program has
   * appended events that are not in the commit log yet. `head` is the last position that may be seen;
   * `mark` a place that the caller knows.
   */
  get(
    key: StreamKey,
    head: number,
    mark?: { readonly version: number; readonly end: number },
  ): StreamEntry | "foreign" {
    const known = this.#entries.get(key);
    if (known !== undefined) {
      if (mark !== undefined && mark.version > known.markVersion && mark.version <= known.version) {
        known.markVersion = mark.version;
        known.markEnd = mark.end;
      }
      return known;
    }
    const file = this.#files.openForReading(key);
    try {
      const readable = this.#pending.overlay(key, file);
      const entry: StreamEntry = { version: 0, end: 0, markVersion: mark?.version ?? 0, markEnd: mark?.end ?? 0 };
      if (readable !== undefined) {
        const end = this.#committedEnd(key, readable, head);
        if (end === "foreign") return "foreign";
        if (end < entry.markEnd) entry.markVersion = entry.markEnd = 0;
        entry.end = end;
        entry.version = entry.markVersion;
        for (const lines of readLines(readable, entry.markEnd, end)) entry.version += lines.length;
      }
      this.#entries.set(key, entry);
      return entry;
    } finally {
      file?.close();
    }
  }

  /** The entry of a stream by what the log says, for a caller who is about to adopt foreign events. */
  getFromLog(key: StreamKey): StreamEntry {
    const known = this.#entries.get(key);
    if (known !== undefined) return known;
    const entry = { ...this.index().stream(key), markVersion: 0, markEnd: 0 };
    this.#entries.set(key, entry);
    return entry;
  }

  /** Takes note of a section that another process has committed. */
  grow(section: Section): void {
    this.#index?.add(section);
    const entry = this.#entries.get(section.key);
    if (entry === undefined) return;
    entry.version = section.version + section.events - 1;
    entry.end = section.at + section.end - section.start;
  }

  /** Takes note of sections that we have committed. */
  wrote(sections: readonly Section[]): void {
    if (this.#index !== undefined) for (const section of sections) this.#index.add(section);
  }

  index(): LogIndex {
    this.#index ??= LogIndex.build(this.#log);
    return this.#index;
  }

  delete(key: StreamKey): void {
    this.#entries.delete(key);
  }

  /**
   * Where the committed part of a file ends. Bytes behind it are a commit that another process is just writing, or events of another
   * program. The last line usually tells by its position; only if it has none, the log is asked.
   */
  #committedEnd(key: StreamKey, file: ReadableFile, head: number): number | "foreign" {
    let end = endOfLastLine(file, file.size());
    for (let line = lineBefore(file, end); line !== undefined; line = lineBefore(file, end)) {
      const position = positionOfLine(line.bytes.toString("latin1", Math.max(0, line.bytes.length - 80)));
      if (position === undefined) {
        const committed = this.index().stream(key).end;
        return end <= committed ? end : "foreign";
      }
      if (position <= head) return end;
      end = line.offset;
    }
    return end;
  }
}
