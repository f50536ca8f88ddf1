import { EventfoldError } from "../../errors.ts";
import { turn } from "../../event-loop.ts";
import type { FileHandle, FileSystem } from "../../fs/file-system.ts";
import { parentOf } from "../disk/durable-directory.ts";
import { isBefore, type LogPlace } from "../log/log-place.ts";
import { LogScanner } from "../log/log-scanner.ts";
import { haveSameRecords } from "./same-records.ts";
import { pacedRead, pacedScan } from "../log/paced-scan.ts";
import { listSegments, segmentPath } from "../log/segment.ts";

const CHUNK = 1 << 20;
/** So many bytes at the end of a copy are compared with the source: their checksums cover the ids and times of the last events. */
const COMPARED = 64 << 10;

/** A commit log up to a place. */
export interface LogExtent {
  readonly directory: string;
  readonly end: LogPlace;
}

export interface CopyProgress {
  /** Bytes of the commit log that are copied, and that are to be copied in all. */
  readonly bytes: number;
  readonly totalBytes: number;
}

export interface LogCopyOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: CopyProgress) => void) | undefined;
}

/** Bytes of one segment. */
interface SegmentPart {
  readonly segment: number;
  readonly from: number;
  readonly to: number;
}

/**
 * Copies what a log has after the end of its copy, durably, segment by segment, and checks each record that was copied. A segment is
 * durable before the next one begins, so a copy that was cut off is whole records and a torn tail. Returns how many bytes it copied.
 *
 * Call `compareEnds` first. Throws `CORRUPT_LOG` if the source is damaged.
 */
export async function copyLog(
  fs: FileSystem,
  source: LogExtent,
  copy: LogExtent,
  { signal, onProgress = () => {} }: LogCopyOptions = {},
): Promise<number> {
  const parts = partsToCopy(fs, source, copy);
  const totalBytes = parts.reduce((sum, { from, to }) => sum + to - from, 0);
  let bytes = 0;
  onProgress({ bytes, totalBytes });
  for (const part of parts) {
    for await (const length of copyPart(fs, source.directory, copy.directory, part)) {
      bytes += length;
      onProgress({ bytes, totalBytes });
      await turn();
      signal?.throwIfAborted();
    }
  }
  if (isBefore(copy.end, source.end)) await checkCopy(fs, source, copy, signal);
  return totalBytes;
}

/** Throws `COPY_DIVERGED` unless the source goes on where its copy ends, with the same bytes before. */
export function compareEnds(fs: FileSystem, source: LogExtent, copy: LogExtent): void {
  const { position } = copy.end;
  const { segment, offset } = lastBytes(fs, copy);
  if (offset === 0) return;
  if (source.end.segment < segment || (source.end.segment === segment && source.end.offset < offset))
    throw diverged(copy, `it ends at position ${position}, its source at position ${source.end.position}`);
  const [found, expected] = [copy.directory, source.directory].map((directory) => {
    const path = segmentPath(directory, segment);
    if (fs.stat(path) === undefined) return undefined;
    const file = fs.open(path, "read");
    try {
      const bytes = Buffer.alloc(Math.min(offset, COMPARED));
      return bytes.subarray(0, file.read(bytes, 0, bytes.length, offset - bytes.length));
    } finally {
      file.close();
    }
  });
  if (found !== undefined && expected?.equals(found) === true) return;
  const end = { segment, offset, position };
  if (found === undefined || expected === undefined || !haveSameRecords(fs, source.directory, copy.directory, end))
    throw diverged(copy, `the events before position ${position + 1} differ`);
}

/** The end of a log; if a segment has just begun there, the end of the one before. */
function lastBytes(fs: FileSystem, { directory, end }: LogExtent): Pick<LogPlace, "segment" | "offset"> {
  if (end.offset > 0) return end;
  const segment = listSegments(fs, directory).findLast((first) => first < end.segment);
  return segment === undefined ? end : { segment, offset: fs.stat(segmentPath(directory, segment))?.size ?? 0 };
}

function diverged({ directory }: LogExtent, why: string): EventfoldError {
  return new EventfoldError(
    "COPY_DIVERGED",
    `${parentOf(directory)} is no copy of this store: ${why}. Something else has written to one of the two; copy to an empty directory`,
  );
}

function partsToCopy(fs: FileSystem, source: LogExtent, copy: LogExtent): SegmentPart[] {
  return listSegments(fs, source.directory)
    .filter((segment) => segment >= copy.end.segment && segment <= source.end.segment)
    .map((segment) => ({
      segment,
      from: segment === copy.end.segment ? copy.end.offset : 0,
      to:
        segment === source.end.segment
          ? source.end.offset
          : (fs.stat(segmentPath(source.directory, segment))?.size ?? 0),
    }))
    .filter(({ from, to }) => from < to);
}

/** Copies a part of a segment and makes it durable; yields after each chunk the number of its bytes. */
async function* copyPart(
  fs: FileSystem,
  source: string,
  target: string,
  { segment, from, to }: SegmentPart,
): AsyncGenerator<number, void, undefined> {
  const reading = fs.open(segmentPath(source, segment), "read");
  let writing: FileHandle | undefined;
  try {
    writing = fs.open(segmentPath(target, segment), "create");
    const buffer = Buffer.allocUnsafe(Math.min(CHUNK, to - from));
    for (let at = from; at < to;) {
      const length = reading.read(buffer, 0, Math.min(buffer.length, to - at), at);
      // The check of what was copied says what is missing.
      if (length === 0) break;
      writing.write(buffer, 0, length, at);
      at += length;
      yield length;
    }
    await writing.flush();
    if (from === 0) await fs.syncDirectory(target);
  } finally {
    reading.close();
    writing?.close();
  }
}

async function checkCopy(
  fs: FileSystem,
  source: LogExtent,
  copy: LogExtent,
  signal: AbortSignal | undefined,
): Promise<void> {
  const scanner = new LogScanner(fs, copy.directory);
  const { end, invalid } = await pacedScan(scanner, copy.end, source.end, undefined, signal);
  // A segment without a byte is not copied.
  const isAtEnd = source.end.offset === 0 || (end.segment === source.end.segment && end.offset === source.end.offset);
  if (invalid === undefined && isAtEnd && end.position === source.end.position) return;
  // The source's own files are named if the damage is theirs.
  await pacedRead(new LogScanner(fs, source.directory), copy.end, source.end, undefined, signal);
  throw scanner.corruption(end, invalid ?? "the copy ends here, its source does not");
}
