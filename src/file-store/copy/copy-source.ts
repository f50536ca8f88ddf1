import { EventfoldError } from "../../errors.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import { StoreLock } from "../disk/store-lock.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import { readWhole } from "../disk/whole-file.ts";
import { isFollowedByFlushed } from "../log/durable-tail.ts";
import { decodeHead } from "../log/head.ts";
import { endsBefore, isBefore, type LogPlace } from "../log/log-place.ts";
import { LogScanner } from "../log/log-scanner.ts";
import { pacedScan } from "../log/paced-scan.ts";
import { listSegments } from "../log/segment.ts";
import { readMarker } from "../recovery/marker.ts";
import { findStreams } from "../streams/stream-list.ts";
import { copyState, refuseIncompleteCopy } from "../recovery/copy-marker.ts";

/** Where the commit log in a directory ends. */
export interface SourceEnd {
  readonly end: LogPlace;
  /** Throws `CORRUPT_LOG` if committed records after `end` cannot be read. */
  readonly check: () => void;
}

/**
 * Finds the end of the log in a directory that no program may have open, or that one is writing to: then the end is what that
 * program has announced. Changes nothing. Throws `INVALID_ARGUMENT` for a directory without a store, and `COPY_INCOMPLETE`.
 */
export async function findSourceEnd(fs: FileSystem, paths: StorePaths, signal?: AbortSignal): Promise<SourceEnd> {
  if (fs.stat(paths.base)?.directory !== true)
    throw new EventfoldError("INVALID_ARGUMENT", `expected the directory of a store, found no directory ${paths.base}`);
  refuseIncompleteCopy(fs, paths);
  if (listSegments(fs, paths.commitLog).length === 0 && hasEvents(fs, paths))
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `${paths.base} has events, but no commit log; open it once as a store, which makes the log`,
    );
  const state = copyState(fs, paths);
  if (state.kind === "unsettled" && state.whole !== undefined) return { end: state.whole, check: () => {} };
  return (await withLock(fs, paths, () => findEnd(fs, paths, true, signal))) ?? findEnd(fs, paths, false, signal);
}

function hasEvents(fs: FileSystem, paths: StorePaths): boolean {
  return findStreams(fs, paths).some((key) => (fs.stat(`${paths.streams}/${key}/app.jsonl`)?.size ?? 0) > 0);
}

/** The end that the processes which use a store have announced, or nothing. One small read. */
export function announcedEnd(fs: FileSystem, paths: StorePaths): LogPlace | undefined {
  const bytes = readWhole(fs, paths.head);
  return bytes === undefined ? undefined : decodeHead(bytes);
}

/** With the lock, whole records after what was announced count: a process died before it announced them. */
async function findEnd(
  fs: FileSystem,
  paths: StorePaths,
  isLocked: boolean,
  signal: AbortSignal | undefined,
): Promise<SourceEnd> {
  const scanner = new LogScanner(fs, paths.commitLog);
  const marker = readMarker(fs, paths.marker);
  const announced = announcedEnd(fs, paths);
  const from = marker ?? scanner.beginning();
  const limit = isLocked || announced === undefined || isBefore(announced, from) ? undefined : announced;
  const { end, invalid } = await pacedScan(scanner, from, limit, undefined, signal);
  const isDamaged =
    (announced !== undefined && endsBefore(end, announced)) || (isLocked && isDamagedAt(fs, scanner, end));
  return {
    end,
    check: () => {
      if (isDamaged) throw scanner.corruption(end, invalid ?? "records are missing");
    },
  };
}

function isDamagedAt(fs: FileSystem, scanner: LogScanner, end: LogPlace): boolean {
  if (scanner.segments().some((segment) => segment > end.position + 1)) return true;
  const bytes = readWhole(fs, scanner.segmentPath(end.segment))?.subarray(end.offset);
  return bytes !== undefined && isFollowedByFlushed(bytes, end.offset);
}

/** Runs work with the store's lock held. Nothing if there is no lock to be had: the directory is read-only, or another process keeps it. */
async function withLock<T>(fs: FileSystem, paths: StorePaths, work: () => Promise<T>): Promise<T | undefined> {
  let lock: StoreLock | undefined;
  let isHeld = false;
  try {
    if (fs.stat(paths.lock) === undefined) return undefined;
    lock = StoreLock.open(fs, paths.lock);
    return await lock.hold(() => {
      isHeld = true;
      return work();
    });
  } catch (error) {
    if (isHeld) throw error;
    return undefined;
  } finally {
    lock?.close();
  }
}
