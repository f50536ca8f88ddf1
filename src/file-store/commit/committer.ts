import { EventfoldError } from "../../errors.ts";
import type { FileHandle } from "../../fs/file-system.ts";
import type { Applier } from "../apply/applier.ts";
import { Batch, type QueuedCommit } from "./batch.ts";
import type { LogPlace } from "../log/log-place.ts";
import { ioError } from "../disk/io-error.ts";
import { BatchPlan, type BatchPlanParts } from "./batch-plan.ts";
import { FlushPace } from "./flush-pace.ts";
import type { PendingBatch } from "../streams/unapplied-records.ts";
import { isTurnLong, turn } from "../../event-loop.ts";
import type { StoreLock } from "../disk/store-lock.ts";
import type { StreamKey } from "../disk/stream-key.ts";
import { atEndOfTurn, monotonicNow, sleep } from "../../real-timers.ts";
import { isError, isPromise } from "../../realm.ts";

/** Limits of one batch: each stream in it keeps a descriptor, and its bytes are kept in memory. */
const MAX_STREAMS = 180;
const MAX_BYTES = 4 << 20;
/** More than this is not written on the spot. */
const SMALL_BYTES = 64 << 10;
/** How often commits that met somebody else's events may be decided again before others get the lock. */
const MAX_ROUNDS = 8;
/** How long a stream may be held by the original before its commands fail. */
const STREAM_PATIENCE_MS = 2000;
/** With durability `"os"`: how long new batches may keep the lock before they are flushed. */
const OS_HOLD_MS = 20;

interface Adoption {
  readonly key: StreamKey;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export interface CommitterParts extends BatchPlanParts {
  readonly lock: StoreLock;
  readonly applier: Applier;
  readonly durability: "flush" | "os";
  /** Takes note of other processes' commits. */
  readonly catchUp: () => void;
  /** Accepts or cuts what a dead process left at the end of the log. */
  readonly recoverTail: () => Promise<void>;
  /** There are new commits that readers here can see. */
  readonly visible: (written: PendingBatch) => void;
  /** Everything up to this place is durable and applied. */
  readonly committed: (end: LogPlace) => void;
}

/**
 * The commit queue. Whatever waits when the previous flush is done is written as one record with one
 * flush, under the store's lock:
 *
 * 1. see what others have committed; complete what a dead process left;
 * 2. check versions: who conflicts is told at once and may come back in the next round, under the same lock;
 * 3. append the record to the log, durably; 4. write the streams' files; 5. answer.
 */
export class Committer {
  readonly #parts: CommitterParts;
  #queue: QueuedCommit[] = [];
  /** Commits to streams that another program holds. */
  #blocked: QueuedCommit[] = [];
  #adoptions: { readonly key: StreamKey; readonly resolve: () => void; readonly reject: (error: unknown) => void }[] =
    [];
  #running: Promise<void> | undefined;
  #arrived: (() => void) | undefined;
  /** For the next batch, unless the last one still needs it. */
  #buffer: Buffer | undefined;
  /** With durability `"os"`: the flush that is under way, and how it ends. */
  #late: Promise<{ readonly error?: unknown }> | undefined;
  /** A write or flush failed: what is behind the end of the log, up to here, is not to be believed. */
  #failed: LogPlace | undefined;
  readonly #pace = new FlushPace();
  /** The batch before had one command, and nobody came while it was written. */
  #isLone = false;
  /** Streams that are kept from other programs until what was written to them in this session is in their files. */
  readonly #locked = new Map<StreamKey, FileHandle>();

  constructor(parts: CommitterParts) {
    this.#parts = parts;
  }

  add(commit: QueuedCommit): void {
    this.#queue.push(commit);
    this.#start();
  }

  /** Commits the events that another program has appended to a stream's file. */
  adopt(key: StreamKey): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#adoptions.push({ key, resolve, reject });
      this.#start();
    });
  }

  /** Resolves when nothing waits any more. */
  async finish(): Promise<void> {
    while (this.#running !== undefined || this.#hasWork) {
      this.#start();
      await this.#running;
      if (!this.#parts.pending.isEmpty && this.#queue.length === 0 && this.#running === undefined) break;
    }
  }

  get #hasWork(): boolean {
    return this.#queue.length > 0 || this.#adoptions.length > 0 || !this.#parts.pending.isEmpty;
  }

  #start(): void {
    this.#arrived?.();
    // Whoever is answered by the same batch asks for the next thing in the same turn: all of that is one batch again.
    this.#running ??= endOfTurn()
      .then(() => this.#run())
      .finally(() => {
        this.#running = undefined;
        if (this.#queue.length > 0 || this.#adoptions.length > 0) this.#start();
      });
  }

  async #run(): Promise<void> {
    const { lock, pending } = this.#parts;
    while (this.#hasWork) {
      try {
        await lock.hold(() => this.#session());
      } catch (error) {
        this.#failAll(ioError(error, "committing"));
        if (!pending.isEmpty) return;
      }
      if (this.#blocked.length > 0) await this.#retryBlocked();
      if (lock.contended) await turn();
    }
  }

  async #session(): Promise<void> {
    const { catchUp, log, recoverTail, pending } = this.#parts;
    try {
      catchUp();
      if (this.#failed !== undefined) await this.#distrust(this.#failed);
      // The last session may have ended with a stream's file that could not be written, and batches that were not flushed yet.
      if (this.#parts.durability === "os" && !pending.isEmpty) await this.#flush();
      this.#applyPending(pending.list.length);
      if (log.hasMore()) await recoverTail();
      for (let round = 0; round < MAX_ROUNDS; round++) {
        const conflicts = await this.#writeBatch();
        if (conflicts === 0) break;
        // Whoever conflicted decides again on the new state now, and finds us with the lock still held.
        await turn();
        if (this.#queue.length === 0) await turn();
        if (this.#queue.length === 0) break;
      }
      if (this.#parts.durability === "os") await this.#flushLate();
    } finally {
      this.#unlockStreams();
    }
  }

  /** Writes everything that waits as one record. Returns how many commits met another version; 0 ends the session's rounds. */
  async #writeBatch(): Promise<number> {
    const { log, pending, durability } = this.#parts;
    const batch = new Batch((this.#buffer ??= Buffer.allocUnsafe(64 << 10)), log.end.position + 1);
    const plan = new BatchPlan(this.#parts, batch, this.#locked);
    const { conflicts, adoptions } = await this.#collect(plan);
    if (!batch.record.isEmpty) {
      const written = await this.#append(batch);
      if (isError(written)) {
        for (const { queued } of batch.commits) giveUp(queued, written);
        for (const { reject } of adoptions) reject(written);
        return 0;
      }
      // From here on the commits count. No waiting in between: nobody may see one of these without the others.
      log.moveTo(written.end);
      pending.add(written);
      plan.carryOut();
      this.#buffer = undefined;
      this.#parts.visible(written);
      if (durability === "flush") {
        try {
          this.#applyPending(pending.list.length);
          this.#buffer = batch.record.buffer;
        } catch {
          // The streams' files get it later, from memory or by recovery; readers see it meanwhile.
        }
      }
    }
    for (const { resolve } of adoptions) resolve();
    for (const { queued, position } of batch.commits) queued.resolve({ ok: true, position });
    return conflicts;
  }

  /** Appends the record to the log; on failure sees to it, while the lock is still held, that nothing of it stays. */
  async #append(batch: Batch): Promise<PendingBatch | Error> {
    const { lock, log, pending, durability } = this.#parts;
    const { record } = batch;
    try {
      record.finish();
      // A flush that fails tells so once, to whoever waits for it; after it another one can succeed although bytes are gone. A new
      // segment must not follow, or nobody could tell a power cut from damage.
      if (this.#late !== undefined && !log.hasRoom(record.bytes)) {
        const { error } = await this.#late;
        if (error !== undefined) throw ioError(error, "flushing the commit log");
      }
      const room = log.prepare(record.bytes);
      const place = isPromise(room) ? await room : room;
      // What this segment has of acknowledged but unflushed records (mode "os") is not durable yet.
      const unflushed = pending.list.find((other) => other.place.segment === place.segment)?.place;
      const start = record.seal(unflushed?.offset ?? place.offset);
      this.#failed = { ...place, offset: place.offset + record.end - start };
      // Nobody else has anything to do meanwhile; or another process waits for the lock, and must not wait for what we do besides
      // while the thread pool writes.
      const isLone = batch.commits.length === 1 && this.#queue.length === 0;
      const isUrgent = (isLone && this.#isLone) || lock.contended;
      const onTheSpot = isUrgent && record.end - start <= SMALL_BYTES && this.#pace.isQuick;
      const how = durability === "os" ? "not durably" : onTheSpot ? "durably on the spot" : "durably";
      const started = monotonicNow();
      const appended = log.append(record.buffer, start, record.end, record.events, how);
      const end = isPromise(appended) ? await appended : appended;
      this.#isLone = isLone && this.#queue.length === 0;
      if (onTheSpot || this.#isLone) this.#pace.note(monotonicNow() - started);
      else this.#pace.forget();
      this.#failed = undefined;
      return { batch, start, place, end };
    } catch (error) {
      // What was acknowledged and not flushed may have gone with a flush that prepared room.
      if (durability === "os" && !pending.isEmpty) this.#failed ??= log.end;
      if (this.#failed !== undefined) {
        try {
          await this.#late;
          await this.#distrust(this.#failed);
        } catch {
          // Tried again before the next write.
        }
      }
      return ioError(error, "writing to the commit log");
    }
  }

  async #collect(plan: BatchPlan): Promise<{ readonly conflicts: number; readonly adoptions: readonly Adoption[] }> {
    const { batch } = plan;
    const queue = this.#queue;
    this.#queue = [];
    const wanted = this.#adoptions;
    this.#adoptions = [];
    const adoptions: Adoption[] = [];
    for (const adoption of wanted) {
      try {
        await plan.adopt(adoption.key);
        adoptions.push(adoption);
      } catch (error) {
        adoption.reject(ioError(error, `taking over ${adoption.key}`));
      }
    }
    let conflicts = 0;
    for (let i = 0; i < queue.length; i++) {
      const queued = queue[i];
      if (queued === undefined) continue;
      if (isTurnLong()) await turn();
      if (i > 0 && (batch.record.bytes > MAX_BYTES || this.#locked.size + queued.keys.length > MAX_STREAMS)) {
        this.#queue = [...queue.slice(i), ...this.#queue];
        break;
      }
      try {
        const added = this.#isBlocked(queued) ? "blocked" : plan.add(queued);
        const conflict = isPromise(added) ? await added : added;
        if (conflict === "blocked") {
          this.#blocked.push(queued);
        } else if (conflict !== undefined) {
          conflicts++;
          if (queued.commit.chain !== undefined) queued.commit.chain.broken = true;
          queued.resolve(conflict);
        }
      } catch (error) {
        giveUp(queued, ioError(error, `preparing ${queued.keys.join(", ")}`));
      }
    }
    return { conflicts, adoptions };
  }

  /** Whether an earlier commit to one of its streams waits for another program: then it waits behind that one. */
  #isBlocked({ keys }: QueuedCommit): boolean {
    return this.#blocked.length > 0 && this.#blocked.some((other) => other.keys.some((key) => keys.includes(key)));
  }

  #unlockStreams(): void {
    for (const [key, file] of this.#locked) {
      try {
        file.unlock();
      } catch {
        this.#parts.files.forget(key);
      }
    }
    this.#locked.clear();
    this.#parts.files.trim();
  }

  async #retryBlocked(): Promise<void> {
    const now = monotonicNow();
    const again: QueuedCommit[] = [];
    for (const queued of this.#blocked) {
      queued.lockedSince ??= now;
      if (now - queued.lockedSince < STREAM_PATIENCE_MS) again.push(queued);
      else {
        giveUp(
          queued,
          new EventfoldError(
            "STREAM_LOCKED",
            `${queued.keys.join(", ")} is held by another program (the Rust eventfold-es keeps an instance for 5 minutes after its last use); try again later`,
          ),
        );
      }
    }
    this.#blocked = [];
    this.#queue = [...again, ...this.#queue];
    if (again.length > 0) await sleep(10);
  }

  #applyPending(count: number): void {
    const { applier, committed, pending } = this.#parts;
    const end = pending.apply(applier, count);
    if (end !== undefined) committed(end);
  }

  /** With durability `"os"`: flushes what has been acknowledged, taking in new commits meanwhile. */
  async #flushLate(): Promise<void> {
    const { log, pending } = this.#parts;
    const started = monotonicNow();
    if (this.#failed !== undefined) await this.#distrust(this.#failed);
    while (!pending.isEmpty) {
      const count = pending.list.length;
      let outcome: { readonly error?: unknown } | undefined;
      const flush = log.flush().then(
        () => (outcome = {}),
        (error: unknown) => (outcome = { error }),
      );
      this.#late = flush;
      while (outcome === undefined) {
        const mayTakeMore = monotonicNow() - started < OS_HOLD_MS && this.#locked.size < MAX_STREAMS;
        if (this.#queue.length > 0 && mayTakeMore) await this.#writeBatch();
        else
          await Promise.race([
            flush,
            ...(mayTakeMore ? [new Promise<void>((resolve) => (this.#arrived = resolve))] : []),
          ]);
      }
      this.#arrived = this.#late = undefined;
      const { error } = outcome as { readonly error?: unknown };
      if (error !== undefined) throw this.#notFlushed(error);
      this.#applyPending(count);
    }
  }

  async #flush(): Promise<void> {
    try {
      await this.#parts.log.flush();
    } catch (error) {
      throw this.#notFlushed(error);
    }
  }

  #notFlushed(error: unknown): Error {
    this.#failed = this.#parts.log.end;
    return ioError(error, "flushing the commit log");
  }

  /** Leaves the log without what a failed write may have put there. */
  async settle(): Promise<void> {
    this.#parts.catchUp();
    if (this.#failed !== undefined) await this.#distrust(this.#failed);
  }

  /**
   * After a failed write or flush: nothing of the file is believed that has not been written again or read
   * back. What was acknowledged in mode "os" is still in memory and is written once more. The record that
   * failed is cut off, unless another process has built on it since: then it counts, although its commands were told otherwise.
   */
  async #distrust(failedEnd: LogPlace): Promise<void> {
    const { log, pending, recoverTail } = this.#parts;
    const records = pending.list.map(({ batch, start, place }) => ({
      buffer: batch.record.buffer,
      start,
      end: batch.record.end,
      place,
    }));
    await log.rewrite(records);
    if (log.end.segment === failedEnd.segment && log.end.offset < failedEnd.offset) {
      if (log.hasRecordAt(failedEnd)) await recoverTail();
      else await log.cutTail();
    }
    this.#failed = undefined;
  }

  #failAll(error: Error): void {
    const failed = [...this.#blocked, ...this.#queue];
    const adoptions = this.#adoptions;
    this.#queue = [];
    this.#blocked = [];
    this.#adoptions = [];
    for (const queued of failed) giveUp(queued, error);
    for (const { reject } of adoptions) reject(error);
  }
}

/** Fails a commit, and with it all that rest on it. */
function giveUp({ commit, reject }: QueuedCommit, error: Error): void {
  if (commit.chain !== undefined) commit.chain.broken = true;
  reject(error);
}

/** Resolves when all that can go on without waiting has done so. */
function endOfTurn(): Promise<void> {
  return new Promise(atEndOfTurn);
}
