import type { FileHandle, FileSystem } from "../../fs/file-system.ts";
import type { RecordHeader } from "../log/record-format.ts";
import { type NoteSection, readSections, type Section } from "../log/record-sections.ts";
import type { ProgressLog } from "../progress/progress-log.ts";
import { parseLine } from "../lines/parse-line.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import { quarantineNow } from "../disk/quarantine.ts";
import type { NewStream, StreamRegistry } from "../streams/stream-registry.ts";
import { type StreamKey, streamOfKey } from "../disk/stream-key.ts";
import type { StreamEnds } from "../streams/stream-index.ts";
import type { StreamFiles } from "../streams/stream-files.ts";

/** Flushes that run at once: the thread pool has four threads, and one stays free for commits. */
const FLUSHES_AT_ONCE = 3;

export interface ApplierParts {
  readonly fs: FileSystem;
  readonly paths: StorePaths;
  readonly files: StreamFiles;
  readonly registry: StreamRegistry;
  readonly progress: ProgressLog;
  readonly ends: StreamEnds;
}

/**
 * Carries what the commit log holds over to the streams' files and the registry, and remembers which of
 * them are not flushed yet. Writing the same record again changes nothing.
 */
export class Applier {
  readonly #fs: FileSystem;
  readonly #paths: StorePaths;
  readonly #files: StreamFiles;
  readonly #registry: StreamRegistry;
  readonly #progress: ProgressLog;
  readonly #ends: StreamEnds;
  /** Streams with bytes that may not be durable; true when their directory may not be either. */
  #dirty = new Map<StreamKey, boolean>();
  #registryDirty = false;
  #dirtyLetters = new Set<string>();

  constructor(parts: ApplierParts) {
    this.#fs = parts.fs;
    this.#paths = parts.paths;
    this.#files = parts.files;
    this.#registry = parts.registry;
    this.#progress = parts.progress;
    this.#ends = parts.ends;
  }

  get hasDirty(): boolean {
    return this.#dirty.size > 0 || this.#registryDirty;
  }

  markDirty(key: StreamKey, created: boolean): void {
    if (created || !this.#dirty.has(key)) this.#dirty.set(key, created);
    // Whoever made the stream may have died before its line in the registry was durable.
    if (created) this.#registryDirty = true;
  }

  /** What a consumer noted may have changed its dead letters, whoever wrote them. */
  markLettersDirty({ name, deadLetters, settledLetters }: NoteSection): void {
    if (deadLetters !== undefined || settledLetters !== undefined) this.#dirtyLetters.add(name);
  }

  /** Writes what a durable record holds to the files that it belongs to. */
  apply(
    slices: readonly Section[],
    buffer: Buffer,
    created: readonly NewStream[],
    notes: readonly NoteSection[],
  ): void {
    this.#progress.apply(notes);
    for (const note of notes) this.markLettersDirty(note);
    for (const run of runsOf(slices)) {
      const [{ key, at, start, end, adopted }] = run;
      if (adopted) {
        // It is in the file already; whether that is durable is another matter.
        this.markDirty(key, true);
      } else {
        const { file, created: isNew } = this.#files.acquire(key);
        if (run.length === 1) file.write(buffer, start, end - start, at);
        else {
          const bytes = Buffer.concat(run.map((slice) => buffer.subarray(slice.start, slice.end)));
          file.write(bytes, 0, bytes.length, at);
        }
        this.markDirty(key, isNew || at === 0);
      }
      const last = run[run.length - 1] ?? run[0];
      if (last.crc !== undefined)
        this.#ends.note(key, { version: last.version + last.events - 1, end: endOf(last), crc: last.crc });
    }
    if (created.length > 0) {
      this.#registry.append(created);
      this.#registryDirty = true;
    }
  }

  /** Writes a record again that may have been written to its files before, in part or in whole. */
  reapply(header: RecordHeader, buffer: Buffer, base: number, registered: Set<string>): void {
    const slices: Section[] = [];
    const created: NewStream[] = [];
    const notes: NoteSection[] = [];
    const visit = (section: Section): void => {
      slices.push(section);
      const stream = streamOfKey(section.key);
      const name = `${stream.type}/${stream.id}`;
      if (section.version !== 1 || registered.has(name)) return;
      registered.add(name);
      created.push({ stream, seconds: secondsOf(buffer.toString("utf8", section.start, section.end)) });
    };
    readSections(buffer, header, base, visit, (section) => notes.push(section));
    // What was found in a stream's file may be gone from it: then it, too, comes from the log.
    const written = slices.map((slice) => ({ ...slice, adopted: this.#isThere(slice, buffer) && slice.adopted }));
    this.apply(written, buffer, created, notes);
    for (const slice of slices) this.markDirty(slice.key, true);
  }

  /**
   * Whether a section's bytes stand in the stream's file. What stands in their place, and is neither they nor nothing, was
   * written by somebody else in between: it is kept aside.
   */
  #isThere(slice: Section, buffer: Buffer): boolean {
    const { file } = this.#files.acquire(slice.key);
    const there = Buffer.alloc(slice.end - slice.start);
    const length = file.read(there, 0, there.length, slice.at);
    const ours = buffer.subarray(slice.start, slice.start + length);
    if (there.subarray(0, length).equals(ours)) return length === there.length;
    // A torn write of ours: every byte is the right one or was never written.
    if (!there.subarray(0, length).every((byte, i) => byte === ours[i] || byte === 0))
      quarantineNow(this.#fs, this.#paths, `${slice.key}.${slice.at}`, there.subarray(0, length));
    return false;
  }

  /** Makes everything that was applied so far durable. */
  async flush(): Promise<void> {
    const dirty = this.#dirty;
    const registryDirty = this.#registryDirty;
    const letters = this.#dirtyLetters;
    this.#dirtyLetters = new Set();
    this.#dirty = new Map();
    this.#registryDirty = false;
    try {
      const directories = new Set<string>();
      const waiting = [...dirty];
      const worker = async (): Promise<void> => {
        for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
          const [key, created] = next;
          await this.#flushStream(key);
          if (!created) continue;
          directories.add(this.#files.directory(key)).add(`${this.#paths.streams}/${key.slice(0, key.indexOf("/"))}`);
        }
      };
      await Promise.all(Array.from({ length: FLUSHES_AT_ONCE }, worker));
      if (directories.size > 0) directories.add(this.#paths.streams).add(this.#paths.base);
      for (const directory of directories) await this.#fs.syncDirectory(directory);
      for (const name of letters) await this.#flushLetters(name);
      if (registryDirty) {
        await this.#registry.flush();
        await this.#fs.syncDirectory(this.#paths.meta);
      }
    } catch (error) {
      for (const [key, created] of dirty) this.markDirty(key, created);
      this.#registryDirty ||= registryDirty;
      for (const name of letters) this.#dirtyLetters.add(name);
      throw error;
    }
  }

  async #flushLetters(name: string): Promise<void> {
    const managers = `${this.#paths.base}/process_managers`;
    const file = this.#fs.open(`${managers}/${name}/dead_letters.jsonl`, "update");
    try {
      await file.flush();
    } finally {
      file.close();
    }
    for (const directory of [`${managers}/${name}`, managers, this.#paths.base])
      await this.#fs.syncDirectory(directory);
  }

  async #flushStream(key: StreamKey): Promise<void> {
    const file: FileHandle = this.#fs.open(this.#files.path(key), "update");
    try {
      await file.flush();
    } finally {
      file.close();
    }
  }
}

type Run = [Section, ...Section[]];

/** Sections by what one write can do: those that follow each other in one stream's file belong together. */
function runsOf(slices: readonly Section[]): Iterable<Run> {
  const runs: Run[] = [];
  const last = new Map<StreamKey, Run>();
  for (const slice of slices) {
    const run = last.get(slice.key);
    const before = run?.[run.length - 1];
    if (run !== undefined && before !== undefined && endOf(before) === slice.at && before.adopted === slice.adopted) {
      run.push(slice);
      continue;
    }
    const fresh: Run = [slice];
    runs.push(fresh);
    last.set(slice.key, fresh);
  }
  return runs;
}

/** Behind a section in the stream's file. */
function endOf({ at, start, end }: Section): number {
  return at + end - start;
}

/** The time of the first event in a section's text; 0 if it cannot be read. */
function secondsOf(text: string): number {
  const line = text.split("\n").find((candidate) => candidate.trim() !== "");
  try {
    return parseLine(line ?? "", (why) => new Error(why)).ts;
  } catch {
    return 0;
  }
}
