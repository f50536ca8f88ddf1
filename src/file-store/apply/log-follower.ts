import { readError } from "../disk/io-error.ts";
import type { CommitLog } from "../log/commit-log.ts";
import { type CommitObserver, type CommittedRecord, scannedRecord } from "../log/committed-record.ts";
import type { Head } from "../log/head.ts";
import { isBefore, type LogPlace } from "../log/log-place.ts";
import type { StoreGuard } from "../log/store-guard.ts";
import type { ScanResult } from "../log/log-scanner.ts";

export interface LogFollowerParts {
  readonly log: CommitLog;
  readonly head: Head;
  readonly guard: StoreGuard;
  /** Of the commit log; for messages. */
  readonly directory: string;
  /** In the order in which they learn of a record. */
  readonly observers: readonly CommitObserver[];
}

/**
 * The only one to move the end of the log that readers see, and to write `meta/head`. Every record passes through here once, in
 * order, whether this process wrote it, another one announced it, or recovery found it, and every observer learns of it.
 */
export class LogFollower {
  readonly #log: CommitLog;
  readonly #head: Head;
  readonly #guard: StoreGuard;
  readonly #directory: string;
  readonly #observers: readonly CommitObserver[];
  /** What `meta/head` said when it was last read or written here. */
  #announced: LogPlace | undefined;
  #isReading = false;

  constructor({ log, head, guard, directory, observers }: LogFollowerParts) {
    this.#log = log;
    this.#head = head;
    this.#guard = guard;
    this.#directory = directory;
    this.#observers = observers;
  }

  /** Up to where the log was announced to be durable and applied, by whatever process. */
  announced(): LogPlace | undefined {
    return (this.#announced = this.#head.read());
  }

  /** Reads what other processes have announced. Needs no lock. */
  catchUp(): void {
    // An observer may ask for more while it learns of a record: what follows reaches it next.
    if (this.#isReading) return;
    const known = this.#announced;
    try {
      const head = this.announced();
      // An announced place stays announced.
      if (known !== undefined && (head === undefined || isBefore(head, known))) this.#guard.checkAll();
      if (head === undefined || !isBefore(this.#log.end, head)) return;
      this.#guard.checkRecord();
      this.#readUpTo(head);
    } catch (error) {
      throw readError(this.#guard.explain(error), this.#directory);
    }
  }

  #readUpTo(head: LogPlace): void {
    const { end, invalid } = this.#read(head, () => {});
    if (invalid !== undefined) throw this.#log.scanner.corruption(end, invalid);
    // The head was announced, so the records up to it were there.
    if (isBefore(end, head))
      throw this.#log.scanner.corruption(end, `the commit log ends here; position ${head.position} was committed`);
  }

  /**
   * Reads on to the end of the log, past what was announced, and calls `apply` with each record to have it written to the
   * streams' files. Stops at the first thing that is not a record. Needs the store's lock.
   */
  readTail(apply: (record: CommittedRecord) => void): ScanResult {
    return this.#read(undefined, apply);
  }

  #read(limit: LogPlace | undefined, apply: (record: CommittedRecord) => void): ScanResult {
    this.#isReading = true;
    try {
      const result = this.#log.scanner.scan(this.#log.end, limit, (header, buffer, base, segment) => {
        const record = scannedRecord(header, buffer, base, segment);
        this.committed(record);
        apply(record);
        this.applied(record);
      });
      // Past the first line of a new segment, too.
      this.#log.moveTo(result.end);
      return result;
    } finally {
      this.#isReading = false;
    }
  }

  /** Lets readers see a record that is in the log. */
  committed(record: CommittedRecord): void {
    this.#log.moveTo(record.end);
    this.#log.remember(record.buffer, record.start, record.stop);
    for (const observer of this.#observers) observer.onCommitted?.(record);
  }

  /** The record is in the streams' files. */
  applied(record: CommittedRecord): void {
    for (const observer of this.#observers) observer.onApplied?.(record);
  }

  /** Tells other processes that the log is durable and applied up to a place, unless they know. Needs the store's lock. */
  announce(end: LogPlace): void {
    // Another process may have applied records of this one from the log, and more.
    if (this.#announced !== undefined && !isBefore(this.#announced, end)) return;
    this.#head.write(end);
    this.#announced = end;
  }

  /** Announces the log's end after recovery, which may be before what was announced: a head beyond a repaired log. */
  announceEnd(): void {
    this.#head.write(this.#log.end);
    this.#announced = this.#log.end;
  }
}
