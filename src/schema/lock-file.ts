import type { AnyContract } from "../aggregate/aggregate.ts";
import { EventfoldError } from "../errors.ts";
import { ioError } from "../file-store/disk/io-error.ts";
import { readWhole, replaceFile } from "../file-store/disk/whole-file.ts";
import { openNodeFileSystem } from "../fs/node-file-system.ts";
import { compareLocks, type LockDifference } from "./compare-locks.ts";
import { describeEvents, type EventLock, type LockOptions } from "./event-lock.ts";

export interface WriteLockOptions extends LockOptions {
  /** Writes the file although the model has changed in a way that `checkEventLock` reports. Default: false. */
  readonly force?: boolean;
}

/**
 * Writes the events of aggregates or contracts to a file, `events.lock.json` by convention. Throws `MODEL_CHANGED` if there is one
 * already and `checkEventLock` would report differences, unless `force` is set.
 */
export async function writeEventLock(
  path: string,
  contracts: readonly AnyContract[],
  { force = false, ...options }: WriteLockOptions = {},
): Promise<void> {
  const fs = await openNodeFileSystem();
  const present = await describeEvents(contracts, options);
  const file = fs.resolve(path);
  try {
    const bytes = readWhole(fs, file);
    if (bytes !== undefined && !force) {
      const differences = compareLocks(lockOf(path, bytes), present);
      if (differences.length > 0)
        throw new EventfoldError(
          "MODEL_CHANGED",
          `${path} was not replaced: ${differences.map(({ message }) => message).join("\n")}`,
        );
    }
    await replaceFile(fs, file, `${JSON.stringify(present, undefined, 2)}\n`, true);
  } catch (error) {
    throw ioError(error, `writing ${path}`);
  }
}

/**
 * Compares the events of aggregates or contracts with the file that `writeEventLock` has written. Returns what would make stored events
 * lost or misread: a shape that has changed without a step, an event that has vanished, a name that is used again. Throws `INVALID_ARGUMENT` if
 * there is no such file.
 */
export async function checkEventLock(
  path: string,
  contracts: readonly AnyContract[],
  options: LockOptions = {},
): Promise<LockDifference[]> {
  const fs = await openNodeFileSystem();
  let bytes: Buffer | undefined;
  try {
    bytes = readWhole(fs, fs.resolve(path));
  } catch (error) {
    throw ioError(error, `reading ${path}`);
  }
  if (bytes === undefined)
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `expected the lock file ${path}, found none; write it first, with writeEventLock or the command eventfold schema`,
    );
  return compareLocks(lockOf(path, bytes), await describeEvents(contracts, options));
}

function lockOf(path: string, bytes: Buffer): EventLock {
  try {
    const lock = JSON.parse(bytes.toString("utf8")) as EventLock;
    if (lock["eventfold-es"] === "events" && lock.format === 1) return lock;
  } catch {
    // Reported below.
  }
  throw new EventfoldError("INVALID_ARGUMENT", `${path} is no lock file of events that this version can read`);
}
