import { CorruptionError } from "../errors.ts";
import type { CommitResult } from "../event-store/event-store.ts";
import type { FileHandle, FileSystem } from "../fs/file-system.ts";
import type { Batch, QueuedCommit, StreamEnd } from "./batch.ts";
import type { CommitLog } from "./commit-log.ts";
import { keepAside, type Layout } from "./layout.ts";
import { endOfLastLine, readLines } from "./lines.ts";
import type { PendingBatches } from "./pending-batches.ts";
import type { StreamKey } from "./stream-directory.ts";
import type { StreamFiles } from "./stream-files.ts";
import type { StreamTable } from "./stream-table.ts";

export interface BatchPlanParts {
  readonly fs: FileSystem;
  readonly layout: Layout;
  readonly log: CommitLog;
  readonly files: StreamFiles;
  readonly table: StreamTable;
  readonly pending: PendingBatches;
}

/**
 * A batch in the making: which streams it touches, their locks, and where they will end. Nothing of it is seen by anybody
 * before `carryOut`.
 */
export class BatchPlan {
  readonly batch: Batch;
  readonly #parts: BatchPlanParts;
  readonly #ends = new Map<StreamKey, StreamEnd>();
  readonly #locked = new Map<StreamKey, FileHandle>();

  constructor(parts: BatchPlanParts, batch: Batch) {
    this.#parts = parts;
    this.batch = batch;
  }

  /** How many streams are locked. */
  get streams(): number {
    return this.#locked.size;
  }

  /**
   * Adds a commit. Returns nothing when it is in, the conflict when a stream has another version, `"blocked"` when another
   * program holds one of its streams.
   */
  async add(queued: QueuedCommit): Promise<CommitResult | "blocked" | undefined> {
    const early = this.#conflict(queued);
    if (early !== undefined) return early;
    for (const key of queued.keys) if (!(await this.#lock(key))) return "blocked";
    // Events of another program may have come to light.
    const late = this.#conflict(queued);
    if (late !== undefined) return late;
    for (const [index, key] of queued.keys.entries()) this.batch.addAppend(queued, index, this.#end(key));
    this.batch.commits.push({ queued, position: this.batch.firstPosition + this.batch.events - 1 });
    return undefined;
  }

  /** Adds the events that another program has appended to a stream's file. */
  async adopt(key: StreamKey): Promise<void> {
    await this.#adopt(key, undefined);
  }

  /** Lets everybody see where the streams end now. */
  carryOut(): void {
    for (const [key, { version, end }] of this.#ends) {
      const entry = this.#parts.table.getFromLog(key);
      entry.version = entry.markVersion = version;
      entry.end = entry.markEnd = end;
    }
  }

  unlock(): void {
    for (const [key, file] of this.#locked) {
      try {
        file.unlock();
      } catch {
        this.#parts.files.forget(key);
      }
    }
  }

  #end(key: StreamKey): StreamEnd {
    let end = this.#ends.get(key);
    if (end === undefined) {
      const { version, end: offset } = this.#parts.table.getFromLog(key);
      this.#ends.set(key, (end = { version, end: offset }));
    }
    return end;
  }

  #conflict({ commit, keys }: QueuedCommit): CommitResult | undefined {
    const { log, table } = this.#parts;
    for (const [index, { stream, expectedVersion }] of commit.appends.entries()) {
      const key = keys[index] ?? "";
      const entry = this.#ends.get(key) ?? table.get(key, log.end.position);
      // Foreign events are taken in when the stream is locked, and conflict then.
      if (entry === "foreign" || entry.version === expectedVersion) continue;
      return { ok: false, stream, actualVersion: entry.version };
    }
    return undefined;
  }

  /** Keeps other programs away from a stream and takes in what they have written. False if somebody has it. */
  async #lock(key: StreamKey): Promise<boolean> {
    if (this.#locked.has(key)) return true;
    const { files, pending } = this.#parts;
    const { file } = files.acquire(key);
    if (!file.tryLock()) return false;
    this.#locked.set(key, file);
    const { end } = this.#end(key);
    if (!pending.has(key) && file.size() !== end) await this.#adopt(key, file);
    return true;
  }

  /** `file` is given when the stream is locked. */
  async #adopt(key: StreamKey, file: FileHandle | undefined): Promise<void> {
    const { files, fs, layout } = this.#parts;
    const known = this.#end(key);
    const reader = files.openForReading(key);
    if (reader === undefined) return;
    try {
      const size = reader.size();
      if (size < known.end) {
        const where = { file: files.path(key), line: known.version, offset: size };
        throw new CorruptionError("CORRUPT_STREAM", where, `the file ends here; ${known.end} bytes were committed`);
      }
      const end = endOfLastLine(reader, size);
      if (end > known.end) {
        let events = 0;
        for (const lines of readLines(reader, known.end, end)) events += lines.length;
        const bytes = Buffer.alloc(end - known.end);
        reader.read(bytes, 0, bytes.length, known.end);
        if (events > 0) this.batch.addFound(key, known, events, bytes, true);
        else known.end = end;
      }
      if (size > known.end && file !== undefined) {
        // A line that its writer never completed; with the lock in our hands nobody is writing it.
        const torn = Buffer.alloc(size - known.end);
        reader.read(torn, 0, torn.length, known.end);
        await keepAside(fs, layout, `${key.replaceAll("/", ".")}.${known.end}`, torn);
        file.truncate(known.end);
      }
    } finally {
      reader.close();
    }
  }
}
