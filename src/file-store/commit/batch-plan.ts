import { CorruptionError } from "../../errors.ts";
import type { CommitResult } from "../../event-store/event-store.ts";
import type { FileHandle, FileSystem } from "../../fs/file-system.ts";
import type { WrittenEnd } from "../log/record-writer.ts";
import { type StreamKey, streamOfKey } from "../disk/stream-key.ts";
import type { Batch, QueuedCommit } from "./batch.ts";
import type { CommitLog } from "../log/commit-log.ts";
import type { ProgressLog } from "../progress/progress-log.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import { quarantine } from "../disk/quarantine.ts";
import { endOfLastLine, readLines } from "../lines/line-reader.ts";
import { positionOfLine } from "../lines/line-scanner.ts";
import type { PendingBatches } from "../streams/unapplied-records.ts";
import type { StreamFiles } from "../streams/stream-files.ts";
import type { StreamTable } from "../streams/stream-table.ts";
import { isPromise } from "../../realm.ts";

export interface BatchPlanParts {
  readonly fs: FileSystem;
  readonly paths: StorePaths;
  readonly log: CommitLog;
  readonly files: StreamFiles;
  readonly table: StreamTable;
  readonly pending: PendingBatches;
  readonly progress: ProgressLog;
}

/** `"blocked"`: another program holds one of the streams. */
export type Added = CommitResult | "blocked" | undefined;

/**
 * A batch in the making: which streams it touches, their locks, and where they will end. Nothing of it is seen by anybody
 * before `carryOut`.
 */
export class BatchPlan {
  readonly batch: Batch;
  readonly #parts: BatchPlanParts;
  readonly #ends = new Map<StreamKey, WrittenEnd>();
  readonly #sequences = new Map<string, number>();
  readonly #locked: Map<StreamKey, FileHandle>;
  /** Events of another program may have come to light. */
  #foreign = false;

  /** `locked`: the streams that are locked already; those that the plan locks are added. */
  constructor(parts: BatchPlanParts, batch: Batch, locked: Map<StreamKey, FileHandle>) {
    this.#parts = parts;
    this.batch = batch;
    this.#locked = locked;
  }

  /**
   * Adds a commit. Returns nothing when it is in, the conflict when a stream has another version, `"blocked"` when another
   * program holds one of its streams.
   */
  add(queued: QueuedCommit): Added | Promise<Added> {
    const early = this.#conflict(queued);
    if (early !== undefined) return early;
    for (let index = 0; index < queued.keys.length; index++) {
      const locked = this.#lockFor(queued, index);
      if (isPromise(locked)) return this.#addWaiting(queued, index, locked);
      if (!locked) return "blocked";
    }
    return this.#add(queued);
  }

  async #addWaiting(queued: QueuedCommit, from: number, first: Promise<boolean>): Promise<Added> {
    if (!(await first)) return "blocked";
    for (let index = from + 1; index < queued.keys.length; index++)
      if (!(await this.#lockFor(queued, index))) return "blocked";
    return this.#add(queued);
  }

  #lockFor(queued: QueuedCommit, index: number): boolean | Promise<boolean> {
    // An append without events only checks the version.
    return queued.commit.appends[index]?.events.length === 0 || this.#lock(queued.keys[index] ?? "");
  }

  #add(queued: QueuedCommit): Added {
    const late = this.#foreign ? this.#conflict(queued) : undefined;
    if (late !== undefined) return late;
    const { keys } = queued;
    for (let index = 0; index < keys.length; index++) {
      const key = keys[index];
      if (key !== undefined && queued.commit.appends[index]?.events.length !== 0)
        this.batch.addAppend(queued, index, this.#end(key));
    }
    const { consumer } = queued.commit;
    if (consumer !== undefined) {
      const { name, expectedSequence, note, deadLetters, settledLetters } = consumer;
      const sequence = expectedSequence + 1;
      this.#sequences.set(name, sequence);
      this.batch.record.addNote({
        name,
        sequence,
        note,
        ...(deadLetters === undefined ? {} : { deadLetters }),
        ...(settledLetters === undefined ? {} : { settledLetters }),
      });
    }
    this.batch.commits.push({ queued, position: this.batch.record.nextPosition - 1 });
    return undefined;
  }

  /** Adds the events that another program has appended to a stream's file. */
  async adopt(key: StreamKey): Promise<void> {
    await this.#adopt(key, undefined);
  }

  /** Lets everybody see where the streams end now. */
  carryOut(): void {
    for (const [key, { version, end, crc }] of this.#ends) {
      const entry = this.#parts.table.getCommitted(key);
      entry.version = version;
      entry.end = end;
      entry.crc = crc;
      entry.mark = { version, end, crc };
    }
    for (const section of this.batch.record.notes) this.#parts.progress.add(section);
  }

  #end(key: StreamKey): WrittenEnd {
    let end = this.#ends.get(key);
    if (end === undefined) {
      const { version, end: offset, crc } = this.#parts.table.getCommitted(key);
      this.#ends.set(key, (end = { version, end: offset, crc }));
    }
    return end;
  }

  #conflict({ commit, keys }: QueuedCommit): CommitResult | undefined {
    const { table, progress } = this.#parts;
    if (commit.consumer !== undefined) {
      const { name, expectedSequence } = commit.consumer;
      const actualSequence = this.#sequences.get(name) ?? progress.sequence(name);
      if (actualSequence !== expectedSequence) return { ok: false, consumer: name, actualSequence };
    }
    for (let index = 0; index < commit.appends.length; index++) {
      const append = commit.appends[index];
      if (append === undefined) continue;
      const { stream, expectedVersion } = append;
      const key = keys[index] ?? "";
      const entry = this.#ends.get(key) ?? table.get(key);
      // Foreign events are taken in when the stream is locked, and conflict then.
      if (entry === "foreign") this.#foreign = true;
      if (commit.chain?.broken !== true && (entry === "foreign" || entry.version === expectedVersion)) continue;
      if (entry === "foreign") return { ok: false, stream, actualVersion: 0 };
      return { ok: false, stream, actualVersion: entry.version };
    }
    return undefined;
  }

  /** Keeps other programs away from a stream and takes in what they have written. False if somebody has it. */
  #lock(key: StreamKey): boolean | Promise<boolean> {
    if (this.#locked.has(key)) return true;
    const { files, pending } = this.#parts;
    const { file, created } = files.acquire(key);
    if (!created) this.batch.existing.add(key);
    if (!file.tryLock()) return false;
    this.#locked.set(key, file);
    const { end } = this.#end(key);
    return pending.has(key) || file.size() === end || this.#adopt(key, file).then(() => true);
  }

  /** `file` is given when the stream is locked. */
  async #adopt(key: StreamKey, file: FileHandle | undefined): Promise<void> {
    const { files, fs, paths } = this.#parts;
    this.#foreign = true;
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
        for (const lines of readLines(reader, known.end, end)) {
          for (const { text, offset } of lines) {
            events++;
            const ours = text === undefined ? undefined : positionOfLine(text);
            if (ours === undefined) continue;
            const where = { file: files.path(key), line: known.version + events, offset };
            const why = `there is an event with position ${ours} that the commit log does not have`;
            throw new CorruptionError("CORRUPT_STREAM", where, why);
          }
        }
        const bytes = Buffer.alloc(end - known.end);
        reader.read(bytes, 0, bytes.length, known.end);
        if (events > 0) {
          if (known.version === 0) this.batch.created.push({ stream: streamOfKey(key), seconds: 0, mayBeKnown: true });
          this.batch.record.addLines(key, known, events, bytes, true);
        } else known.end = end;
      }
      if (size > known.end && file !== undefined) {
        // A line that its writer never completed; with the lock in our hands nobody is writing it.
        const torn = Buffer.alloc(size - known.end);
        reader.read(torn, 0, torn.length, known.end);
        await quarantine(fs, paths, `${key}.${known.end}`, torn);
        file.truncate(known.end);
      }
    } finally {
      reader.close();
    }
  }
}
