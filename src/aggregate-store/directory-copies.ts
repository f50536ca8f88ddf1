import { EventfoldError } from "../errors.ts";
import { isDate } from "../realm.ts";
import type { BackupReport } from "../event-store/event-store.ts";
import type { FileSystem } from "../fs/file-system.ts";

/** How much of the commit log is copied. */
export interface CopyProgress {
  readonly bytes: number;
  readonly totalBytes: number;
}

export interface RestoreOptions {
  /** Restore up to this position, 0 for an empty store. All of it if neither this nor `at` is given. */
  readonly position?: number;
  /** Restore up to the last event that is not later than this time, a date or milliseconds since 1970. */
  readonly at?: Date | number;
  /** Copies the keys of personal fields, too, if the source has them. Default: false. */
  readonly keys?: boolean;
  /** Ends the restoration with the signal's reason. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: CopyProgress) => void;
  /** Another implementation of the file port, for tests. */
  readonly fileSystem?: FileSystem;
}

export interface FollowOptions {
  /** Ends it. */
  readonly signal?: AbortSignal;
  /** Called whenever the copy is up to date again, with the position of its last event. */
  readonly onProgress?: (progress: { readonly position: number }) => void;
  /** Another implementation of the file port, for tests. */
  readonly fileSystem?: FileSystem;
}

/**
 * Makes a store in an empty directory from the store in another: a backup, or a directory that programs have open. Durable when it
 * resolves. Throws `TARGET_NOT_EMPTY`, `INVALID_ARGUMENT` for a position that the source does not have, `COPY_INCOMPLETE` for a
 * backup that was never completed, and `CORRUPT_LOG` for a damaged source.
 */
export async function restore(source: string, target: string, options: RestoreOptions = {}): Promise<BackupReport> {
  const { position, at, keys, signal, onProgress, fileSystem } = options;
  checkDirectories(source, target);
  if (position !== undefined && at !== undefined)
    throw new EventfoldError("INVALID_ARGUMENT", "restore expected a position or a time, found both; leave one out");
  if (position !== undefined && !(Number.isSafeInteger(position) && position >= 0))
    throw new EventfoldError("INVALID_ARGUMENT", `restore expected a position, found ${String(position)}`);
  const time = isDate(at) ? at.getTime() : at;
  if (time !== undefined && !Number.isFinite(time))
    throw new EventfoldError("INVALID_ARGUMENT", `restore expected a date or milliseconds, found ${String(at)}`);
  const { restoreDirectory } = await import("#open-directory");
  return restoreDirectory(source, target, { position, at: time, keys, signal, onProgress }, fileSystem);
}

/**
 * Keeps a copy of the store in a directory up to date in another one, beside the programs that have the store open. Resolves when the
 * signal is aborted, with the position of the copy's last event. The copy is a whole store at any time: call it again after an
 * error, and it goes on. Throws what `backup` throws, and `STORE_REPLACED` if the source is gone.
 */
export async function follow(
  source: string,
  target: string,
  { signal, onProgress, fileSystem }: FollowOptions = {},
): Promise<{ readonly position: number }> {
  checkDirectories(source, target);
  const { followDirectory } = await import("#open-directory");
  return followDirectory(source, target, { signal, onProgress }, fileSystem);
}

function checkDirectories(...directories: readonly unknown[]): void {
  const bad = directories.find((directory) => typeof directory !== "string" || directory === "");
  if (bad !== undefined || directories.includes(undefined))
    throw new EventfoldError("INVALID_ARGUMENT", `expected the paths of two directories, found ${JSON.stringify(bad)}`);
}
