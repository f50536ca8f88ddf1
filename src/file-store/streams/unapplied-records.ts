import type { FileHandle } from "../../fs/file-system.ts";
import type { Applier } from "../apply/applier.ts";
import type { Batch } from "../commit/batch.ts";
import type { LogPlace } from "../log/log-place.ts";
import type { ReadableFile } from "../lines/line-reader.ts";
import type { StreamKey } from "../disk/stream-key.ts";

/** A batch that is in the commit log while its streams' files do not have it yet. */
export interface PendingBatch {
  readonly batch: Batch;
  /** Where its record starts in the batch's buffer, and in the log. */
  readonly start: number;
  readonly place: LogPlace;
  /** Behind its record. */
  readonly end: LogPlace;
}

/**
 * Batches between "in the log" and "in the streams' files": for a moment in the default mode, until the next flush with
 * durability `"os"`, and as long as the disk is full when a stream's file could not grow. Readers see
 * their events all the same.
 */
export class PendingBatches {
  #batches: PendingBatch[] = [];

  get list(): readonly PendingBatch[] {
    return this.#batches;
  }

  get isEmpty(): boolean {
    return this.#batches.length === 0;
  }

  add(pending: PendingBatch): void {
    this.#batches.push(pending);
  }

  has(key: StreamKey): boolean {
    return this.#batches.some(({ batch }) => batch.record.sections.some((slice) => slice.key === key));
  }

  /** Writes the first `count` batches to the streams' files; what fails stays. Returns the place behind the last one written. */
  apply(applier: Applier, count: number): LogPlace | undefined {
    let end: LogPlace | undefined;
    for (let i = 0; i < count; i++) {
      const pending = this.#batches[0];
      if (pending === undefined) break;
      const { record, created } = pending.batch;
      applier.apply(record.sections, record.buffer, created, record.notes);
      this.#batches.shift();
      end = pending.end;
    }
    return end;
  }

  /** Lets a reader of a stream's file see the bytes that are still to be written to it. */
  overlay(key: StreamKey, file: FileHandle | undefined): ReadableFile | undefined {
    const slices = this.#batches.flatMap(({ batch }) =>
      batch.record.sections
        .filter((slice) => slice.key === key)
        .map((slice) => ({ slice, buffer: batch.record.buffer })),
    );
    if (slices.length === 0) return file;
    const end = Math.max(...slices.map(({ slice }) => slice.at + slice.end - slice.start));
    return {
      size: () => Math.max(end, file?.size() ?? 0),
      read(target, offset, length, position) {
        let count = file?.read(target, offset, length, position) ?? 0;
        for (const { slice, buffer } of slices) {
          const from = Math.max(position, slice.at);
          const to = Math.min(position + length, slice.at + slice.end - slice.start);
          if (from >= to) continue;
          buffer.copy(target, offset + from - position, slice.start + from - slice.at, slice.start + to - slice.at);
          count = Math.max(count, to - position);
        }
        return count;
      },
    };
  }
}
