import { present } from "../../assert-invariant.ts";
import type { StreamKey } from "../disk/stream-key.ts";
import { lineOf } from "../lines/event-line.ts";
import { RecordWriter, type WrittenEnd } from "../log/record-writer.ts";
import type { NewStream } from "../streams/stream-registry.ts";
import type { QueuedAppend, QueuedCommit } from "./queued-commit.ts";

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
  addAppend({ stream, key, events, cut }: QueuedAppend, end: WrittenEnd): void {
    let position = this.record.nextPosition;
    let lines = "";
    for (const { draft, meta } of events) lines += lineOf(draft, meta, position++);
    if (end.version === 0) {
      const first = present(events[0], "an append that is written has events");
      const seconds = Math.floor(first.draft.timestamp / 1000);
      this.created.push({ stream, seconds, mayBeKnown: this.existing.has(key) });
    }
    if (cut === undefined) this.record.addEvents(key, end, events.length, lines);
    else this.record.addCut(key, end, events.length, lines, cut);
  }
}
