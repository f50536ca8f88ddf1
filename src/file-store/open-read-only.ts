import { EventfoldError } from "../errors.ts";
import type { FileHandle, FileSystem } from "../fs/file-system.ts";
import { OverlayFileSystem } from "../fs/overlay-file-system.ts";
import { ReadOnlyFileSystem } from "../fs/read-only-file-system.ts";
import { ReadOnlyFollower } from "./apply/read-only-follower.ts";
import { loadLineHash } from "./caches/snapshot-format.ts";
import { ioError } from "./disk/io-error.ts";
import { type StorePaths, storePaths } from "./disk/store-paths.ts";
import { storeReplaced } from "./disk/store-replaced.ts";
import { FileSubjectKeys } from "./keys/file-subject-keys.ts";
import { CommitLog, DEFAULT_LOG_OPTIONS } from "./log/commit-log.ts";
import { listSegments } from "./log/segment.ts";
import { SegmentFiles } from "./log/segment-files.ts";
import { checkStart, LOG_START } from "./open-store.ts";
import { ReadOnlyFileStore } from "./read-only-file-store.ts";
import { copyState, refuseIncompleteCopy } from "./recovery/copy-marker.ts";
import { readMarker } from "./recovery/marker.ts";
import { adoptStreams } from "./recovery/rebuild-log.ts";
import { findStreams } from "./streams/stream-list.ts";
import { wireReading } from "./wire-reading.ts";

/**
 * Opens the store in a directory without writing anything: the directory may be read-only or belong to another user, and other processes
 * may write to it. What recovery would complete is read as if it had been. A directory of the Rust crate gets its order in memory.
 */
export async function openReadOnlyFileStore(real: FileSystem, directory: string): Promise<ReadOnlyFileStore> {
  const reading = new ReadOnlyFileSystem(SegmentFiles.on(real));
  const paths = storePaths(reading.resolve(directory));
  try {
    checkExists(reading, paths);
    refuseIncompleteCopy(reading, paths);
    const isAdopted = listSegments(reading, paths.commitLog).length > 0 || findStreams(reading, paths).length === 0;
    const fs = isAdopted ? reading : new OverlayFileSystem(reading);
    if (!isAdopted) await adoptStreams(fs, paths, DEFAULT_LOG_OPTIONS, () => {});
    // What another process adopts has an order of its own.
    const checkAdoption = (): void => {
      if (!isAdopted && reading.stat(paths.commitLog) !== undefined) throw storeReplaced(paths.base, paths.commitLog);
    };
    return await open(fs, paths, reading.open(paths.lock, "create"), checkAdoption);
  } catch (error) {
    throw ioError(error, `opening the store in ${paths.base} for reading`, "nothing was changed");
  }
}

function checkExists(fs: FileSystem, paths: StorePaths): void {
  const kind = fs.stat(paths.base);
  const parts = kind?.directory === true ? [paths.commitLog, paths.streams, paths.meta] : [];
  if (parts.some((path) => fs.stat(path)?.directory === true)) return;
  const found =
    kind === undefined ? "nothing" : kind.directory ? "a directory without commit_log/, streams/ and meta/" : "a file";
  throw new EventfoldError(
    "STORE_NOT_FOUND",
    `expected a store in ${paths.base}, found ${found}; readOnly() makes no store. Correct the path, or open the store once without readOnly()`,
  );
}

async function open(
  fs: FileSystem,
  paths: StorePaths,
  lockFile: FileHandle,
  checkAdoption: () => void,
): Promise<ReadOnlyFileStore> {
  const check = (): void => {
    checkAdoption();
    if (!lockFile.isAtPath()) throw storeReplaced(paths.base, paths.lock);
  };
  let close = (): void => lockFile.close();
  try {
    const marker = readMarker(fs, paths.marker) ?? { ...LOG_START, consumers: [] };
    const log = new CommitLog(fs, paths.commitLog, DEFAULT_LOG_OPTIONS, marker);
    checkStart(fs, log, marker);
    const { consumers } = marker;
    const hash = await loadLineHash();
    const parts = wireReading({ fs, paths, hash, log, lock: { check }, consumers, mayRewrite: false });
    const subjectKeys = new FileSubjectKeys(fs, paths, undefined);
    close = () => {
      subjectKeys.close();
      parts.closeFiles();
      lockFile.close();
    };
    const { index, cuts, head, guard, unapplied, watchers } = parts;
    const follower = new ReadOnlyFollower({
      ...{ log, head, guard, unapplied, directory: paths.commitLog },
      observers: [...parts.observers, watchers],
      // After an addition to a copy that was cut off, only what was announced is whole.
      isUnlocked: () => isUnlocked(lockFile) && copyState(fs, paths).kind === "settled",
    });
    cuts.open(marker, marker.cut);
    index.open(marker);
    await follower.open();
    index.check();
    return new ReadOnlyFileStore({ ...parts, follower, subjectKeys, closeFiles: close });
  } catch (error) {
    close();
    throw error;
  }
}

/** Takes the store's lock for a moment, which changes nothing on disk. */
function isUnlocked(lockFile: FileHandle): boolean {
  try {
    if (!lockFile.tryLock()) return false;
  } catch {
    // Where a lock needs the right to write, e.g. on NFS, no process can be asked.
    return true;
  }
  lockFile.unlock();
  return true;
}
