import { EventfoldError } from "../../errors.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import { parentOf } from "../disk/durable-directory.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import { CommitLog, DEFAULT_LOG_OPTIONS } from "../log/commit-log.ts";
import type { LogPlace } from "../log/log-place.ts";
import { pacedScan } from "../log/paced-scan.ts";
import { readMarker, writeMarker } from "./marker.ts";

/** Nothing of a copy is whole yet. */
const NOTHING: LogPlace = { segment: 1, offset: 0, position: 0 };

/** Says that a copy into the directory is under way, and up to where its log was whole before. Durable. */
export async function beginCopy(fs: FileSystem, paths: StorePaths, whole: LogPlace = NOTHING): Promise<void> {
  await writeMarker(fs, paths.copying, whole);
}

/** Says that the log is whole. Durable. */
export async function endCopy(fs: FileSystem, paths: StorePaths): Promise<void> {
  fs.remove(paths.copying);
  await fs.syncDirectory(parentOf(paths.copying));
}

/** What a directory is to those who copy. */
export type CopyState =
  /** No copy is under way. */
  | { readonly kind: "settled" }
  /** A copy was cut off, or is under way; without `whole` there is nothing yet that could be used. */
  | { readonly kind: "unsettled"; readonly whole: LogPlace | undefined };

export function copyState(fs: FileSystem, paths: StorePaths): CopyState {
  if (fs.stat(paths.copying) === undefined) return { kind: "settled" };
  const whole = readMarker(fs, paths.copying);
  const isNothing = whole === undefined || (whole.offset === 0 && whole.position === 0);
  return { kind: "unsettled", whole: isNothing ? undefined : whole };
}

/** Throws `COPY_INCOMPLETE` for a directory into which a store was copied for the first time, if that was not completed. */
export function refuseIncompleteCopy(fs: FileSystem, paths: StorePaths): void {
  const state = copyState(fs, paths);
  if (state.kind === "settled" || state.whole !== undefined) return;
  throw new EventfoldError(
    "COPY_INCOMPLETE",
    `${paths.base} was to become a copy of a store, but the copy was not completed: make it again, and it goes on where it ended, or delete the directory`,
  );
}

/**
 * Prepares a directory for use if a copy into it was cut off: keeps the whole records, and removes what follows them, which only the
 * source has. Throws `COPY_INCOMPLETE` if it never was a whole copy. Needs the store's lock.
 */
export async function settleCopy(fs: FileSystem, paths: StorePaths): Promise<void> {
  const state = copyState(fs, paths);
  if (state.kind === "settled") return;
  refuseIncompleteCopy(fs, paths);
  if (state.whole !== undefined) await cutAfterRecords(fs, paths, state.whole);
  await endCopy(fs, paths);
}

/** Removes what follows the whole records after a place, durably. Returns the place after the last one. */
export async function cutAfterRecords(
  fs: FileSystem,
  paths: StorePaths,
  from: LogPlace,
  signal?: AbortSignal,
): Promise<LogPlace> {
  const log = new CommitLog(fs, paths.commitLog, DEFAULT_LOG_OPTIONS, from);
  try {
    const { end } = await pacedScan(log.scanner, from, undefined, undefined, signal);
    log.moveTo(end);
    await log.flushFrom(from);
    await log.cutTail();
    return end;
  } finally {
    log.close();
  }
}
