import { CorruptionError, EventfoldError } from "../../errors.ts";
import { present } from "../../assert-invariant.ts";
import type { StreamName } from "../../event-store/event-store.ts";
import { compareCodePoints } from "../../event-store/stream-order.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import { HEADER_ROOM, markReclaimed } from "../log/record-format.ts";
import { reclaimedPlaces, reclaimLines } from "../log/reclaimed-section.ts";
import { RecordWriter } from "../log/record-writer.ts";
import { CommitLog, type CommitLogOptions } from "../log/commit-log.ts";
import { type CutLine, cutOfLine } from "../lines/cut-line.ts";
import { parseLine } from "../lines/parse-line.ts";
import { isOurLine } from "../lines/line-scanner.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import { endOfLastLine, readLines } from "../lines/line-reader.ts";
import { findStreams } from "../streams/stream-list.ts";
import { StreamRegistry } from "../streams/stream-registry.ts";
import { decodeId, fullNameOf } from "../../stream-names.ts";
import { type StreamKey, streamOfKey } from "../disk/stream-key.ts";

const RECORD_BYTES = 1 << 20;

interface FoundLine {
  readonly key: StreamKey;
  readonly version: number;
  readonly offset: number;
  readonly end: number;
  /** Milliseconds since 1970. */
  readonly time: number;
  readonly position: number | undefined;
  /** It is written as we write lines, position and all; whatever we find in the log without a mark is taken to be. */
  readonly isOurs: boolean;
  readonly cut: CutLine | undefined;
  /** The line was reclaimed; the file has blank lines there. `time` is the position of the cut that has dropped it. */
  readonly isReclaimed?: true;
}

/**
 * Makes the commit log from the streams' files: for a directory that the Rust crate wrote, and for one that
 * has lost its log. The streams are only read. Lines with a position keep it; the others are ordered by
 * time, then type, id and place. The new log takes its name only when it is complete and durable.
 */
export async function adoptStreams(
  fs: FileSystem,
  paths: StorePaths,
  options: CommitLogOptions,
  onProgress: (events: number) => void,
): Promise<void> {
  fs.remove(paths.newCommitLog);
  const streams = findStreams(fs, paths);
  for (const key of streams) {
    checkUnambiguous(fs, paths, key);
    checkNotRotated(fs, paths, key);
  }
  const lines = inOrder(paths, findLines(fs, paths, streams, onProgress));
  if (lines.length > 0) await writeLog(fs, paths, options, lines);
  await register(fs, paths, streams, lines);
}

/** Makes the registry again from the streams' directories. */
export async function registerStreams(fs: FileSystem, paths: StorePaths): Promise<void> {
  const streams = findStreams(fs, paths);
  await register(
    fs,
    paths,
    streams,
    findLines(fs, paths, streams, () => {}),
  );
}

/** Throws when the Rust crate made a directory whose name is how this library writes another id. */
function checkUnambiguous(fs: FileSystem, paths: StorePaths, key: StreamKey): void {
  const name = key.slice(key.indexOf("/") + 1);
  if (!name.startsWith("%") || decodeId(name) === name || hasPositions(fs, `${paths.streams}/${key}`)) return;
  throw new EventfoldError(
    "ADOPTION_AMBIGUOUS",
    `streams/${key} was written by the Rust crate, but its name is how this library writes the id ${JSON.stringify(decodeId(name))}; rename it first`,
  );
}

/** Throws for a stream whose first events are in an archive: without them its states would be wrong. */
function checkNotRotated(fs: FileSystem, paths: StorePaths, key: StreamKey): void {
  const archive = `${paths.streams}/${key}/archive.jsonl.zst`;
  if (fs.stat(archive) === undefined) return;
  throw new EventfoldError(
    "UNSUPPORTED_FORMAT",
    `${archive}: eventfold has moved this stream's first events there, which this library cannot read; call restoreArchives of eventfold-es/doctor, which puts them back before the first line of app.jsonl, for the Rust crate too`,
  );
}

/** Whether a stream's first line carries a position, which only we write. */
function hasPositions(fs: FileSystem, directory: string): boolean {
  const file = fs.open(`${directory}/app.jsonl`, "read");
  try {
    for (const [line] of readLines(file, 0, file.size())) return line?.text?.includes(',"pos":') === true;
    // Nothing in it: a process died between making the file and its first event.
    return true;
  } finally {
    file.close();
  }
}

function findLines(
  fs: FileSystem,
  paths: StorePaths,
  keys: readonly StreamKey[],
  onProgress: (events: number) => void,
): FoundLine[] {
  const found: FoundLine[] = [];
  for (const key of keys) {
    const file = fs.open(`${paths.streams}/${key}/app.jsonl`, "read");
    try {
      let version = 0;
      let time = 0;
      let last = 0;
      for (const batch of readLines(file, 0, endOfLastLine(file, file.size()))) {
        for (const { text, offset, end } of batch) {
          version++;
          let position: number | undefined;
          let isOurs = false;
          let cut: CutLine | undefined;
          try {
            if (text === undefined) throw new Error("not UTF-8");
            const line = parseLine(text, (why) => new Error(why));
            time = Math.min(line.ts * 1000 + (line.ms ?? 0), Number.MAX_SAFE_INTEGER);
            position = line.pos;
            isOurs = isOurLine(text);
            cut = cutOfLine(text);
          } catch {
            // Unreadable: it stays an event of its stream, at the time of the one before, and reading it says what is wrong.
          }
          for (const place of reclaimedPlaces(version, cut?.version, last, offset))
            found.push({
              key,
              ...place,
              time: position ?? 0,
              position: undefined,
              isOurs: true,
              cut: undefined,
              isReclaimed: true,
            });
          version = Math.max(version, cut?.version ?? 0);
          found.push({ key, version, offset, end, time, position, isOurs, cut });
          last = end;
        }
      }
    } finally {
      file.close();
    }
    onProgress(found.length);
  }
  return found;
}

function inOrder(paths: StorePaths, found: FoundLine[]): FoundLine[] {
  const placed = new Map<number, FoundLine>();
  const free: FoundLine[] = [];
  for (const line of found) {
    if (line.position === undefined) free.push(line);
    else if (placed.has(line.position))
      throw disagreement(paths, line, `position ${line.position} stands in two places`);
    else placed.set(line.position, line);
  }
  const streams = new Map(free.map((line) => [line, streamOfKey(line.key)]));
  const streamOf = (line: FoundLine): StreamName => present(streams.get(line), "each free line has its stream");
  free.sort((a, b) => {
    const x = streamOf(a);
    const y = streamOf(b);
    return a.time - b.time || compareCodePoints(x.type, y.type) || compareCodePoints(x.id, y.id) || a.offset - b.offset;
  });
  const merged: FoundLine[] = [];
  const reached = new Map<StreamKey, number>();
  const waiting = new Map<StreamKey, [FoundLine, ...FoundLine[]]>();
  const append = (line: FoundLine): void => {
    merged.push(line);
    reached.set(line.key, line.version);
  };
  let nextFree = 0;
  while (merged.length < found.length) {
    const line = placed.get(merged.length + 1);
    if (line !== undefined) {
      if ((reached.get(line.key) ?? 0) !== line.version - 1)
        throw disagreement(paths, line, "positions do not follow the order of the lines");
      append(line);
      continue;
    }
    // The next free line whose predecessor in its stream has its place; clocks may have run backwards.
    const ready = [...waiting.values()].find(([first]) => (reached.get(first.key) ?? 0) === first.version - 1);
    if (ready !== undefined) {
      const [first, second, ...rest] = ready;
      append(first);
      if (second === undefined) waiting.delete(first.key);
      else waiting.set(first.key, [second, ...rest]);
      continue;
    }
    const candidate = free[nextFree++];
    if (candidate === undefined) {
      const left = found.filter(({ key, version }) => version > (reached.get(key) ?? 0));
      const next = left.reduce((x, y) => ((y.position ?? Infinity) < (x.position ?? Infinity) ? y : x));
      const why = `the commit log is missing, and no stream has the event with position ${merged.length + 1}, which comes before this one`;
      throw disagreement(paths, next, why, "CORRUPT_LOG");
    }
    if (!waiting.has(candidate.key) && (reached.get(candidate.key) ?? 0) === candidate.version - 1) append(candidate);
    else {
      const lines: [FoundLine, ...FoundLine[]] = [candidate, ...(waiting.get(candidate.key) ?? [])];
      waiting.set(
        candidate.key,
        lines.sort((a, b) => a.version - b.version),
      );
    }
  }
  return merged;
}

function disagreement(
  paths: StorePaths,
  { key, version, offset }: FoundLine,
  why: string,
  code: "CORRUPT_STREAM" | "CORRUPT_LOG" = "CORRUPT_STREAM",
): CorruptionError {
  return new CorruptionError(code, { file: `${paths.streams}/${key}/app.jsonl`, line: version, offset }, why);
}

async function writeLog(
  fs: FileSystem,
  paths: StorePaths,
  options: CommitLogOptions,
  lines: readonly FoundLine[],
): Promise<void> {
  const log = new CommitLog(fs, paths.newCommitLog, options, { segment: 1, offset: 0, position: 0 });
  try {
    let record = new RecordWriter(Buffer.allocUnsafe(RECORD_BYTES), 1);
    let isReclaimed = false;
    const write = async (): Promise<void> => {
      const place = await log.prepare(record.bytes);
      const start = record.seal(place.offset);
      if (isReclaimed) markReclaimed(record.buffer.subarray(start, record.end), HEADER_ROOM - start);
      isReclaimed = false;
      log.moveTo(await log.append(record.buffer, start, record.end, record.events, "not durably"));
      record = new RecordWriter(record.buffer, log.end.position + 1);
    };
    for (let i = 0; i < lines.length;) {
      const first = lines[i];
      if (first === undefined) break;
      // Neighbours in the order that are neighbours in their file too are one section.
      let last = first;
      let events = 1;
      for (
        let next = lines[i + 1];
        next?.key === first.key &&
        next.offset === last.end &&
        next.isOurs === first.isOurs &&
        next.isReclaimed === first.isReclaimed &&
        next.cut === undefined &&
        first.cut === undefined &&
        next.end - first.offset < RECORD_BYTES;
        next = lines[i + events]
      ) {
        last = next;
        events++;
      }
      const file = fs.open(`${paths.streams}/${first.key}/app.jsonl`, "read");
      const bytes = Buffer.alloc(last.end - first.offset);
      try {
        file.read(bytes, 0, bytes.length, first.offset);
      } finally {
        file.close();
      }
      if (first.isReclaimed === true) {
        isReclaimed = true;
        reclaimLines(bytes, { start: 0, end: bytes.length });
      }
      record.addLines(first.key, { version: first.version - 1, end: first.offset, crc: undefined }, events, bytes, {
        adopted: !first.isOurs,
        cut: first.cut?.kind,
      });
      i += events;
      if (record.bytes > RECORD_BYTES / 2) await write();
    }
    if (record.events > 0) await write();
    await log.flush();
    await log.cutTail();
  } finally {
    log.close();
  }
  // A marker of the log that is gone would say nothing true about the new one, and no table of ends or head would.
  fs.remove(paths.marker);
  fs.remove(paths.head);
  fs.remove(paths.streamEnds);
  await fs.syncDirectory(paths.meta);
  fs.remove(paths.commitLog);
  fs.rename(paths.newCommitLog, paths.commitLog);
  await fs.syncDirectory(paths.base);
}

/** Adds what is not in the registry yet. */
async function register(
  fs: FileSystem,
  paths: StorePaths,
  keys: readonly StreamKey[],
  lines: readonly FoundLine[],
): Promise<void> {
  const registry = new StreamRegistry(fs, paths.registry);
  try {
    const known = new Set(registry.read().streams.map(fullNameOf));
    const times = new Map<StreamKey, number>();
    for (const { key, time, isReclaimed } of lines) if (!times.has(key) && isReclaimed !== true) times.set(key, time);
    const missing = keys.flatMap((key) => {
      const stream = streamOfKey(key);
      const time = times.get(key);
      return known.has(fullNameOf(stream)) || time === undefined ? [] : [{ stream, seconds: Math.floor(time / 1000) }];
    });
    registry.append(missing.sort((a, b) => a.seconds - b.seconds));
    await registry.flush();
  } finally {
    registry.close();
  }
}
