import type { FileSystem } from "../fs/file-system.ts";
import { openNodeFileSystem } from "../fs/node-file-system.ts";
import { ioError } from "../file-store/disk/io-error.ts";
import { SegmentFiles } from "../file-store/log/segment-files.ts";
import { storePaths } from "../file-store/disk/store-paths.ts";
import { StoreLock } from "../file-store/disk/store-lock.ts";
import type { VerifyOptions, VerifyReport } from "./findings.ts";
import { Diagnosis, type HoldLock } from "./diagnosis.ts";

/**
 * Reads every file of a store and reports what is damaged, missing or unusual. It changes nothing, and may run while other processes
 * use the store. Throws `INVALID_ARGUMENT` if the directory does not exist, `UNSUPPORTED_FORMAT` if a newer version wrote it,
 * and `IO_ERROR` if a file cannot be read.
 */
export async function verify(directory: string, options: VerifyOptions = {}): Promise<VerifyReport> {
  const fs = SegmentFiles.on(options.fileSystem ?? (await openNodeFileSystem()));
  const { base, lock } = storePaths(fs.resolve(directory));
  try {
    return (await Diagnosis.make(fs, base, lockIfPossible(fs, lock))).report();
  } catch (error) {
    throw ioError(error, `reading the store in ${base}`);
  }
}

/** Holds the store's lock, unless that would create the file or another process keeps the lock. */
function lockIfPossible(fs: FileSystem, path: string): HoldLock {
  return async (work) => {
    let lock: StoreLock | undefined;
    let isHeld = false;
    try {
      if (fs.stat(path) !== undefined) lock = StoreLock.open(fs, path);
      if (lock !== undefined) {
        await lock.hold(async () => {
          isHeld = true;
          await work();
        });
        return true;
      }
    } catch (error) {
      if (isHeld) throw error;
      // The directory is read-only, or another process keeps the lock: work without it.
    } finally {
      lock?.close();
    }
    await work();
    return false;
  };
}
