import { EventfoldError } from "../../errors.ts";
import type { EventIdentity } from "../../event-store/event-digest.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import { type StreamKey, streamOfKey } from "../disk/stream-key.ts";
import { parseLine } from "../lines/parse-line.ts";
import type { LogPlace } from "../log/log-place.ts";
import { LogScanner } from "../log/log-scanner.ts";
import { pacedScan } from "../log/paced-scan.ts";
import { HEADER_ROOM, type RecordHeader, sealRecord } from "../log/record-format.ts";
import { isReclaimed } from "../log/reclaimed-section.ts";
import { noteLines, readSections, type Section, sectionHeader } from "../log/record-sections.ts";
import { listSegments } from "../log/segment.ts";

const LF = 0x0a;

/** Where a log is cut so that it ends with a position: after whole records, and the beginning of one more. */
export interface CutPoint {
  readonly end: LogPlace;
  /** A record that has the commits up to the position; nothing if the position ends a record. */
  readonly rest: Buffer | undefined;
  /** The event at the position, if it can be read. */
  readonly last: EventIdentity | undefined;
}

/** Finds where to cut a log that ends at `limit`. Notes between the events up to the position and the next event stay. */
export async function findCut(
  fs: FileSystem,
  directory: string,
  limit: LogPlace,
  position: number,
  signal?: AbortSignal,
): Promise<CutPoint> {
  const scanner = new LogScanner(fs, directory);
  const segment = listSegments(fs, directory).findLast((first) => first <= Math.max(position, 1)) ?? 1;
  let end: LogPlace = { segment, offset: 0, position: segment - 1 };
  let rest: Buffer | undefined;
  let last: EventIdentity | undefined;
  const { invalid, end: stop } = await pacedScan(
    scanner,
    end,
    limit,
    (header, buffer, base, inSegment) => {
      const next = header.position + header.events;
      if (header.position <= position && next > position) last = eventAt(header, buffer, base, position);
      if (next > position + 1) {
        rest = partOf(header, buffer, base, position);
        return false;
      }
      end = { segment: inSegment, offset: header.end, position: next - 1 };
      return true;
    },
    signal,
  );
  if (invalid !== undefined) throw scanner.corruption(stop, invalid);
  return { end, rest, last };
}

/** Position of the last event that is not later than a time, in milliseconds since 1970; 0 if there is none. */
export async function positionAt(
  fs: FileSystem,
  directory: string,
  limit: LogPlace,
  time: number,
  signal?: AbortSignal,
): Promise<number> {
  const scanner = new LogScanner(fs, directory);
  let found = 0;
  const { invalid, end } = await pacedScan(
    scanner,
    scanner.beginning(),
    limit,
    (header, buffer, base) => {
      readSections(buffer, header, base, (section) => {
        if (isReclaimed(buffer, section)) return;
        for (const { text, position } of linesOf(section, buffer)) if (timeOf(text) <= time) found = position;
      });
    },
    signal,
  );
  if (invalid !== undefined) throw scanner.corruption(end, invalid);
  return found;
}

/** Throws `EVENTS_RECLAIMED` if a log that ends with a position lacks events that were dropped and reclaimed later. */
export async function checkNotReclaimed(
  fs: FileSystem,
  directory: string,
  limit: LogPlace,
  position: number,
  signal?: AbortSignal,
): Promise<void> {
  const missing = new Map<StreamKey, Section>();
  const scanner = new LogScanner(fs, directory);
  await pacedScan(
    scanner,
    scanner.beginning(),
    limit,
    (header, buffer, base) => {
      if (header.position > position) return false;
      readSections(buffer, header, base, (section) => {
        if (section.position > position) return;
        if (section.cut !== undefined) missing.delete(section.key);
        else if (header.isReclaimed && isReclaimed(buffer, section)) missing.set(section.key, section);
      });
      return true;
    },
    signal,
  );
  const [section] = missing.values();
  if (section === undefined) return;
  throw new EventfoldError(
    "EVENTS_RECLAIMED",
    `expected all events up to position ${position}, found that reclaim has removed those of ${section.key} at position ${section.position}, which were deleted or compacted later; restore to a later position, or from an older backup`,
  );
}

function timeOf(text: string): number {
  try {
    const { ts, ms = 0 } = parseLine(text, (why) => new Error(why));
    return ts * 1000 + ms;
  } catch {
    // An event that cannot be read has no time; it is not the last one that was asked for.
    return Infinity;
  }
}

/** The lines of a section that are events. */
function* linesOf(
  section: Section,
  buffer: Buffer,
): Generator<{ readonly text: string; readonly position: number; readonly version: number; readonly end: number }> {
  let { position, version } = section;
  for (let start = section.start; start < section.end;) {
    const lf = buffer.indexOf(LF, start);
    const text = buffer.toString("utf8", start, lf);
    start = lf + 1;
    if (section.adopted && text.trim() === "") continue;
    yield { text, position, version, end: start };
    position++;
    version++;
  }
}

/** The event at a position of a record; nothing if it cannot be read. */
function eventAt(header: RecordHeader, buffer: Buffer, base: number, wanted: number): EventIdentity | undefined {
  let found: EventIdentity | undefined;
  readSections(buffer, header, base, (section) => {
    if (section.position > wanted || section.position + section.events <= wanted) return;
    for (const { text, position, version } of linesOf(section, buffer)) {
      if (position !== wanted) continue;
      try {
        const { type, id, ts, ms = 0 } = parseLine(text, (why) => new Error(why));
        const stream = streamOfKey(section.key);
        found = { version, type, stream, eventId: id ?? undefined, timestamp: ts * 1000 + ms };
      } catch {
        // A reader of the copy meets the same line.
      }
    }
  });
  return found;
}

/** The part of a record up to a position, as a record; nothing if it is empty. */
function partOf(header: RecordHeader, buffer: Buffer, base: number, until: number): Buffer | undefined {
  const parts: Buffer[] = [];
  let events = 0;
  let adopted = false;
  let isOver = false;
  readSections(
    buffer,
    header,
    base,
    (section) => {
      isOver ||= section.position > until;
      if (isOver) return;
      // Reclaimed lines have no places of their own, and need none.
      const count = isReclaimed(buffer, section) ? Math.min(section.events, until - section.position + 1) : undefined;
      const lines = [...linesOf(section, buffer)].filter(({ position }) => position <= until);
      isOver = (count ?? lines.length) < section.events;
      if (isOver && lines.length > 0 && section.cut !== undefined)
        throw new EventfoldError(
          "INVALID_ARGUMENT",
          `expected a position between commits, found ${until} inside a compaction of ${section.key}, which counts as a whole; use ${section.position - 1} or ${section.position + section.events - 1}`,
        );
      const end = isOver && count === undefined ? (lines.at(-1)?.end ?? section.start) : section.end;
      parts.push(
        Buffer.from(sectionHeader({ ...section, events: count ?? lines.length }, end - section.start)),
        Buffer.from(buffer.subarray(section.start, end)),
      );
      events += count ?? lines.length;
      adopted ||= section.adopted;
    },
    (note) => {
      if (!isOver) parts.push(Buffer.from(noteLines(note)));
    },
  );
  if (parts.length === 0) return undefined;
  const part = Buffer.concat([Buffer.alloc(HEADER_ROOM), ...parts]);
  // It claims of no byte before it that it was durable, which is true at every place.
  const start = sealRecord(part, part.length, { position: header.position, events, flushed: 0, adopted });
  return part.subarray(start);
}
