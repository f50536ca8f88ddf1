import { EventfoldError } from "../../errors.ts";
import type { BackupOptions, BackupReport } from "../../event-store/event-store.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import type { LogFollower } from "../apply/log-follower.ts";
import type { StoreLock } from "../disk/store-lock.ts";
import { type StorePaths, storePaths } from "../disk/store-paths.ts";
import type { CommitLog } from "../log/commit-log.ts";
import { earliest, type LogPlace } from "../log/log-place.ts";
import type { UnappliedRecords } from "../streams/unapplied-records.ts";
import { readBesideLog } from "./copy-beside-log.ts";
import { type CopyOptions, copyStore } from "./copy-store.ts";

export interface BackupParts {
  readonly fs: FileSystem;
  readonly paths: StorePaths;
  readonly log: CommitLog;
  readonly lock: StoreLock;
  readonly follower: LogFollower;
  readonly unapplied: UnappliedRecords;
}

/** Copies an open store to another directory, up to the last commit that was acknowledged before the call. */
export async function backup(
  parts: BackupParts,
  directory: string,
  { keys = false, ...options }: Omit<CopyOptions, "keysOf"> & Pick<BackupOptions, "keys">,
): Promise<BackupReport> {
  const { fs, paths } = parts;
  const target = storePaths(fs.resolve(directory));
  checkApart(paths, target);
  const beside = await readBesideLog(fs, paths);
  const end = await durableEnd(parts);
  const copied = keys ? { ...options, keysOf: paths } : options;
  return copyStore(fs, { commitLog: paths.commitLog, end, position: end.position, beside }, target, copied);
}

/** Throws `INVALID_ARGUMENT` unless a copy's directory is outside that of its source. */
export function checkApart(source: StorePaths, target: StorePaths): void {
  if (!`${target.base}/`.startsWith(`${source.base}/`)) return;
  throw new EventfoldError(
    "INVALID_ARGUMENT",
    `expected a directory for the copy outside the store's, found ${target.base} for the store in ${source.base}`,
  );
}

/** The end of what no power cut can take back. */
async function durableEnd({ log, lock, follower, unapplied }: BackupParts): Promise<LogPlace> {
  // With durability "os", the last commits are flushed before the lock is free.
  if (!unapplied.isEmpty) await lock.hold(async () => {});
  follower.catchUp();
  return earliest(log.end, unapplied.start);
}
