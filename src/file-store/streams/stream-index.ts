import type { FileSystem } from "../../fs/file-system.ts";
import type { CommitLog } from "../log/commit-log.ts";
import { isBefore, type LogPlace } from "../log/log-place.ts";
import { readSections, type Section } from "../log/record-sections.ts";
import { DamagedEndsError, EndsFile, type StreamEnd } from "./stream-index-file.ts";
import { crcOfSection } from "../lines/line-reader.ts";
import type { StreamKey } from "../disk/stream-key.ts";

const NONE: StreamEnd = { version: 0, end: 0, crc: 0 };

export interface StreamEndsParts {
  readonly fs: FileSystem;
  /** Of the table. */
  readonly path: string;
  readonly log: CommitLog;
  /** Up to here the log is in the streams' files. */
  readonly applied: () => LogPlace;
}

/**
 * Where every stream ends, as far as its events are durable and in its file: the table on disk, which is as
 * old as the marker or newer, and in memory what was committed since.
 */
export class StreamEnds {
  readonly #parts: StreamEndsParts;
  #file: EndsFile | undefined;
  /** What the table on disk does not have yet, as far as we know. */
  #recent = new Map<StreamKey, StreamEnd>();
  /** What is being written to the table. */
  #writing: ReadonlyMap<StreamKey, StreamEnd> | undefined;
  /** `"suspect"`: the last attempt to write failed, the file has to be replaced; `"lost"`: memory has all that there is. */
  #state: "good" | "suspect" | "lost" = "good";
  /** The log is damaged and cannot tell either. */
  #unknown = false;

  constructor(parts: StreamEndsParts) {
    this.#parts = parts;
  }

  /** Opens the table; makes it again from the log up to the marker if it is not as new as that. */
  open(marker: LogPlace): void {
    this.#file = EndsFile.open(this.#parts.fs, this.#parts.path);
    if ((this.#file?.position ?? 0) < marker.position) this.#rebuild(marker);
  }

  /** After recovery: a table that knows more than the log belongs to another log. */
  check(): void {
    if ((this.#file?.position ?? 0) > this.#parts.log.end.position) this.rebuild();
  }

  /** Writing the table is worth while even if nothing was committed. */
  get needsWriting(): boolean {
    return this.#state !== "good";
  }

  /** Where a stream ends; `undefined` when nothing but its file can tell. */
  of(key: StreamKey): StreamEnd | undefined {
    const known = this.#recent.get(key) ?? this.#writing?.get(key);
    if (known !== undefined) return known;
    try {
      const found = this.#file?.find(key);
      if (found !== undefined) return found;
    } catch (error) {
      if (!(error instanceof DamagedEndsError)) throw error;
      this.rebuild();
    }
    return this.#recent.get(key) ?? (this.#unknown ? undefined : NONE);
  }

  /** Takes note of where a stream ends. */
  note(key: StreamKey, end: StreamEnd): void {
    this.#recent.set(key, end);
  }

  /** Takes note of a section that was read from the log. */
  add(section: Section, buffer: Buffer): void {
    let before = this.of(section.key);
    if (before !== undefined && before.version >= section.version + section.events - 1) {
      // The table knows already. It may turn out to be damaged, and is made again from the log up to here only.
      this.note(section.key, before);
      return;
    }
    if (before !== undefined && before.version !== section.version - 1) {
      this.rebuild();
      before = this.of(section.key);
    }
    if (before !== undefined) this.note(section.key, behind(before, section, buffer));
  }

  /** Makes everything again from the log, as far as that is in the streams' files. */
  rebuild(): void {
    this.#rebuild(this.#parts.applied());
  }

  /** Hands over what is to be written to the table, and keeps it at hand until `write` or `notWritten`. */
  take(): ReadonlyMap<StreamKey, StreamEnd> {
    this.#writing = this.#recent;
    this.#recent = new Map();
    return this.#writing;
  }

  notWritten(): void {
    const newer = this.#recent;
    this.#recent = new Map(this.#writing);
    for (const [key, end] of newer) this.#recent.set(key, end);
    this.#writing = undefined;
  }

  /** Writes what was taken to the table, durably; everything up to `position` is in it then. Needs the store's lock. */
  async write(taken: ReadonlyMap<StreamKey, StreamEnd>, position: number): Promise<void> {
    const { fs, path } = this.#parts;
    const state = this.#state;
    // Another process may have replaced the file.
    const file = EndsFile.open(fs, path);
    try {
      this.#state = state === "good" ? "suspect" : state;
      if (file === undefined || state !== "good")
        await EndsFile.create(fs, path, state === "lost" ? undefined : file, taken, position);
      else await file.write(taken, position);
      this.#state = "good";
    } finally {
      file?.close();
    }
    this.close();
    this.#file = EndsFile.open(fs, path);
    this.#writing = undefined;
  }

  close(): void {
    this.#file?.close();
    this.#file = undefined;
  }

  #rebuild(limit: LogPlace): void {
    const { log } = this.#parts;
    this.close();
    this.#state = "lost";
    const newer = this.#recent;
    this.#recent = new Map();
    const { invalid, end } = log.scanner.scan(log.scanner.beginning(), limit, (header, buffer, base) => {
      readSections(buffer, header, base, (section) => {
        this.#recent.set(section.key, behind(this.#recent.get(section.key) ?? NONE, section, buffer));
      });
    });
    for (const [key, known] of newer) this.#recent.set(key, known);
    this.#unknown = invalid !== undefined || isBefore(end, limit);
  }
}

/** Where a stream ends when a section has been added to it. */
function behind(before: StreamEnd, section: Section, buffer: Buffer): StreamEnd {
  const { version, events, at, start, end, adopted } = section;
  return {
    version: version + events - 1,
    end: at + end - start,
    crc: crcOfSection(buffer, start, end, adopted, before.crc),
  };
}
