import { largest } from "../../arrays.ts";
import { compareCodePoints } from "../../event-store/stream-order.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import { RecordWriter } from "../../file-store/log/record-writer.ts";
import { DEFAULT_LOG_OPTIONS } from "../../file-store/log/commit-log.ts";
import { segmentHeader, segmentPath } from "../../file-store/log/segment.ts";
import { markReclaimed, readRecord } from "../../file-store/log/record-format.ts";
import { reclaimLines } from "../../file-store/log/reclaimed-section.ts";
import { readSections } from "../../file-store/log/record-sections.ts";
import { type CutLine, cutOfLine } from "../../file-store/lines/cut-line.ts";
import { isOurLine } from "../../file-store/lines/line-scanner.ts";
import type { StorePaths } from "../../file-store/disk/store-paths.ts";
import { correctRecord, SURE_BYTES } from "../scan/one-byte-correction.ts";
import { type LogRun, readAt } from "../findings.ts";
import type { LostNotes } from "../scan/log-notes.ts";
import { type LogGap, missingSegment } from "../scan/log-survey.ts";
import { type StreamSurvey, tryParse, type UncoveredLine } from "../scan/stream-survey.ts";

const RECORD_BYTES = 1 << 20;

/** What can be put into a gap. */
export interface GapPlan {
  /** The gap, at the place where its records are to stand. */
  readonly gap: LogGap;
  readonly runs: readonly LogRun[];
  /** Positions whose events no copy has. */
  readonly lost: readonly number[];
  /** Lines that stand in the log now. */
  readonly used: ReadonlySet<UncoveredLine>;
  /** So much of the log they have needed at most, however they were committed. */
  readonly mostBytes: number;
}

/** An event for the log: bytes of a stream's file, or what the log still has of them. */
interface PlacedLine {
  readonly line: UncoveredLine;
  readonly bytes: Buffer;
  readonly adopted: boolean;
  readonly cut: CutLine | undefined;
  readonly isReclaimed?: true;
}

/** The record in a gap when only one of its bytes is damaged. */
export function correctGap(
  fs: FileSystem,
  paths: StorePaths,
  streams: StreamSurvey,
  gap: LogGap,
): { readonly record: Buffer; readonly lastPosition: number } | undefined {
  if (gap.isMissing || gap.to === gap.from) return undefined;
  const path = segmentPath(paths.commitLog, gap.segment);
  const lengths = [gap.to - gap.from];
  if (gap.lastPosition === undefined) {
    // The last byte of the log may be the damaged one, and be zero now.
    const header = /^[^\n]*"bytes":(\d{1,16})[^\n]*\n/.exec(readAt(fs, path, gap.from, 160).toString("latin1"));
    lengths.push(header === null ? gap.to - gap.from + 1 : header[0].length + Number(header[1]));
  }
  for (const length of lengths) {
    const bytes = readAt(fs, path, gap.from, length);
    const record = bytes.length === length ? correctRecord(bytes, gap.firstPosition) : undefined;
    if (record === undefined) continue;
    const read = readRecord(record, 0, record.length, 0);
    if (read.kind !== "record") continue;
    const lastPosition = gap.firstPosition + read.header.events - 1;
    if (gap.lastPosition !== undefined && gap.lastPosition !== lastPosition) continue;
    let confirmed = true;
    readSections(record, read.header, 0, ({ key, at, start, end }) => {
      confirmed &&= streams.bytes(key, at, at + end - start).equals(record.subarray(start, end));
    });
    if (confirmed || length <= SURE_BYTES) return { record, lastPosition };
  }
  return undefined;
}

/** Fills a gap from the streams' files. `lines` are those that no good record has. */
export function fillGap(
  fs: FileSystem,
  paths: StorePaths,
  streams: StreamSurvey,
  found: LogGap,
  lines: readonly UncoveredLine[],
  notes: readonly LostNotes[],
): GapPlan {
  const { chosen, lost } = place(found, lines);
  const salvaged = salvage(fs, paths, found);
  const placed = new Map<number, PlacedLine>();
  for (const [position, line] of chosen) {
    const bytes = streams.bytes(line.key, line.from, line.to);
    if (line.isReclaimed === true) {
      reclaimLines(bytes, { start: 0, end: bytes.length });
      placed.set(position, { line, bytes, adopted: false, cut: undefined, isReclaimed: true });
      continue;
    }
    const inLog = line.readable ? undefined : salvaged.get(position);
    if (inLog?.length === bytes.length) placed.set(position, { line, bytes: inLog, adopted: false, cut: cutIn(inLog) });
    else
      placed.set(position, {
        line,
        bytes,
        adopted: line.position === undefined || !isOurLine(bytes.toString("utf8").trimEnd()),
        cut: cutIn(bytes),
      });
  }
  const mostBytes = lost.length > 0 || found.lastPosition !== undefined ? Infinity : mostBytesOf(placed);
  if (found.lastPosition !== undefined && lost.length > 0)
    return { gap: found, runs: [], lost, used: new Set(), mostBytes };
  const gap = withRoom(found, placed);
  const used = new Set(chosen.values());
  const { segment, from, to, isMissing } = gap;
  if (gap.lastPosition !== undefined) {
    const start = isMissing ? segmentHeader(segment).length : from;
    const records = encode(placed, gap.firstPosition, gap.lastPosition, start, notes);
    return { gap, runs: [{ segment, from, to, records, isNew: isMissing }], lost, used, mostBytes };
  }
  // At the log's end: what follows a lost event stands in a segment of its own, so that the hole remains to be seen.
  const runs: LogRun[] = [];
  let rest = notes;
  for (const [first, last] of consecutive([...placed.keys()])) {
    const inPlace = first === gap.firstPosition && !isMissing;
    const start = inPlace ? from : segmentHeader(first).length;
    const records = encode(placed, first, last, start, rest);
    runs.push(
      inPlace ? { segment, from, to, records, isNew: false } : { segment: first, from: 0, to: 0, records, isNew: true },
    );
    rest = [];
  }
  if (!isMissing && runs[0]?.isNew !== false)
    runs.unshift({
      segment,
      from,
      to,
      records: encode(placed, gap.firstPosition, gap.firstPosition - 1, from, rest),
      isNew: false,
    });
  return { gap, runs, lost, used, mostBytes };
}

function cutIn(line: Buffer): CutLine | undefined {
  return cutOfLine(line.toString("utf8").trimEnd());
}

/** More events than this are not looked at one by one. */
const MAX_MEASURED = 1000;

/** The bytes that the log needs for events if each is a commit of its own; unknown for foreign lines, which may have blank lines between them. */
function mostBytesOf(placed: ReadonlyMap<number, PlacedLine>): number {
  if (placed.size > MAX_MEASURED || [...placed.values()].some(({ adopted }) => adopted)) return Infinity;
  const longest = DEFAULT_LOG_OPTIONS.segmentBytes;
  return [...placed.keys()].reduce((sum, position) => sum + encode(placed, position, position, longest, []).length, 0);
}

/** Where the log would not have gone on in the same segment, one of its own is gone, and the events get that again. */
function withRoom(gap: LogGap, placed: ReadonlyMap<number, PlacedLine>): LogGap {
  const { segment, from, to, firstPosition, lastPosition } = gap;
  const bytes = [...placed.values()].reduce((sum, line) => sum + line.bytes.length, 0);
  const isFull = firstPosition > segment && bytes > 0 && from + bytes > DEFAULT_LOG_OPTIONS.segmentBytes;
  return isFull && from === to ? missingSegment(firstPosition, lastPosition) : gap;
}

/** Which line belongs to which position, and the positions that stay without one. */
function place(
  { firstPosition, lastPosition }: LogGap,
  lines: readonly UncoveredLine[],
): { readonly chosen: ReadonlyMap<number, UncoveredLine>; readonly lost: readonly number[] } {
  const queues = new Map<string, UncoveredLine[]>();
  const byPosition = new Map<number, UncoveredLine>();
  for (const line of lines) {
    const queue = queues.get(line.key);
    if (queue === undefined) queues.set(line.key, [line]);
    else queue.push(line);
    if (line.position !== undefined && !byPosition.has(line.position)) byPosition.set(line.position, line);
  }
  for (const queue of queues.values()) while ((queue[0]?.position ?? Infinity) < firstPosition) queue.shift();
  const last = lastPosition ?? largest(byPosition.keys(), firstPosition - 1);
  const chosen = new Map<number, UncoveredLine>();
  const lost: number[] = [];
  for (let position = firstPosition; position <= last; position++) {
    const line = byPosition.get(position);
    const found =
      line !== undefined && queues.get(line.key)?.[0] === line ? line : nextWithoutPosition(queues, position, last);
    if (found === undefined) lost.push(position);
    else {
      chosen.set(position, found);
      queues.get(found.key)?.shift();
    }
  }
  return { chosen, lost };
}

/** The line without a position that comes next: first those that have to come now, then by time, type, id. */
function nextWithoutPosition(
  queues: ReadonlyMap<string, readonly UncoveredLine[]>,
  position: number,
  last: number,
): UncoveredLine | undefined {
  const isDue = (queue: readonly UncoveredLine[]): boolean =>
    queue.some((line) => line.position !== undefined && line.position > position && line.position <= last + 1);
  return [...queues.values()]
    .filter(([line]) => line !== undefined && line.position === undefined)
    .sort((a, b) => {
      const [x, y] = [a[0], b[0]];
      if (x === undefined || y === undefined) return 0;
      return Number(isDue(b)) - Number(isDue(a)) || x.time - y.time || compareCodePoints(x.key, y.key);
    })[0]?.[0];
}

/** Lines that can still be read in a gap, by position. */
function salvage(fs: FileSystem, paths: StorePaths, { segment, from, to, isMissing }: LogGap): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  if (isMissing) return found;
  const bytes = readAt(fs, segmentPath(paths.commitLog, segment), from, to - from);
  for (let start = 0, stop = bytes.indexOf("\n"); stop >= 0; start = stop + 1, stop = bytes.indexOf("\n", start)) {
    const position = tryParse(bytes.subarray(start, stop))?.pos;
    if (position !== undefined) found.set(position, bytes.subarray(start, stop + 1));
  }
  return found;
}

function* consecutive(positions: readonly number[]): Generator<readonly [first: number, last: number]> {
  let first: number | undefined;
  let last = 0;
  for (const position of positions) {
    if (first !== undefined && position !== last + 1) {
      yield [first, last];
      first = undefined;
    }
    first ??= position;
    last = position;
  }
  if (first !== undefined) yield [first, last];
}

/** Records for positions `first` to `last`, all of which have their line; `offset` is where they will stand in their segment. */
function encode(
  placed: ReadonlyMap<number, PlacedLine>,
  first: number,
  last: number,
  offset: number,
  notes: readonly LostNotes[],
): Buffer {
  const records: Buffer[] = [];
  let at = offset;
  let writer = new RecordWriter(Buffer.allocUnsafe(RECORD_BYTES), first);
  let isReclaimed = false;
  // An empty note keeps the numbers of those after it.
  for (const { name, from, to } of notes)
    for (let sequence = from; sequence <= to; sequence++) writer.addNote({ name, sequence, note: {} });
  const seal = (): void => {
    const record = Buffer.from(writer.buffer.subarray(writer.seal(at), writer.end));
    if (isReclaimed) markReclaimed(record, record.indexOf("\n") + 1);
    isReclaimed = false;
    records.push(record);
    at += record.length;
  };
  for (let position = first; position <= last;) {
    const start = placed.get(position);
    if (start === undefined) break;
    const bytes = [start.bytes];
    let end = start.line.to;
    let size = start.bytes.length;
    for (
      let next = placed.get(++position);
      position <= last &&
      next?.line.key === start.line.key &&
      next.line.from === end &&
      next.adopted === start.adopted &&
      next.isReclaimed === start.isReclaimed &&
      next.cut === undefined &&
      start.cut === undefined &&
      size < RECORD_BYTES;
      next = placed.get(++position)
    ) {
      bytes.push(next.bytes);
      size += next.bytes.length;
      end = next.line.to;
    }
    const before = { version: start.line.version - 1, end: start.line.from, crc: undefined };
    const kind = { adopted: start.adopted, cut: start.cut?.kind };
    const text = Buffer.concat(bytes);
    if (start.isReclaimed === true) {
      isReclaimed = true;
      reclaimLines(text, { start: 0, end: text.length });
    }
    writer.addLines(start.line.key, before, bytes.length, text, kind);
    if (writer.bytes < RECORD_BYTES || position > last) continue;
    seal();
    writer = new RecordWriter(Buffer.allocUnsafe(RECORD_BYTES), position);
  }
  if (!writer.isEmpty) seal();
  return Buffer.concat(records);
}
