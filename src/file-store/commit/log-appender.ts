import { isPromise } from "../../realm.ts";
import { monotonicNow } from "../../real-timers.ts";
import { batchWritten, logFlushed } from "../../tracing/tracing.ts";
import { ioError } from "../disk/io-error.ts";
import type { StoreLock } from "../disk/store-lock.ts";
import type { CommitLog } from "../log/commit-log.ts";
import { type LogPlace, isBefore } from "../log/log-place.ts";
import type { Recovery } from "../recovery/recover-log.ts";
import type { UnappliedRecord, UnappliedRecords } from "../streams/unapplied-records.ts";
import type { Batch } from "./batch.ts";
import type { CommitQueue } from "./commit-queue.ts";
import { FlushPace } from "./flush-pace.ts";

/** More than this is not written on the spot. */
const SMALL_BYTES = 64 << 10;

export interface LogAppenderParts {
  readonly log: CommitLog;
  readonly lock: StoreLock;
  readonly recovery: Recovery;
  readonly unapplied: UnappliedRecords;
  readonly durability: "flush" | "os";
}

/** How a flush ended. */
export interface FlushOutcome {
  readonly error?: unknown;
}

/** Appends records to the log, and sees to it that nothing of a failed write or flush stays. Needs the store's lock. */
export class LogAppender {
  readonly #parts: LogAppenderParts;
  readonly #queue: CommitQueue;
  readonly #pace = new FlushPace();
  /** With durability `"os"`: the flush that is under way. */
  #flushing: Promise<FlushOutcome> | undefined;
  /** Bytes up to here are untrusted after a failed write or flush. */
  #untrusted: LogPlace | undefined;
  /** The batch before had one command, and none came while it was written. */
  #wasLone = false;

  constructor(parts: LogAppenderParts, queue: CommitQueue) {
    this.#parts = parts;
    this.#queue = queue;
  }

  /** False while the log may end with what a failed write has left. */
  get isLogTrusted(): boolean {
    return this.#untrusted === undefined;
  }

  /** Appends a batch as one record. On failure returns the error and removes what was written, while the lock is still held. */
  async append(batch: Batch): Promise<UnappliedRecord | Error> {
    const { log, unapplied, durability } = this.#parts;
    try {
      return await this.#append(batch);
    } catch (error) {
      // Preparing room flushes, and a failed flush may have dropped what was acknowledged and not flushed yet.
      if (durability === "os" && !unapplied.isEmpty) this.#untrusted ??= log.end;
      try {
        await this.#flushing;
        await this.restore();
      } catch {
        // Tried again before the next write.
      }
      return ioError(error, "writing to the commit log");
    }
  }

  async #append(batch: Batch): Promise<UnappliedRecord> {
    const { log, unapplied } = this.#parts;
    const { record, created } = batch;
    record.finish();
    const room = this.#prepare(record.bytes);
    const place = isPromise(room) ? await room : room;
    // With durability "os", the records of this segment that were acknowledged and not flushed are not durable yet.
    const unflushed = unapplied.list.find((other) => other.place.segment === place.segment)?.place;
    const start = record.seal(unflushed?.offset ?? place.offset);
    const stop = record.end;
    this.#untrusted = { ...place, offset: place.offset + stop - start };
    const isLone = batch.commits.length === 1 && this.#queue.length === 0;
    const how = this.#howToWrite(isLone, stop - start);
    const started = monotonicNow();
    const appended = log.append(record.buffer, start, stop, record.events, how);
    const end = isPromise(appended) ? await appended : appended;
    this.#wasLone = isLone && this.#queue.length === 0;
    if (how === "durably on the spot" || this.#wasLone) this.#pace.add(monotonicNow() - started);
    else this.#pace.forget();
    batchWritten.publish(() => ({
      commits: batch.commits.length,
      events: record.events,
      bytes: stop - start,
      waiting: this.#queue.length,
      duration: monotonicNow() - started,
      isFlushed: how !== "not durably",
    }));
    this.#untrusted = undefined;
    const { sections, notes, buffer } = record;
    return { isOwn: true, sections, notes, created, buffer, start, stop, place, end };
  }

  /** Makes room for the record. */
  #prepare(bytes: number): LogPlace | Promise<LogPlace> {
    const { log } = this.#parts;
    if (this.#flushing === undefined || log.hasRoom(bytes)) return log.prepare(bytes);
    // A failed flush is reported once; a later one can succeed although bytes are gone. A new segment must not follow them, or a
    // power cut could not be told from damage.
    return this.#flushing.then(({ error }) => {
      if (error !== undefined) throw ioError(error, "flushing the commit log");
      return log.prepare(bytes);
    });
  }

  /**
   * A small record is written on the spot if nothing else could be done meanwhile, or if another process waits for the lock: it
   * must not wait for what this process does while the thread pool writes.
   */
  #howToWrite(isLone: boolean, bytes: number): "durably" | "durably on the spot" | "not durably" {
    if (this.#parts.durability === "os") return "not durably";
    const isUrgent = (isLone && this.#wasLone) || this.#parts.lock.contended;
    return isUrgent && bytes <= SMALL_BYTES && this.#pace.isQuick ? "durably on the spot" : "durably";
  }

  /** Flushes the log; throws when that fails. */
  async flush(): Promise<void> {
    const { error } = await this.startFlush();
    this.endFlush(error);
  }

  /** Starts a flush, during which records can be appended. Call `endFlush` with its outcome. */
  startFlush(): Promise<FlushOutcome> {
    const started = monotonicNow();
    this.#flushing = this.#parts.log.flush().then(
      () => {
        logFlushed.publish(() => ({ duration: monotonicNow() - started }));
        return {};
      },
      (error: unknown) => ({ error }),
    );
    return this.#flushing;
  }

  /** Throws if the flush failed. */
  endFlush(error: unknown): void {
    this.#flushing = undefined;
    if (error === undefined) return;
    this.#untrusted = this.#parts.log.end;
    throw ioError(error, "flushing the commit log");
  }

  /**
   * After a failed write or flush, the store trusts only bytes that it has rewritten or read back. Records that were
   * acknowledged with durability `"os"` are still in memory and are written once more. The record that failed is cut off,
   * unless another process has built on it since: then it counts, although its commands have failed.
   */
  async restore(): Promise<void> {
    const untrusted = this.#untrusted;
    if (untrusted === undefined) return;
    const { log, unapplied, recovery } = this.#parts;
    await log.rewrite(unapplied.list.map(({ buffer, start, stop, place }) => ({ buffer, start, end: stop, place })));
    if (log.end.segment === untrusted.segment && isBefore(log.end, untrusted)) {
      if (log.hasRecordAt(untrusted)) await recovery.recover();
      else await log.cutTail();
    }
    this.#untrusted = undefined;
  }
}
