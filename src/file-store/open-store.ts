import type { BackupOptions, ReclaimOptions } from "../event-store/event-store.ts";
import { type FileHandle, type FileSystem, systemErrorCode } from "../fs/file-system.ts";
import { Applier } from "./apply/applier.ts";
import { DirtyFiles } from "./apply/dirty-files.ts";
import { LogFollower } from "./apply/log-follower.ts";
import { UnsettledStreams } from "./apply/unsettled-streams.ts";
import { type LineHash, loadLineHash } from "./caches/snapshot-format.ts";
import { Committer } from "./commit/committer.ts";
import { ForeignWatch } from "./commit/foreign-watch.ts";
import { backup } from "./copy/backup.ts";
import { refuseIncompleteCopy, settleCopy } from "./recovery/copy-marker.ts";
import { ioError } from "./disk/io-error.ts";
import { StoreLock } from "./disk/store-lock.ts";
import { acquireName } from "./disk/name-lock.ts";
import { type StorePaths, storePaths } from "./disk/store-paths.ts";
import type { StreamKey } from "./disk/stream-key.ts";
import { FileEventStore } from "./file-event-store.ts";
import { FileSubjectKeys } from "./keys/file-subject-keys.ts";
import { CommitLog, type CommitLogOptions, DEFAULT_LOG_OPTIONS } from "./log/commit-log.ts";
import { listSegments } from "./log/segment.ts";
import { SegmentFiles } from "./log/segment-files.ts";
import { reclaim } from "./reclaim/reclaim.ts";
import { Checkpointer } from "./recovery/checkpointer.ts";
import { type Marker, readMarker } from "./recovery/marker.ts";
import { adoptStreams, registerStreams } from "./recovery/rebuild-log.ts";
import { Recovery } from "./recovery/recover-log.ts";
import { wireReading } from "./wire-reading.ts";

/** When a commit is acknowledged: after a flush, or as soon as the operating system has it. */
export type Durability = "flush" | "os";

export interface FileEventStoreOptions {
  readonly durability?: Durability;
  readonly log?: Partial<CommitLogOptions>;
  /**
   * `"await"`: readers of a store of any size wait until all streams have been searched for foreign lines. `"never"`: they are not searched.
   */
  readonly foreignEvents?: "auto" | "await" | "never";
  /** How long commands wait for the store's lock, in milliseconds; 30,000 if left out. */
  readonly lockTimeout?: number | undefined;
  /** Called with the number of events found so far while a commit log is made for a directory of the Rust crate. */
  readonly onAdoption?: (events: number) => void;
}

/** What opening knows before the parts are wired. */
interface Opening {
  readonly fs: SegmentFiles;
  readonly paths: StorePaths;
  readonly lock: StoreLock;
  readonly hash: LineHash;
  readonly options: FileEventStoreOptions;
}

export const LOG_START: Marker = { cut: 0, segment: 1, offset: 0, position: 0 };

/** Opens the store in a directory: creates it when missing, and recovers it when needed. */
export async function openFileEventStore(
  real: FileSystem,
  directory: string,
  options: FileEventStoreOptions = {},
): Promise<FileEventStore> {
  const fs = SegmentFiles.on(real);
  const paths = storePaths(fs.resolve(directory));
  try {
    // Not after waiting for the lock, which the copying process has.
    refuseIncompleteCopy(fs, paths);
    await makeDirectories(fs, paths);
    const hash = await loadLineHash();
    const lock = StoreLock.open(fs, paths.lock, { turn: paths.turn, patience: options.lockTimeout });
    try {
      const { store, checkpointer } = await lock.hold(() => openLocked({ fs, paths, lock, hash, options }));
      await checkpointer.bound();
      return store;
    } catch (error) {
      lock.close();
      throw error;
    }
  } catch (error) {
    throw ioError(error, `opening the store in ${paths.base}`);
  }
}

/** Opens the store in a directory and closes it, so that its files have everything that its log has. */
export async function settleDirectory(fs: FileSystem, directory: string): Promise<void> {
  const store = await openFileEventStore(fs, directory);
  await store.close();
}

/** Makes the store's directories and their names durable. */
async function makeDirectories(fs: FileSystem, paths: StorePaths): Promise<void> {
  const created = fs.makeDirectory(paths.meta);
  fs.makeDirectory(paths.streams);
  // Every directory that is new, up to the first one that was there; all of them as long as nothing was committed, because
  // the process that made them may have died just then.
  let path = created ?? (listSegments(fs, paths.commitLog).length === 0 ? nextBelow("", paths.meta) : "");
  for (; path !== "" && paths.meta.startsWith(path); path = nextBelow(path, paths.meta)) {
    try {
      await fs.syncDirectory(path.slice(0, path.lastIndexOf("/")) || "/");
    } catch (error) {
      // A directory that may not be opened was not made by this library.
      if (created !== undefined || systemErrorCode(error) !== "EACCES") throw error;
    }
  }
}

/** The directory one step below `path` on the way to `target`; empty at the end of the way. */
function nextBelow(path: string, target: string): string {
  if (path.length >= target.length) return "";
  const slash = target.indexOf("/", path.length + 1);
  return slash < 0 ? target : target.slice(0, slash);
}

async function openLocked(
  opening: Opening,
): Promise<{ readonly store: FileEventStore; readonly checkpointer: Checkpointer }> {
  const { fs, paths, options } = opening;
  await settleCopy(fs, paths);
  const logOptions = { ...DEFAULT_LOG_OPTIONS, ...options.log };
  await makeLog(fs, paths, logOptions, options.onAdoption);
  const marker = readMarker(fs, paths.marker) ?? { ...LOG_START, consumers: [] };
  const log = new CommitLog(fs, paths.commitLog, logOptions, marker);
  checkStart(fs, log, marker);
  const { store, recovery, checkpointer, index, cuts, guard, closeFiles } = wire(opening, log, marker);
  try {
    cuts.open(marker, marker.cut);
    index.open(marker);
    await recovery.recover();
    index.check();
    opening.lock.onAcquired = () => guard.check();
  } catch (error) {
    closeFiles();
    throw error;
  }
  return { store, checkpointer };
}

/** Makes the commit log, or the registry, of a directory that has none: the Rust crate wrote it, or it is damaged. */
async function makeLog(
  fs: FileSystem,
  paths: StorePaths,
  options: CommitLogOptions,
  onAdoption: (events: number) => void = () => {},
): Promise<void> {
  if (listSegments(fs, paths.commitLog).length === 0) await adoptStreams(fs, paths, options, onAdoption);
  else if (fs.stat(paths.registry) === undefined) await registerStreams(fs, paths);
}

/** Throws when the log lacks its beginning, or ends before the marker. */
export function checkStart(fs: FileSystem, log: CommitLog, marker: Marker): void {
  const [first] = log.scanner.segments();
  if (first !== undefined && first !== 1)
    throw log.scanner.corruption(LOG_START, `the first segment is missing; the next is ${first}`);
  if ((fs.stat(log.scanner.segmentPath(marker.segment))?.size ?? 0) < marker.offset)
    throw log.scanner.corruption(marker, "the commit log is shorter than it once was");
}

/** Makes the parts of a store, from the disk up. */
function wire({ fs, paths, lock, hash, options }: Opening, log: CommitLog, marker: Marker) {
  const durability = options.durability ?? "flush";
  const reading = wireReading({ fs, paths, hash, log, lock, consumers: marker.consumers, mayRewrite: true });
  const { files, registry, index, progress, unapplied, head, guard, watchers, observers } = reading;

  const dirty = new DirtyFiles(fs, paths, files, registry);
  const lockedStreams = new Map<StreamKey, FileHandle>();
  const unsettled = new UnsettledStreams({ fs, paths, files, dirty, lockedStreams });
  const applier = new Applier({ files, registry, progress, dirty, unsettled });
  const follower = new LogFollower({
    ...{ log, head, guard, directory: paths.commitLog },
    observers: [...observers, dirty, watchers],
  });

  const applying = { applier, dirty, unapplied, unsettled, lockedStreams };
  const shared = { ...reading, fs, lock, follower, ...applying };
  const checkpointer = new Checkpointer(shared, marker);
  const recovery = new Recovery({ ...shared, checkpointer });
  const committer = new Committer({ ...shared, recovery, checkpointer, durability });

  const foreign = new ForeignWatch({
    ...shared,
    adopt: (key) => committer.adopt(key),
    isAlwaysAwaited: options.foreignEvents === "await",
    isNeverNeeded: options.foreignEvents === "never",
  });

  const subjectKeys = new FileSubjectKeys(fs, paths, (work) => lock.hold(work));
  const closeFiles = (): void => {
    subjectKeys.close();
    reading.closeFiles();
  };
  const store = new FileEventStore({
    ...{ ...shared, checkpointer, committer, foreign, subjectKeys, closeFiles },
    acquireName: (name) => acquireName(fs, paths, name),
    backup: (target: string, copying: BackupOptions) =>
      backup(shared, target, { ...copying, settle: (path) => settleDirectory(fs, path) }),
    reclaim: (reclaiming: ReclaimOptions) => reclaim({ ...shared, checkpointer, recovery }, reclaiming),
    capabilities: { durable: durability === "flush", multiProcess: true },
  });
  return { store, recovery, checkpointer, index, cuts: reading.cuts, guard, closeFiles };
}
