import type { LogPlace } from "./log-place.ts";
import { type RecordHeader, readRecord } from "./record-format.ts";

/** Bytes that are kept at most. */
const MAX_BYTES = 1 << 20;

/** A record that we have committed, as it stands in the log. */
export interface CachedRecord {
  readonly header: RecordHeader;
  readonly bytes: Buffer;
  /** The segment's offset of the first byte. */
  readonly base: number;
  /** The place behind it. */
  readonly end: LogPlace;
}

/** Our own last commits: whoever follows the log, as projections do, gets them from memory. */
export class RecordCache {
  /** Oldest first; by their place. */
  readonly #records = new Map<string, Pick<CachedRecord, "bytes" | "base" | "end">>();
  #bytes = 0;

  add(record: Buffer, place: LogPlace, end: LogPlace): void {
    if (record.length > MAX_BYTES) return;
    // The buffer is used again for the next batch.
    const bytes = Buffer.from(record);
    this.#records.set(nameOf(place), { bytes, base: place.offset, end });
    this.#bytes += bytes.length;
    for (const [name, oldest] of this.#records) {
      if (this.#bytes <= MAX_BYTES) return;
      this.#records.delete(name);
      this.#bytes -= oldest.bytes.length;
    }
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
