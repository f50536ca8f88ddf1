import type { FileHandle, FileSystem } from "../../fs/file-system.ts";
import { EventfoldError } from "../../errors.ts";
import { monotonicNow, sleep } from "../../real-timers.ts";
import { quarantine } from "../disk/quarantine.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import type { StreamKey } from "../disk/stream-key.ts";
import { isBefore, type LogPlace } from "../log/log-place.ts";
import { isBlank } from "../lines/line-reader.ts";
import type { Section } from "../log/record-sections.ts";
import type { StreamFiles } from "../streams/stream-files.ts";
import type { DirtyFiles } from "./dirty-files.ts";
import { foreignTail } from "./foreign-tail.ts";
import { type LineMove, LineMoves } from "./line-moves.ts";

export interface UnsettledStreamsParts {
  readonly fs: FileSystem;
  readonly paths: StorePaths;
  readonly files: StreamFiles;
  readonly dirty: DirtyFiles;
  /** Streams whose files this process has locked. */
  readonly lockedStreams: ReadonlyMap<StreamKey, FileHandle>;
}

/** A stream whose file lacks committed lines, and cannot get them by a plain write. */
interface Unsettled {
  /** Offset of the first line that may be missing; `undefined` if only a begun move is to be completed. */
  readonly at: number;
  /** The committed lines from there on. */
  readonly committed: Buffer[];
  /** Where the log has the first of them; `undefined` if every record is in the streams' files. */
  readonly place: LogPlace | undefined;
}

const RETRY_MS = 10;

/**
 * Streams whose files do not have their committed lines yet because the Rust crate has appended others in their place, or holds
 * the file's lock. The committed lines come first; the crate's lines move to after them, so that both count. While the crate
 * holds a file, its stream stays here: reading it or writing to it fails with `STREAM_LOCKED`, other streams go on, and the marker
 * does not move past the first missing line. Needs the store's lock.
 */
export class UnsettledStreams {
  readonly #parts: UnsettledStreamsParts;
  readonly #moves: LineMoves;
  readonly #streams = new Map<StreamKey, Unsettled>();
  /** Streams in whose files a dead process has begun to move lines; known while a recovery reads the log. */
  #moving: ReadonlySet<StreamKey> = new Set();
  /** Where the lines of the streams end that a recovery has met so far. */
  readonly #ends = new Map<StreamKey, number>();

  constructor(parts: UnsettledStreamsParts) {
    this.#parts = parts;
    this.#moves = new LineMoves(parts.fs, parts.paths);
  }

  get isEmpty(): boolean {
    return this.#streams.size === 0;
  }

  has(key: StreamKey): boolean {
    return this.#streams.has(key);
  }

  /** Where the log has the first record whose lines are missing in a stream's file. */
  get start(): LogPlace | undefined {
    let start: LogPlace | undefined;
    for (const { place } of this.#streams.values())
      if (place !== undefined && (start === undefined || isBefore(place, start))) start = place;
    return start;
  }

  /** Calls `work`, which appends lines of the log to the streams' files. */
  whileAppending<T>(work: () => T): T {
    this.#ends.clear();
    this.#moving = new Set(this.#moves.list().map(({ stream }) => stream));
    try {
      return work();
    } finally {
      this.#moving = new Set();
      this.#ends.clear();
    }
  }

  /** A stream's file has these lines. Only for `whileAppending`. */
  met({ key, at, start, end }: Section): void {
    this.#ends.set(key, at + end - start);
  }

  /**
   * Appends committed lines to a stream's file, if they are all that it lacks. Returns false, and writes nothing, if something else is
   * in their place, or if the Rust crate holds the file. Only for `whileAppending`.
   */
  append(section: Section, lines: Buffer): boolean {
    const { key, at } = section;
    const { files, lockedStreams } = this.#parts;
    const { file } = files.acquire(key);
    const isNext = (): boolean => file.size() === at || this.#lacksBlank(file, this.#ends.get(key), at);
    if (this.#moving.has(key) || !isNext()) return false;
    const isLocked = lockedStreams.has(key);
    if (!isLocked && !file.tryLock()) return false;
    try {
      if (!isNext()) return false;
      const missing = at - file.size();
      const bytes = missing === 0 ? lines : Buffer.concat([Buffer.alloc(missing, "\n"), lines]);
      file.write(bytes, 0, bytes.length, at - missing);
      this.met(section);
      return true;
    } finally {
      if (!isLocked) file.unlock();
    }
  }

  /** Whether only blank lines are missing between the end of the lines that a file has and an offset: those of the crate are in no section. */
  #lacksBlank(file: FileHandle, end: number | undefined, at: number): boolean {
    const size = file.size();
    if (end === undefined || size < end || size >= at) return false;
    const found = Buffer.alloc(size - end);
    return file.read(found, 0, found.length, end) === found.length && isBlank(found, 0, found.length);
  }

  /** Adds committed lines, which stay in memory until the stream is settled; `place` is that of their record. */
  add({ key, at, start, end }: Section, buffer: Buffer, place: LogPlace): void {
    const lines = Buffer.from(buffer.subarray(start, end));
    const stream = this.#streams.get(key);
    if (stream?.place === undefined) {
      this.#streams.set(key, { at, committed: [lines], place });
      return;
    }
    const gap = at - stream.at - stream.committed.reduce((sum, bytes) => sum + bytes.length, 0);
    // Sections from the marker on can be read twice.
    if (gap < 0) return;
    // Blank lines of the crate are in no section.
    if (gap > 0) stream.committed.push(this.#blank(key, at - gap, gap));
    stream.committed.push(lines);
  }

  /** Removes streams whose lines a caller will add again. */
  remove(sections: readonly Section[]): void {
    for (const { key } of sections) this.#streams.delete(key);
  }

  /** Adds the streams in whose files a dead process has begun to move lines. */
  addBegunMoves(): void {
    for (const { stream, at } of this.#moves.list())
      if (!this.has(stream)) this.#streams.set(stream, { at, committed: [], place: undefined });
  }

  /** Settles the streams whose files are free within some time. */
  async settleAll(patienceMs: number): Promise<void> {
    const deadline = monotonicNow() + patienceMs;
    for (const key of [...this.#streams.keys()]) {
      while (!(await this.settle(key)) && monotonicNow() < deadline) await sleep(RETRY_MS);
    }
  }

  /** Gives a stream's file its committed lines. Returns false if the Rust crate holds the file. */
  async settle(key: StreamKey): Promise<boolean> {
    const stream = this.#streams.get(key);
    if (stream === undefined) return true;
    const { files, lockedStreams, dirty } = this.#parts;
    const { file } = files.acquire(key);
    const isLocked = lockedStreams.has(key);
    if (!isLocked && !file.tryLock()) return false;
    try {
      const begun = this.#moves.of(key);
      if (begun !== undefined) await this.#complete(file, begun);
      await this.#write(key, file, stream.at, Buffer.concat(stream.committed));
      dirty.addStream(key, true);
      this.#streams.delete(key);
      return true;
    } finally {
      if (!isLocked) file.unlock();
    }
  }

  /** Throws `STREAM_LOCKED` for a stream that cannot be read yet. */
  check(key: StreamKey): void {
    if (this.has(key)) throw streamUnsettled(key, this.#parts.files.lockedBy(key));
  }

  async #write(key: StreamKey, file: FileHandle, at: number, committed: Buffer): Promise<void> {
    const found = bytesFrom(file, at);
    const foreign = foreignTail(found, committed);
    if (foreign === undefined) {
      file.write(committed, 0, committed.length, at);
      return;
    }
    await this.#quarantine(key, at, found);
    if (foreign.length === 0) file.write(committed, 0, committed.length, at);
    else await this.#begin(file, key, at, found.length, Buffer.concat([committed, foreign]));
  }

  async #begin(file: FileHandle, stream: StreamKey, at: number, found: number, bytes: Buffer): Promise<void> {
    // A move never makes the file shorter: then it could not be told from one that is done. Blank lines do not count.
    const blank = Buffer.alloc(Math.max(0, found - bytes.length), "\n");
    const move = { stream, at, found, bytes: Buffer.concat([bytes, blank]) };
    await this.#moves.begin(move);
    await this.#complete(file, move);
  }

  /** Does a move, which may have been done in part, after which the Rust crate may have appended more. */
  async #complete(file: FileHandle, { stream, at, found, bytes }: LineMove): Promise<void> {
    const now = bytesFrom(file, at);
    const foreign = foreignTail(now.subarray(found), bytes.subarray(found));
    if (foreign !== undefined) await this.#quarantine(stream, at, now);
    if (foreign !== undefined && foreign.length > 0) {
      await this.#begin(file, stream, at, now.length, Buffer.concat([bytes, foreign]));
      return;
    }
    file.write(bytes, 0, bytes.length, at);
    await file.flush();
    await this.#moves.end(stream);
  }

  async #quarantine(key: StreamKey, at: number, bytes: Buffer): Promise<void> {
    await quarantine(this.#parts.fs, this.#parts.paths, `${key}.${at}`, bytes);
  }

  #blank(key: StreamKey, at: number, length: number): Buffer {
    const { file } = this.#parts.files.acquire(key);
    const bytes = Buffer.alloc(length, "\n");
    const found = Buffer.alloc(length);
    return file.read(found, 0, length, at) === length && found.toString("latin1").trim() === "" ? found : bytes;
  }
}

function streamUnsettled(key: StreamKey, lockedBy: string): EventfoldError {
  return new EventfoldError(
    "STREAM_LOCKED",
    `the file of ${key} lacks committed events, and its lock is needed to complete it. Expected the lock to be free, found that ${lockedBy}. The Rust crate eventfold-es keeps the lock for 5 minutes after it last used the instance`,
  );
}

function bytesFrom(file: FileHandle, at: number): Buffer {
  const bytes = Buffer.alloc(Math.max(0, file.size() - at));
  return bytes.subarray(0, file.read(bytes, 0, bytes.length, at));
}
