import { isPromise } from "../../realm.ts";
import type { CommitResult } from "../../event-store/event-store.ts";
import type { FileHandle } from "../../fs/file-system.ts";
import type { StreamKey } from "../disk/stream-key.ts";
import type { WrittenEnd } from "../log/record-writer.ts";
import type { ProgressLog } from "../progress/progress-log.ts";
import type { StreamFiles } from "../streams/stream-files.ts";
import type { StreamIndex } from "../streams/stream-index.ts";
import type { UnappliedRecords } from "../streams/unapplied-records.ts";
import type { Batch } from "./batch.ts";
import { ForeignLines, type ForeignLinesParts } from "./foreign-lines.ts";
import type { QueuedAppend, QueuedCommit } from "./queued-commit.ts";

export interface BatchPlanParts extends ForeignLinesParts {
  readonly files: StreamFiles;
  readonly index: StreamIndex;
  readonly unapplied: UnappliedRecords;
  readonly progress: ProgressLog;
}

/** How adding a commit ended: it is in the batch, it conflicts, or another process holds one of its streams. */
export type Added = CommitResult | "locked" | undefined;

/** A batch in the making: which streams it touches, their locks, and where they will end. Readers see nothing of it. */
export class BatchPlan {
  readonly batch: Batch;
  readonly #parts: BatchPlanParts;
  readonly #foreignLines: ForeignLines;
  readonly #ends = new Map<StreamKey, WrittenEnd>();
  readonly #sequences = new Map<string, number>();
  readonly #locked: Map<StreamKey, FileHandle>;
  /** Foreign lines may have moved a stream's end since the conflicts were checked. */
  #hasForeign = false;

  /** `locked`: the streams that are locked already; those that the plan locks are added. */
  constructor(parts: BatchPlanParts, batch: Batch, locked: Map<StreamKey, FileHandle>) {
    this.#parts = parts;
    this.#foreignLines = new ForeignLines(parts);
    this.batch = batch;
    this.#locked = locked;
  }

  /** Adds a commit, unless it conflicts or is locked out. */
  add(queued: QueuedCommit): Added | Promise<Added> {
    const early = this.#conflict(queued);
    if (early !== undefined) return early;
    const { appends } = queued;
    for (const [index, append] of appends.entries()) {
      const isLocked = this.#lockFor(append);
      if (isPromise(isLocked)) return this.#addWaiting(queued, appends.slice(index + 1), isLocked);
      if (!isLocked) return "locked";
    }
    return this.#add(queued);
  }

  async #addWaiting(queued: QueuedCommit, rest: readonly QueuedAppend[], first: Promise<boolean>): Promise<Added> {
    if (!(await first)) return "locked";
    for (const append of rest) if (!(await this.#lockFor(append))) return "locked";
    return this.#add(queued);
  }

  /** An append without events only checks the version, for which foreign lines have to be adopted first. */
  #lockFor({ key, events }: QueuedAppend): boolean | Promise<boolean> {
    if (events.length === 0 && this.#version(key) !== "foreign") return true;
    return this.#lock(key);
  }

  #add(queued: QueuedCommit): Added {
    const late = this.#hasForeign ? this.#conflict(queued) : undefined;
    if (late !== undefined) return late;
    for (const append of queued.appends)
      if (append.events.length > 0) this.batch.addAppend(append, this.#end(append.key));
    const { consumer } = queued;
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

  /** Adds the foreign lines of a stream. */
  async adopt(key: StreamKey): Promise<void> {
    await this.#adopt(key, undefined);
  }

  #end(key: StreamKey): WrittenEnd {
    let end = this.#ends.get(key);
    if (end === undefined) this.#ends.set(key, (end = { ...this.#parts.index.committed(key).end }));
    return end;
  }

  #conflict({ appends, consumer, chain }: QueuedCommit): CommitResult | undefined {
    const { progress } = this.#parts;
    if (consumer !== undefined) {
      const { name, expectedSequence } = consumer;
      const actualSequence = this.#sequences.get(name) ?? progress.sequence(name);
      if (actualSequence !== expectedSequence) return { ok: false, consumer: name, actualSequence };
    }
    for (const { stream, key, expectedVersion } of appends) {
      const version = this.#version(key);
      const isBroken = chain?.broken === true;
      if (version === "foreign") {
        // Foreign lines are adopted when the stream is locked, and conflict then.
        this.#hasForeign = true;
        if (isBroken) return { ok: false, stream, actualVersion: 0 };
      } else if (isBroken || version !== expectedVersion) return { ok: false, stream, actualVersion: version };
    }
    return undefined;
  }

  #version(key: StreamKey): number | "foreign" {
    const planned = this.#ends.get(key);
    if (planned !== undefined) return planned.version;
    const known = this.#parts.index.find(key);
    return known === "foreign" ? known : known.end.version;
  }

  /** Locks a stream against the Rust crate and adopts its foreign lines. False if another process holds it. */
  #lock(key: StreamKey): boolean | Promise<boolean> {
    if (this.#locked.has(key)) return true;
    const { files, unapplied } = this.#parts;
    files.forgetReplaced(key);
    const { file, created } = files.acquire(key);
    if (!created) this.batch.existing.add(key);
    if (!file.tryLock()) return false;
    this.#locked.set(key, file);
    const { end } = this.#end(key);
    return unapplied.has(key) || file.size() === end || this.#adopt(key, file).then(() => true);
  }

  /** `locked` is the stream's file when the stream is locked. */
  async #adopt(key: StreamKey, locked: FileHandle | undefined): Promise<void> {
    this.#hasForeign = true;
    await this.#foreignLines.adopt(this.batch, key, this.#end(key), locked);
  }
}
