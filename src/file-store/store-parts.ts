import type {
  BackupOptions,
  BackupReport,
  EventStoreCapabilities,
  ReclaimOptions,
  ReclaimReport,
  StoreSizes,
  NameLease,
} from "../event-store/event-store.ts";
import type { CommitWatchers } from "./apply/commit-watchers.ts";
import type { LogFollower } from "./apply/log-follower.ts";
import type { UnsettledStreams } from "./apply/unsettled-streams.ts";
import type { ConsumerCheckpoints } from "./caches/consumer-checkpoints.ts";
import type { SnapshotFiles } from "./caches/snapshot-files.ts";
import type { Committer } from "./commit/committer.ts";
import type { ForeignWatch } from "./commit/foreign-watch.ts";
import type { StorePaths } from "./disk/store-paths.ts";
import type { StoreLock } from "./disk/store-lock.ts";
import type { FileSubjectKeys } from "./keys/file-subject-keys.ts";
import type { CommitLog } from "./log/commit-log.ts";
import type { LogReader } from "./log/log-reader.ts";
import type { StoreGuard } from "./log/store-guard.ts";
import type { ProgressLog } from "./progress/progress-log.ts";
import type { Checkpointer } from "./recovery/checkpointer.ts";
import type { Cuts } from "./streams/cuts.ts";
import type { StreamFiles } from "./streams/stream-files.ts";
import type { StreamIndex } from "./streams/stream-index.ts";
import type { StreamKeys } from "./streams/stream-keys.ts";
import type { StreamList } from "./streams/stream-list.ts";
import type { StreamReader } from "./streams/stream-reader.ts";
import type { UnappliedRecords } from "./streams/unapplied-records.ts";

/** The parts that read, as `wire-reading.ts` makes them. */
export interface ReadingParts {
  readonly paths: StorePaths;
  /** The directory's one path: it may have been opened through a symbolic link. */
  readonly location: string;
  readonly log: CommitLog;
  readonly files: StreamFiles;
  readonly keys: StreamKeys;
  readonly index: StreamIndex;
  readonly cuts: Cuts;
  readonly list: StreamList;
  readonly streams: StreamReader;
  readonly unapplied: UnappliedRecords;
  readonly reader: LogReader;
  readonly progress: ProgressLog;
  readonly guard: StoreGuard;
  /** Sees what other processes have committed. Needs no lock. */
  readonly follower: Pick<LogFollower, "catchUp">;
  readonly watchers: CommitWatchers;
  readonly snapshots: SnapshotFiles;
  readonly checkpoints: ConsumerCheckpoints;
  /** The keys of personal fields. */
  readonly subjectKeys: FileSubjectKeys;
  /** The sizes of all files. */
  readonly sizes: () => Promise<StoreSizes>;
  /** Closes all files but the lock. */
  readonly closeFiles: () => void;
}

/** The parts of an open store, as `open-store.ts` wires them. */
export interface StoreParts extends ReadingParts {
  readonly capabilities: EventStoreCapabilities;
  readonly lock: StoreLock;
  readonly unsettled: UnsettledStreams;
  readonly checkpointer: Checkpointer;
  readonly committer: Committer;
  readonly foreign: ForeignWatch;
  readonly acquireName: (name: string) => NameLease | undefined;
  /** Copies the store to a directory. */
  readonly backup: (directory: string, options: BackupOptions) => Promise<BackupReport>;
  /** Removes dropped events for good. */
  readonly reclaim: (options: ReclaimOptions) => Promise<ReclaimReport>;
}
