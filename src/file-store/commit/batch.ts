import type { Commit, CommitResult } from "../../event-store/event-store.ts";
import type { StreamKey } from "../disk/stream-key.ts";
import { lineOf } from "../lines/event-line.ts";
import { RecordWriter, type WrittenEnd } from "../log/record-writer.ts";
import type { NewStream } from "../streams/stream-registry.ts";

/** A commit that waits to be written. */
export interface QueuedCommit {
  readonly commit: Commit;
  /** The streams' keys, in the order of `commit.appends`. */
  readonly keys: readonly StreamKey[];
  /** The JSON of the events' metadata, which the caller may change from now on. */
  readonly metas: readonly (readonly (string | undefined)[])[];
  readonly resolve: (result: CommitResult) => void;
  readonly reject: (error: unknown) => void;
  /** When it was given up to a stream that another program holds, in ms of the monotonic clock. */
  lockedSince?: number;
}

/** Commits that are written together, as one record of the commit log. */
export class Batch {
  readonly record: RecordWriter;
  readonly commits: { readonly queued: QueuedCommit; readonly position: number }[] = [];
  readonly created: NewStream[] = [];
  /** Streams whose file was there before. */
  readonly existing: Set<StreamKey> = new Set<StreamKey>();

  constructor(buffer: Buffer, firstPosition: number) {
    this.record = new RecordWriter(buffer, firstPosition);
  }

  /** Adds the events of one append, and moves the stream's end past them. */
  addAppend(queued: QueuedCommit, index: number, end: WrittenEnd): void {
    const append = queued.commit.appends[index];
    const key = queued.keys[index];
    if (append === undefined || key === undefined) throw new RangeError(`no append ${index}`);
    const { nextPosition } = this.record;
    const metas = queued.metas[index];
    let text = "";
    for (let i = 0; i < append.events.length; i++) {
      const event = append.events[i];
      if (event !== undefined) text += lineOf(event, metas?.[i], nextPosition + i);
    }
    if (end.version === 0) {
      this.created.push({
        stream: append.stream,
        seconds: Math.floor((append.events[0]?.timestamp ?? 0) / 1000),
        mayBeKnown: this.existing.has(key),
      });
    }
    this.record.addEvents(key, end, append.events.length, text);
  }
}
