import type { CommitObserver, CommittedRecord } from "./committed-record.ts";
import type { LogPlace } from "./log-place.ts";
import { type RecordHeader, readRecord } from "./record-format.ts";

/** Bytes that are kept at most. */
const MAX_BYTES = 1 << 20;
/** Small records are copied into one buffer of this size after another: a buffer for each would cost more than the copy. */
const SLAB_BYTES = 32 << 10;

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
  /** Oldest first; by their place. */
  readonly #records = new Map<string, Pick<CachedRecord, "bytes" | "base" | "end">>();
  #bytes = 0;
  #slab = Buffer.alloc(0);

  onCommitted({ buffer, start, stop, place, end }: CommittedRecord): void {
    if (stop - start > MAX_BYTES) return;
    // The buffer is used again for other bytes.
    const bytes = this.#copy(buffer, start, stop);
    this.#records.set(nameOf(place), { bytes, base: place.offset, end });
    this.#bytes += bytes.length;
    for (const [name, oldest] of this.#records) {
      if (this.#bytes <= MAX_BYTES) return;
      this.#records.delete(name);
      this.#bytes -= oldest.bytes.length;
    }
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
    const record = this.#records.get(nameOf(place));
    if (record === undefined) return undefined;
    const read = readRecord(record.bytes, 0, record.bytes.length, record.base);
    return read.kind === "record" ? { ...record, header: read.header } : undefined;
  }
}

function nameOf({ segment, offset }: LogPlace): string {
  return `${segment}:${offset}`;
}
