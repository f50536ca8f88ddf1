import type { FileSystem } from "../fs/file-system.ts";
import { ioError } from "../file-store/disk/io-error.ts";
import { storePaths } from "../file-store/disk/store-paths.ts";
import { StoreLock } from "../file-store/disk/store-lock.ts";
import type { VerifyReport } from "./findings.ts";
import { type HoldLock, Survey } from "./diagnosis.ts";

/** See `verify` in `doctor.ts`. */
export async function verifyStore(fs: FileSystem, directory: string): Promise<VerifyReport> {
  const { base, lock } = storePaths(fs.resolve(directory));
  try {
    return (await Survey.make(fs, base, lockIfPossible(fs, lock))).report();
  } catch (error) {
    throw ioError(error, `reading the store in ${base}`);
  }
}

/** Takes the store's lock, unless that would change something or somebody does not give it up. */
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
      // A read-only directory, or somebody holds it all the time: then without it.
    } finally {
      lock?.close();
    }
    await work();
    return false;
  };
}
