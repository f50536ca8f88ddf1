import type { CommitObserver, CommittedRecord } from "./committed-record.ts";
import { isBefore, type LogPlace } from "./log-place.ts";
import { type RecordHeader, readRecord } from "./record-format.ts";

/** Bytes that are kept at most. */
const MAX_BYTES = 1 << 20;
/** Small records are copied into one buffer of this size after another: a buffer for each would cost more than the copy. */
const SLAB_BYTES = 32 << 10;

/** Entries of the oldest records that stay in the list after their removal, before it is copied. */
const MOST_REMOVED = 512;

interface KeptRecord {
  readonly bytes: Buffer;
  readonly place: LogPlace;
  readonly end: LogPlace;
}

/** A committed record, as it is in the log. */
export interface CachedRecord {
  readonly header: RecordHeader;
  readonly bytes: Buffer;
  /** The segment's offset of the first byte. */
  readonly base: number;
  /** The place after it. */
  readonly end: LogPlace;
}

/** The last records, from memory, for those that follow the log, as projections do. */
export class RecordCache implements CommitObserver {
  /** In the order of the log, from `#first` on. No map, because the oldest of its entries would have to be looked for. */
  #records: KeptRecord[] = [];
  #first = 0;
  #bytes = 0;
  #slab = Buffer.alloc(0);

  onCommitted({ buffer, start, stop, place, end }: CommittedRecord): void {
    if (stop - start > MAX_BYTES) return;
    // The buffer is used again for other bytes.
    const bytes = this.#copy(buffer, start, stop);
    this.#records.push({ bytes, place, end });
    this.#bytes += bytes.length;
    while (this.#bytes > MAX_BYTES) this.#bytes -= this.#records[this.#first++]?.bytes.length ?? 0;
    if (2 * this.#first <= this.#records.length || this.#first < MOST_REMOVED) return;
    this.#records = this.#records.slice(this.#first);
    this.#first = 0;
  }

  #copy(buffer: Buffer, start: number, stop: number): Buffer {
    const length = stop - start;
    if (length > SLAB_BYTES / 8) return Buffer.from(buffer.subarray(start, stop));
    if (length > this.#slab.length) this.#slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
    buffer.copy(this.#slab, 0, start, stop);
    const bytes = this.#slab.subarray(0, length);
    this.#slab = this.#slab.subarray(length);
    return bytes;
  }

  /** The record that begins at a place, if we have it. */
  at(place: LogPlace): CachedRecord | undefined {
    let [low, high] = [this.#first, this.#records.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      const found = this.#records[middle];
      if (found !== undefined && isBefore(found.place, place)) low = middle + 1;
      else high = middle;
    }
    const record = this.#records[low];
    if (record === undefined || isBefore(place, record.place)) return undefined;
    const { bytes, end } = record;
    const base = record.place.offset;
    const read = readRecord(bytes, 0, bytes.length, base);
    return read.kind === "record" ? { bytes, base, end, header: read.header } : undefined;
  }
}
