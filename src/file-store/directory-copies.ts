import { orAborted } from "../abort.ts";
import { EventfoldError } from "../errors.ts";
import type { BackupReport } from "../event-store/event-store.ts";
import type { FileSystem } from "../fs/file-system.ts";
import { sleep } from "../real-timers.ts";
import { checkApart } from "./copy/backup.ts";
import { readBesideLog } from "./copy/copy-beside-log.ts";
import type { CopyProgress } from "./copy/copy-log.ts";
import { copyState } from "./recovery/copy-marker.ts";
import { announcedEnd, findSourceEnd } from "./copy/copy-source.ts";
import { copyStore } from "./copy/copy-store.ts";
import { checkNotReclaimed, findCut, positionAt } from "./copy/cut-point.ts";
import { type StorePaths, storePaths } from "./disk/store-paths.ts";
import { isBefore, type LogPlace } from "./log/log-place.ts";
import { SegmentFiles } from "./log/segment-files.ts";
import { settleDirectory } from "./open-store.ts";

/** How often a source is asked for new commits, in ms. */
const POLL_MS = 50;

export interface RestoreDirectoryOptions {
  readonly position?: number | undefined;
  /** Milliseconds since 1970. */
  readonly at?: number | undefined;
  readonly keys?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: CopyProgress) => void) | undefined;
}

export interface FollowDirectoryOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: { readonly position: number }) => void) | undefined;
}

/** Copies a store up to a position, or to the last event that is not later than a time, into an empty directory. */
export async function restoreDirectory(
  real: FileSystem,
  from: string,
  to: string,
  { position, at, keys, signal, onProgress }: RestoreDirectoryOptions,
): Promise<BackupReport> {
  const fs = SegmentFiles.on(real);
  const source = storePaths(fs.resolve(from));
  const target = storePaths(fs.resolve(to));
  checkApart(source, target);
  const beside = await readBesideLog(fs, source);
  const { end, check } = await findSourceEnd(fs, source, signal);
  const { commitLog } = source;
  const wanted = at === undefined ? position : await positionAt(fs, commitLog, end, at, signal);
  // Damage after the position does not matter.
  if (wanted === undefined || wanted > end.position) check();
  if (wanted !== undefined && wanted > end.position)
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `expected a position up to ${end.position}, the last one in ${source.base}, found ${wanted}`,
    );
  const cut =
    wanted === undefined
      ? { end, rest: undefined, last: undefined }
      : await findCut(fs, commitLog, end, wanted, signal);
  if (wanted !== undefined) await checkNotReclaimed(fs, commitLog, end, wanted, signal);
  // The remains of a restoration that was cut off may be of another position.
  const state = copyState(fs, target);
  if (state.kind === "unsettled" && state.whole === undefined) fs.remove(target.commitLog);
  const keysOf = keys === true ? source : undefined;
  const options = {
    signal,
    onProgress,
    keysOf,
    incremental: false,
    settle: (path: string) => settleDirectory(fs, path),
  };
  return copyStore(fs, { commitLog, ...cut, position: wanted ?? end.position, beside }, target, options);
}

/** Keeps a copy up to date until the signal is aborted. Resolves with the copy's position. */
export async function followDirectory(
  real: FileSystem,
  from: string,
  to: string,
  { signal, onProgress = () => {} }: FollowDirectoryOptions,
): Promise<{ readonly position: number }> {
  const fs = SegmentFiles.on(real);
  const source = storePaths(fs.resolve(from));
  const target = storePaths(fs.resolve(to));
  checkApart(source, target);
  let position = 0;
  try {
    for (let copied: LogPlace | undefined; ;) {
      signal?.throwIfAborted();
      copied = await copyNews(fs, source, target, copied, signal);
      ({ position } = copied);
      onProgress({ position });
      while (!hasNews(fs, source, copied)) await orAborted(sleep(POLL_MS), signal);
    }
  } catch (error) {
    if (signal?.aborted === true && error === signal.reason) return { position };
    throw error;
  }
}

/** Brings a copy up to date. Returns where it ends. */
async function copyNews(
  fs: FileSystem,
  source: StorePaths,
  target: StorePaths,
  copied: LogPlace | undefined,
  signal: AbortSignal | undefined,
): Promise<LogPlace> {
  const beside = await readBesideLog(fs, source);
  const announced = announcedEnd(fs, source);
  let end = announced;
  if (copied === undefined || end === undefined) {
    const found = await findSourceEnd(fs, source, signal);
    found.check();
    ({ end } = found);
  }
  const options = { signal, incremental: true, settle: (path: string) => settleDirectory(fs, path) };
  await copyStore(fs, { commitLog: source.commitLog, end, position: end.position, beside }, target, options);
  return end;
}

function hasNews(fs: FileSystem, source: StorePaths, copied: LogPlace): boolean {
  const announced = announcedEnd(fs, source);
  if (announced !== undefined) return isBefore(copied, announced);
  if (fs.stat(source.base)?.directory === true) return false;
  throw new EventfoldError(
    "STORE_REPLACED",
    `expected the store that is followed in ${source.base}, found no directory`,
  );
}
