import { readError } from "../disk/io-error.ts";
import { type StreamKey, streamOfKey } from "../disk/stream-key.ts";
import type { CommitLog } from "../log/commit-log.ts";
import { type CommitObserver, type CommittedRecord, scannedRecord } from "../log/committed-record.ts";
import { wasDurable } from "../log/durable-tail.ts";
import type { Head } from "../log/head.ts";
import { endsBefore, isBefore, type LogPlace } from "../log/log-place.ts";
import type { StoreGuard } from "../log/store-guard.ts";
import { turn } from "../../event-loop.ts";
import { sleep } from "../../real-timers.ts";
import type { UnappliedRecord, UnappliedRecords } from "../streams/unapplied-records.ts";

export interface ReadOnlyFollowerParts {
  readonly log: CommitLog;
  readonly head: Head;
  readonly guard: StoreGuard;
  readonly unapplied: UnappliedRecords;
  /** Whether no process has the store's lock just now. */
  readonly isUnlocked: () => boolean;
  /** Of the commit log; for messages. */
  readonly directory: string;
  /** In the order in which they learn of a record. */
  readonly observers: readonly CommitObserver[];
}

/** How often opening looks whether a busy writer has let go of the lock, which it holds for a batch only. */
const LOOKS = 50;
/** A log that seems damaged may only have grown while it was read. */
const READINGS = 5;

/**
 * Follows the log for a store that writes nothing. It takes two kinds of records for committed: those that `meta/head` announces, and,
 * if no process has the store's lock, all other whole records: a killed process has left them, and recovery would accept them.
 *
 * Recovery would write the records after the marker to the streams' files again, because after a power cut they may lack them. Here they
 * are kept in memory instead, until a living process announces something: it has recovered the store before.
 */
export class ReadOnlyFollower {
  readonly #parts: ReadOnlyFollowerParts;
  /** What `meta/head` said when the store was opened, and when it was last read. */
  #opened: LogPlace | undefined;
  #announced: LogPlace | undefined;
  #isReading = false;

  constructor(parts: ReadOnlyFollowerParts) {
    this.#parts = parts;
  }

  /** Reads the log from the marker on. Throws `CORRUPT_LOG` where recovery would. */
  async open(): Promise<void> {
    const { log, head, isUnlocked } = this.#parts;
    this.#opened = this.#announced = head.read();
    for (let look = 0; look < LOOKS; look++) {
      const { end } = this.#scan();
      if (!isBefore(log.end, end) || this.#reaches(end) || isUnlocked()) break;
      await (look < LOOKS / 2 ? turn() : sleep(1));
    }
    await this.#checkEnd();
    this.catchUp();
  }

  catchUp(): void {
    // An observer may ask for more while it learns of a record: what follows reaches it next.
    if (this.#isReading) return;
    const { log, head, guard, isUnlocked } = this.#parts;
    const known = this.#announced;
    try {
      const announced = (this.#announced = head.read());
      // An announced place stays announced.
      if (known !== undefined && (announced === undefined || isBefore(announced, known))) guard.checkAll();
      if (announced !== undefined && this.#isAlive(announced)) this.#dropApplied(announced);
      if (announced !== undefined && isBefore(log.end, announced)) {
        guard.checkRecord();
        this.#readUpTo(announced);
      }
      if (!log.hasMore()) return;
      // In this order: a record that was whole before the lock was free is not being written.
      const { end } = this.#scan();
      if (isBefore(log.end, end) && isUnlocked()) this.#read(end);
    } catch (error) {
      throw readError(guard.explain(error), this.#parts.directory);
    }
  }

  /** Whether a process that had applied all of its log has announced this place since the store was opened. */
  #isAlive(announced: LogPlace): boolean {
    return this.#opened === undefined || isBefore(this.#opened, announced);
  }

  /** Whether `meta/head` announces the log up to a place. */
  #reaches(end: LogPlace): boolean {
    const announced = this.#parts.head.read();
    return announced !== undefined && !isBefore(announced, end);
  }

  /** Where the whole records after the log's known end come to an end. */
  #scan(): { readonly end: LogPlace; readonly invalid: string | undefined } {
    return this.#parts.log.scanner.scan(this.#parts.log.end, undefined, () => {});
  }

  /** Throws `CORRUPT_LOG` if records are missing that were once committed. A living process may append at any time. */
  async #checkEnd(): Promise<void> {
    const { log, head } = this.#parts;
    const known = log.end;
    for (let reading = 1; ; reading++) {
      const announced = head.read();
      const { end, invalid } = this.#scan();
      log.moveTo(end);
      const isDamaged = wasDurable(log, end) || (announced !== undefined && endsBefore(end, announced));
      log.moveTo(known);
      if (!isDamaged) return;
      if (reading === READINGS) throw log.scanner.corruption(end, invalid ?? "records are missing");
      await sleep(1);
    }
  }

  #readUpTo(head: LogPlace): void {
    const { end, invalid } = this.#read(head);
    const { scanner } = this.#parts.log;
    if (invalid !== undefined) throw scanner.corruption(end, invalid);
    if (isBefore(end, head))
      throw scanner.corruption(end, `the commit log ends here; position ${head.position} was committed`);
  }

  #read(limit: LogPlace): { readonly end: LogPlace; readonly invalid: string | undefined } {
    const { log } = this.#parts;
    this.#isReading = true;
    try {
      const result = log.scanner.scan(log.end, limit, (header, buffer, base, segment) => {
        const { start, stop, end } = scannedRecord(header, buffer, base, segment);
        if (this.#announced !== undefined && this.#isAlive(this.#announced) && !isBefore(this.#announced, end)) {
          const record = scannedRecord(header, buffer, base, segment);
          this.#committed(record);
          this.#applied(record);
        } else {
          const bytes = Buffer.from(buffer.subarray(start, stop));
          this.#keep(scannedRecord(header, bytes, header.start, segment));
        }
      });
      // Past the first line of a new segment, too, but only if it is whole: recovery makes a torn one again.
      if (result.end.offset > 0) log.moveTo(result.end);
      return result;
    } finally {
      this.#isReading = false;
    }
  }

  #keep(scanned: CommittedRecord): void {
    const created = new Map<StreamKey, { readonly stream: ReturnType<typeof streamOfKey>; readonly seconds: number }>();
    for (const { key, version } of scanned.sections)
      if (version === 1) created.set(key, { stream: streamOfKey(key), seconds: 0 });
    const record: UnappliedRecord = { ...scanned, isKept: true, created: [...created.values()] };
    this.#parts.unapplied.add(record);
    this.#committed(record);
  }

  #dropApplied(announced: LogPlace): void {
    const { unapplied } = this.#parts;
    for (
      let [first] = unapplied.list;
      first !== undefined && !isBefore(announced, first.end);
      [first] = unapplied.list
    ) {
      unapplied.removeFirst();
      this.#applied(first);
    }
  }

  #committed(record: CommittedRecord): void {
    const { log, observers } = this.#parts;
    log.moveTo(record.end);
    log.remember(record.buffer, record.start, record.stop);
    for (const observer of observers) observer.onCommitted?.(record);
  }

  #applied(record: CommittedRecord): void {
    for (const observer of this.#parts.observers) observer.onApplied?.(record);
  }
}
