import { isEventfoldError } from "../../errors.ts";
import { isError, isPromise } from "../../realm.ts";
import { isTurnLong, turn } from "../../event-loop.ts";
import type { FileHandle } from "../../fs/file-system.ts";
import { atEndOfTurn, monotonicNow } from "../../real-timers.ts";
import type { Applier } from "../apply/applier.ts";
import type { LogFollower } from "../apply/log-follower.ts";
import type { UnsettledStreams } from "../apply/unsettled-streams.ts";
import { ioError } from "../disk/io-error.ts";
import type { StreamKey } from "../disk/stream-key.ts";
import type { StoreGuard } from "../log/store-guard.ts";
import type { Checkpointer } from "../recovery/checkpointer.ts";
import type { UnappliedRecord } from "../streams/unapplied-records.ts";
import { Batch } from "./batch.ts";
import { BatchPlan, type BatchPlanParts } from "./batch-plan.ts";
import { type Adoption, CommitQueue } from "./commit-queue.ts";
import { LogAppender, type LogAppenderParts } from "./log-appender.ts";
import { answerConflict, fail, type QueuedCommit } from "./queued-commit.ts";

/** Limit of one batch: its bytes are kept in memory. */
const MAX_BYTES = 4 << 20;
/** How often conflicting commits may be decided again before another process gets the lock. */
const MAX_ROUNDS = 8;
/** With durability `"os"`: how long new batches may keep the lock before they are flushed. */
const OS_HOLD_MS = 20;

export interface CommitterParts extends BatchPlanParts, LogAppenderParts {
  readonly applier: Applier;
  readonly unsettled: UnsettledStreams;
  /** Streams that are locked against the Rust crate until what was written to them in this session is in their files. */
  readonly lockedStreams: Map<StreamKey, FileHandle>;
  readonly follower: LogFollower;
  readonly guard: StoreGuard;
  readonly checkpointer: Checkpointer;
}

/**
 * Writes everything that waits as one record with one flush, under the store's lock:
 *
 * 1. read what other processes have committed; complete what a dead process left;
 * 2. check versions: a conflict is answered at once, and its commands may come back in the next round, under the same lock;
 * 3. append the record to the log, durably; 4. write the streams' files; 5. answer.
 */
export class Committer {
  readonly #parts: CommitterParts;
  readonly #queue: CommitQueue;
  readonly #appender: LogAppender;
  #running: Promise<void> | undefined;
  /** For the next batch, unless the last one still needs it. */
  #buffer: Buffer | undefined;
  readonly #locked: Map<StreamKey, FileHandle>;
  /** Of commits that count. They are given when the lock is free. */
  #answers: (() => void)[] = [];

  constructor(parts: CommitterParts) {
    this.#parts = parts;
    this.#locked = parts.lockedStreams;
    this.#queue = new CommitQueue((key) => parts.files.lockedBy(key));
    this.#appender = new LogAppender(parts, this.#queue);
  }

  add(commit: QueuedCommit): void {
    this.#queue.add(commit);
    this.#start();
  }

  /** Commits the foreign lines of a stream. With `isDoubtful`, first looks whether its file lacks committed lines. */
  adopt(key: StreamKey, isDoubtful = false): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#queue.addAdoption({ key, isDoubtful, resolve, reject });
      this.#start();
    });
  }

  /** Resolves when nothing waits any more. */
  async finish(): Promise<void> {
    while (this.#running !== undefined || this.#hasWork) {
      this.#start();
      await this.#running;
      if (!this.#parts.unapplied.isEmpty && this.#queue.length === 0 && this.#running === undefined) break;
    }
  }

  /** Leaves the log without what a failed write may have put there. Needs the store's lock. */
  async restoreLog(): Promise<void> {
    this.#parts.follower.catchUp();
    await this.#appender.restore();
  }

  /** Answers the commits of the last batch. */
  #answer(): void {
    const answers = this.#answers;
    this.#answers = [];
    for (const answer of answers) answer();
  }

  get #hasWork(): boolean {
    return !this.#queue.isEmpty || !this.#parts.unapplied.isEmpty;
  }

  #start(): void {
    // Callers resolved together usually submit again in the same tick: those commits become one batch.
    this.#running ??= endOfTurn()
      .then(() => this.#run())
      .finally(() => {
        this.#running = undefined;
        if (!this.#queue.isEmpty) this.#start();
      });
  }

  async #run(): Promise<void> {
    const { lock, unapplied } = this.#parts;
    while (this.#hasWork) {
      try {
        await lock.hold(() => this.#session());
      } catch (error) {
        // What an earlier batch of this session has committed counts all the same.
        this.#answer();
        this.#queue.failAll(ioError(error, "committing"));
        if (!unapplied.isEmpty) return;
      }
      // Answering takes as long as writing; other processes need not wait for it.
      this.#answer();
      await this.#queue.retryLocked();
      // Callers that were answered together usually submit again in the same tick.
      await endOfTurn();
    }
  }

  async #session(): Promise<void> {
    const { guard, follower, log, recovery, unapplied, durability } = this.#parts;
    try {
      // The head can only be ahead if there is more in the log.
      const mayHaveMore = !this.#appender.isLogTrusted || log.hasMore();
      if (mayHaveMore) follower.catchUp();
      await this.#appender.restore();
      // The last session may have ended with a stream's file that could not be written, and records that were not flushed yet.
      if (durability === "os" && !unapplied.isEmpty) await this.#appender.flush();
      await this.#applyLate();
      if (mayHaveMore && log.hasMore()) await recovery.recover();
      for (let round = 0; round < MAX_ROUNDS; round++) {
        const conflicts = await this.#writeBatch();
        if (conflicts === 0) break;
        this.#answer();
        // Commands that conflicted decide again on the new state now, while the lock is still held.
        await turn();
        if (this.#queue.length === 0) await turn();
        if (this.#queue.length === 0) break;
        guard.check();
      }
      if (durability === "os") await this.#flushAcknowledged();
    } finally {
      this.#unlockStreams();
    }
  }

  /** Writes everything that waits as one record. Returns how many commits met another version; 0 ends the session's rounds. */
  async #writeBatch(): Promise<number> {
    const { log, unapplied, follower, durability } = this.#parts;
    const batch = new Batch((this.#buffer ??= Buffer.allocUnsafe(64 << 10)), log.end.position + 1);
    const plan = new BatchPlan(this.#parts, batch, this.#locked);
    const adoptions = await this.#adoptAll(plan);
    const conflicts = await this.#addAll(plan);
    if (!batch.record.isEmpty) {
      const record = await this.#appender.append(batch);
      if (isError(record)) {
        for (const { queued } of batch.commits) fail(queued, record);
        for (const { reject } of adoptions) reject(record);
        return 0;
      }
      // From here on the commits count. Nothing waits in between: readers see all of them or none.
      this.#buffer = undefined;
      unapplied.add(record);
      follower.committed(record);
      if (durability === "flush") {
        try {
          this.#apply(unapplied.list.length);
          this.#buffer = record.buffer;
        } catch {
          // The streams' files get it later, from memory or by recovery; readers see it meanwhile.
        }
      }
    }
    this.#answers.push(() => {
      for (const { resolve } of adoptions) resolve();
      for (const { queued, position } of batch.commits) queued.resolve({ ok: true, position });
    });
    // With "os" the lock is kept until the flush is over, for which a command need not wait.
    if (durability === "os") this.#answer();
    return conflicts;
  }

  async #adoptAll(plan: BatchPlan): Promise<readonly Adoption[]> {
    const { unsettled, checkpointer } = this.#parts;
    const adopted: Adoption[] = [];
    for (const adoption of this.#queue.removeAdoptions()) {
      try {
        if (adoption.isDoubtful) checkpointer.findUnsettled();
        if (!(await unsettled.settle(adoption.key))) unsettled.check(adoption.key);
        await plan.adopt(adoption.key);
        adopted.push(adoption);
      } catch (error) {
        adoption.reject(ioError(error, `adopting the foreign lines of ${adoption.key}`));
      }
    }
    return adopted;
  }

  /** Adds as many of the waiting commits as fit. Returns how many met another version. */
  async #addAll(plan: BatchPlan): Promise<number> {
    const { unsettled } = this.#parts;
    const { record } = plan.batch;
    const waiting = this.#queue.removeAll();
    let conflicts = 0;
    for (const [i, queued] of waiting.entries()) {
      if (isTurnLong()) await turn();
      if (
        i > 0 &&
        (record.bytes > MAX_BYTES || this.#locked.size + queued.appends.length > this.#parts.files.mostLocked)
      ) {
        this.#queue.putBack(waiting.slice(i));
        break;
      }
      try {
        const isLocked = this.#queue.isLocked(queued) || !(unsettled.isEmpty || (await this.#settle(queued)));
        const added = isLocked ? "locked" : plan.add(queued);
        const conflict = isPromise(added) ? await added : added;
        if (conflict === "locked") this.#queue.putLocked(queued);
        else if (conflict !== undefined) {
          conflicts++;
          answerConflict(queued, conflict);
        }
      } catch (error) {
        if (isEventfoldError(error, "CORRUPT_STREAM") && this.#isUnsettled(queued)) this.#queue.putLocked(queued);
        else fail(queued, ioError(error, `preparing ${queued.appends.map(({ key }) => key).join(", ")}`));
      }
    }
    return conflicts;
  }

  /** Whether the files of a commit's streams have all lines that were committed before. */
  async #settle({ appends }: QueuedCommit): Promise<boolean> {
    for (const { key } of appends) if (!(await this.#parts.unsettled.settle(key))) return false;
    return true;
  }

  /** Whether another process could not give a stream of a commit its lines. */
  #isUnsettled({ appends }: QueuedCommit): boolean {
    this.#parts.checkpointer.findUnsettled();
    return appends.some(({ key }) => this.#parts.unsettled.has(key));
  }

  #unlockStreams(): void {
    const { files } = this.#parts;
    for (const [key, file] of this.#locked) {
      try {
        file.unlock();
      } catch {
        files.forget(key);
      }
    }
    this.#locked.clear();
    files.trim();
  }

  /** Writes the first `count` durable records to the streams' files, then tells other processes. What fails stays. */
  #apply(count: number): void {
    const { applier, unapplied } = this.#parts;
    const records = unapplied.list.slice(0, count);
    for (const record of records) {
      applier.apply(record);
      this.#applied(record);
    }
    this.#announce(records.at(-1));
  }

  /** Writes the records that an earlier session could not write. The Rust crate may have appended to their streams since. */
  async #applyLate(): Promise<void> {
    const { applier, unapplied, unsettled, checkpointer } = this.#parts;
    const records = [...unapplied.list];
    for (const record of records) {
      try {
        applier.applyLate(record);
        await unsettled.settleAll(0);
      } catch (error) {
        // Readers see it in memory.
        unsettled.remove(record.sections);
        throw error;
      }
      this.#applied(record);
    }
    if (!unsettled.isEmpty) await checkpointer.announceUnsettled();
    this.#announce(records.at(-1));
  }

  #applied(record: UnappliedRecord): void {
    this.#parts.unapplied.removeFirst();
    this.#parts.follower.applied(record);
  }

  #announce(last: UnappliedRecord | undefined): void {
    if (last === undefined) return;
    this.#parts.follower.announce(last.end);
    this.#parts.checkpointer.schedule();
  }

  /** With durability `"os"`: flushes what has been acknowledged, and takes new commits meanwhile. */
  async #flushAcknowledged(): Promise<void> {
    const { unapplied } = this.#parts;
    const started = monotonicNow();
    await this.#appender.restore();
    while (!unapplied.isEmpty) {
      const count = unapplied.list.length;
      const flush = this.#appender.startFlush();
      try {
        await this.#writeDuring(flush, started + OS_HOLD_MS);
      } finally {
        const { error } = await flush;
        this.#appender.endFlush(error);
      }
      this.#apply(count);
    }
  }

  /** Writes what arrives until the flush has ended, or until enough time has passed. */
  async #writeDuring(flush: Promise<unknown>, deadline: number): Promise<void> {
    const progress = { isFlushed: false };
    const flushed = flush.then(() => void (progress.isFlushed = true));
    while (!progress.isFlushed) {
      const mayTakeMore = monotonicNow() < deadline && this.#locked.size < this.#parts.files.mostLocked;
      if (this.#queue.length > 0 && mayTakeMore) {
        this.#parts.guard.check();
        await this.#writeBatch();
      } else await Promise.race(mayTakeMore ? [flushed, this.#queue.arrival()] : [flushed]);
    }
    this.#queue.stopWaiting();
  }
}

/** Resolves when all that can go on without waiting has done so. */
function endOfTurn(): Promise<void> {
  return new Promise(atEndOfTurn);
}
