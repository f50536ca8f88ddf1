import type { FileHandle } from "../../fs/file-system.ts";
import type { StreamKey } from "../disk/stream-key.ts";
import type { ReadableFile } from "../lines/line-reader.ts";
import type { CommittedRecord } from "../log/committed-record.ts";
import type { LogPlace } from "../log/log-place.ts";
import type { NewStream } from "./stream-registry.ts";

/** A record of this process that is in the commit log while its streams' files do not have it yet. */
export interface UnappliedRecord extends CommittedRecord {
  /** Streams whose first events it has. */
  readonly created: readonly NewStream[];
}

/**
 * Records between "in the log" and "in the streams' files": for a moment in the default mode, until the next flush with
 * durability `"os"`, and as long as a full disk keeps a stream's file from growing. Readers see their events all the same.
 */
export class UnappliedRecords {
  /** Oldest first. */
  readonly #records: UnappliedRecord[] = [];

  get list(): readonly UnappliedRecord[] {
    return this.#records;
  }

  get isEmpty(): boolean {
    return this.#records.length === 0;
  }

  /** Where the first of them starts in the log: up to here, everything is in the streams' files. */
  get start(): LogPlace | undefined {
    return this.#records[0]?.place;
  }

  add(record: UnappliedRecord): void {
    this.#records.push(record);
  }

  /** Removes the oldest record, which has been applied. */
  removeFirst(): void {
    this.#records.shift();
  }

  has(key: StreamKey): boolean {
    return this.#records.some(({ sections }) => sections.some((section) => section.key === key));
  }

  /** Lets a reader of a stream's file see the bytes that are still to be written to it. */
  overlay(key: StreamKey, file: FileHandle | undefined): ReadableFile | undefined {
    const parts = this.#records.flatMap(({ sections, buffer }) =>
      sections.filter((section) => section.key === key).map((section) => ({ section, buffer })),
    );
    if (parts.length === 0) return file;
    const end = parts.reduce((last, { section }) => Math.max(last, section.at + section.end - section.start), 0);
    return {
      size: () => Math.max(end, file?.size() ?? 0),
      read(target, offset, length, position) {
        let count = file?.read(target, offset, length, position) ?? 0;
        for (const { section, buffer } of parts) {
          const from = Math.max(position, section.at);
          const to = Math.min(position + length, section.at + section.end - section.start);
          if (from >= to) continue;
          const at = section.start - section.at;
          buffer.copy(target, offset + from - position, at + from, at + to);
          count = Math.max(count, to - position);
        }
        return count;
      },
    };
  }
}
