import { EventfoldError } from "../errors.ts";
import type { EventStore } from "../event-store/event-store.ts";
import type { FileSystem, LockFile } from "../fs/file-system.ts";
import { openNodeFileSystem } from "../fs/node-file-system.ts";
import { ioError } from "./disk/io-error.ts";
import { storePaths } from "./disk/store-paths.ts";
import { readWhole, replaceFile } from "./disk/whole-file.ts";
import { openFileEventStore } from "./open-store.ts";

/** As many stores at a time may keep their replicas in one directory. */
const MOST_REPLICAS = 256;

/** A directory in which one open store keeps a copy of events that another place owns. */
export interface ReplicaDirectory {
  readonly path: string;
  readonly store: EventStore;
  /** The text of the last `keepPlace`; nothing in a new directory. */
  readonly place: string | undefined;
  /** Keeps a text beside the copy, whole. It is flushed when `durable`. */
  keepPlace(text: string, durable: boolean): Promise<void>;
  /** Closes the store, then keeps a last text if one is given, and gives the directory to the next store. */
  close(place?: string): Promise<void>;
}

/**
 * Opens the first of the directories `1`, `2` … in `directory` that no other store uses, in this process or another. A process that starts
 * again so finds the copy that it had.
 */
export async function openReplica(directory: string, fileSystem?: FileSystem): Promise<ReplicaDirectory> {
  const fs = fileSystem ?? (await openNodeFileSystem());
  const base = fs.resolve(directory);
  try {
    refuseStore(fs, base);
    fs.makeDirectory(base);
    for (let n = 1; n <= MOST_REPLICAS; n++) {
      const lock = fs.openLock(`${base}/${n}.lock`);
      if (lock.tryAcquire()) return await openIn(fs, `${base}/${n}`, lock);
      lock.close();
    }
  } catch (error) {
    throw ioError(
      error,
      `opening the replica in ${base}`,
      "correct the path, or delete the directory: a replica can be made again",
    );
  }
  throw new EventfoldError(
    "STORE_BUSY",
    `expected at most ${MOST_REPLICAS} stores with replicas in ${base}, found more`,
  );
}

function refuseStore(fs: FileSystem, base: string): void {
  const { commitLog, streams } = storePaths(base);
  if (fs.stat(commitLog) === undefined && fs.stat(streams) === undefined) return;
  throw new EventfoldError(
    "INVALID_ARGUMENT",
    `expected a directory for replicas, found the store in ${base}; choose another directory`,
  );
}

async function openIn(fs: FileSystem, path: string, lock: LockFile): Promise<ReplicaDirectory> {
  try {
    const file = `${path}.json`;
    // Without its events, a place means nothing.
    const place = fs.stat(path) === undefined ? undefined : readWhole(fs, file)?.toString();
    // What a crash takes from it comes again from where it was copied from.
    const store = await openFileEventStore(fs, path, { durability: "os", foreignEvents: "never" });
    return {
      ...{ path, store, place },
      keepPlace: (text, durable) => replaceFile(fs, file, text, durable),
      close: async (text) => {
        try {
          await store.close();
          if (text !== undefined) await replaceFile(fs, file, text, false);
        } finally {
          lock.close();
        }
      },
    };
  } catch (error) {
    lock.close();
    throw error;
  }
}
