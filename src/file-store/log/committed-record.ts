import type { LogPlace } from "./log-place.ts";
import type { RecordHeader } from "./record-format.ts";
import { type NoteSection, readSections, type Section } from "./record-sections.ts";

/**
 * A record that counts: it is in the log, at a place that readers may see. `buffer` may be used for other bytes as soon as the
 * observers have returned and the record is in the streams' files.
 */
export interface CommittedRecord {
  /** Whether this process wrote it, or read it from the log. */
  readonly isOwn: boolean;
  /** It was read from the log, and its events may not be in the streams' files: this process only reads, and keeps it in memory. */
  readonly isKept?: boolean;
  readonly sections: readonly Section[];
  readonly notes: readonly NoteSection[];
  /** Holds the record's bytes from `start` to `stop`; the sections' offsets refer to it. */
  readonly buffer: Buffer;
  readonly start: number;
  readonly stop: number;
  /** Where the record starts in the log. */
  readonly place: LogPlace;
  /** The place after it. */
  readonly end: LogPlace;
}

/** Follows the log. Each method is called once for each record, in the order of the log, whichever process wrote the record. */
export interface CommitObserver {
  /** The record is in the log, and the log's end is past it. */
  onCommitted?(record: CommittedRecord): void;
  /** The record's events are in the streams' files, though perhaps not durably. */
  onApplied?(record: CommittedRecord): void;
}

/** The record that a scan of the log has found; `base` is the segment's offset of the buffer's first byte. */
export function scannedRecord(header: RecordHeader, buffer: Buffer, base: number, segment: number): CommittedRecord {
  const sections: Section[] = [];
  const notes: NoteSection[] = [];
  readSections(
    buffer,
    header,
    base,
    (section) => sections.push(section),
    (note) => notes.push(note),
  );
  const before = header.position - 1;
  return {
    isOwn: false,
    sections,
    notes,
    buffer,
    start: header.start - base,
    stop: header.end - base,
    place: { segment, offset: header.start, position: before },
    end: { segment, offset: header.end, position: before + header.events },
  };
}
