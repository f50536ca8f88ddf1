import type { StoredDeadLetter } from "../../event-store/event-store.ts";
import { Slice } from "../../event-loop.ts";
import type { StoreLock } from "../disk/store-lock.ts";
import type { LogPlace } from "../log/log-place.ts";
import { LogScanner, type RecordVisitor, ScanCursor } from "../log/log-scanner.ts";
import { pacedRead } from "../log/paced-scan.ts";
import { isReclaimed, reclaimLines } from "../log/reclaimed-section.ts";
import { markReclaimed, type RecordHeader } from "../log/record-format.ts";
import { noteLine, type NoteSection, readSections, type Section } from "../log/record-sections.ts";
import { segmentHeader, segmentPath } from "../log/segment.ts";
import { COMPRESSED, type SegmentFiles } from "../log/segment-files.ts";
import { SegmentWriter } from "./segment-writer.ts";

export interface ReclaimLogParts {
  readonly fs: SegmentFiles;
  readonly directory: string;
  readonly lock: StoreLock;
}

/** What may be removed from a segment. */
export interface Removable {
  /** The lines of a section. */
  readonly lines: (section: Section) => boolean;
  /** A dead letter, of which only the key is needed. */
  readonly letter: (manager: string, key: string) => boolean;
}

export interface ReclaimedSegment {
  /** Events whose lines were removed now. */
  readonly events: number;
  /** Bytes on disk before and after. */
  readonly before: number;
  readonly after: number;
}

/**
 * Rewrites a segment that nothing is appended to any more, without what `mayGo` names, and compressed. Nothing is done if it
 * has no such lines and is compressed. `next` is the segment after it. A damaged segment stays as it is (`CORRUPT_LOG`).
 */
export async function reclaimSegment(
  { fs, directory, lock }: ReclaimLogParts,
  segment: number,
  next: number,
  mayGo: Removable,
  signal?: AbortSignal,
): Promise<ReclaimedSegment> {
  const path = segmentPath(directory, segment);
  const before = fs.physical.stat(path)?.size ?? fs.physical.stat(path + COMPRESSED)?.size ?? 0;
  const scanner = new LogScanner(fs, directory);
  const from: LogPlace = { segment, offset: 0, position: segment - 1 };
  const limit: LogPlace = { segment: next, offset: 0, position: next - 1 };
  const isCompressed = fs.physical.stat(path) === undefined;
  if (isCompressed && !(await hasAny(scanner, from, limit, mayGo, signal))) return { events: 0, before, after: before };
  const writer = new SegmentWriter(fs.physical, path);
  const cursor = new ScanCursor();
  let events = 0;
  try {
    writer.add(Buffer.from(segmentHeader(segment)));
    const slice = new Slice();
    const visit: RecordVisitor = (header, buffer, base) => {
      const record = Buffer.from(buffer.subarray(header.start - base, header.end - base));
      events += reclaimRecord(record, header, mayGo);
      writer.add(record);
      return !slice.isOver;
    };
    for (let place = from, isOver = false; !isOver;) {
      signal?.throwIfAborted();
      const { end, invalid, stopped } = scanner.scan(place, limit, visit, cursor);
      if (invalid !== undefined) throw scanner.corruption(end, invalid);
      isOver = stopped !== true;
      if (isOver && (end.position !== limit.position || end.segment === segment))
        throw scanner.corruption(end, `the segment ends here; the next one begins with position ${next}`);
      place = end;
      await slice.next();
    }
    return { events, before, after: await lock.hold(() => writer.finish()) };
  } catch (error) {
    writer.discard();
    throw error;
  } finally {
    cursor.close();
  }
}

/** Whether a segment has lines that may go. */
async function hasAny(
  scanner: LogScanner,
  from: LogPlace,
  limit: LogPlace,
  mayGo: Removable,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  let found = false;
  await pacedRead(
    scanner,
    from,
    limit,
    (header, buffer, base) => {
      readSections(
        buffer,
        header,
        base,
        (section) => (found ||= mayGo.lines(section) && !isReclaimed(buffer, section)),
        (note) => (found ||= withoutLetters(note, mayGo) !== undefined),
      );
      return !found;
    },
    signal,
  );
  return found;
}

/** Removes lines and dead letters from a record. Returns how many events the lines were. */
function reclaimRecord(record: Buffer, header: RecordHeader, mayGo: Removable): number {
  let events = 0;
  let isChanged = false;
  readSections(
    record,
    header,
    header.start,
    (section) => {
      if (!mayGo.lines(section) || isReclaimed(record, section)) return;
      reclaimLines(record, section);
      events += section.events;
      isChanged = true;
    },
    (note, start, end) => {
      const line = withoutLetters(note, mayGo);
      if (line === undefined) return;
      const bytes = Buffer.from(line);
      // Blanks at the end of a line of JSON mean nothing.
      if (bytes.length >= end - start) return;
      record.fill(" ", start, end - 1);
      bytes.copy(record, start);
      isChanged = true;
    },
  );
  if (isChanged) markReclaimed(record, header.body - header.start);
  return events;
}

/** The line of a note without the dead letters that may go; nothing if it has none. */
function withoutLetters(note: NoteSection, mayGo: Removable): string | undefined {
  const { name, deadLetters = [] } = note;
  const isGone = ({ key, letter }: StoredDeadLetter): boolean =>
    Object.keys(letter).length > 0 && mayGo.letter(name, key);
  if (!deadLetters.some(isGone)) return undefined;
  return noteLine({
    ...note,
    deadLetters: deadLetters.map((each) => (isGone(each) ? { key: each.key, letter: {} } : each)),
  });
}
