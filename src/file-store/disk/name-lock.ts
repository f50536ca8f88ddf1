import type { NameLease } from "../../event-store/event-store.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import { encodeId } from "../../stream-names.ts";
import { ioError } from "./io-error.ts";
import type { StorePaths } from "./store-paths.ts";

/** The name of the file that a subscription with exclusive use of its name locks. */
export const NAME_LOCK = "lock";

/** Takes a kernel lock for a subscription's name, which ends with the process. `undefined` if another store has it. */
export function acquireName(fs: FileSystem, paths: StorePaths, name: string): NameLease | undefined {
  const directory = `${paths.base}/subscriptions/${encodeId(name)}`;
  try {
    fs.makeDirectory(directory);
    const lock = fs.openLock(`${directory}/${NAME_LOCK}`);
    if (lock.tryAcquire()) return { isHeld: () => lock.isAtPath(), release: () => lock.close() };
    lock.close();
    return undefined;
  } catch (error) {
    throw ioError(error, `locking the subscription ${name}`);
  }
}
