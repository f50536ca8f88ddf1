import type { ConsumerKind, StoredEvent } from "../event-store/event-store.ts";
import type { FileSystem } from "../fs/file-system.ts";
import { CommitWatchers } from "./apply/commit-watchers.ts";
import { CheckpointFiles } from "./caches/checkpoint-files.ts";
import { ConsumerCheckpoints } from "./caches/consumer-checkpoints.ts";
import { SnapshotFiles } from "./caches/snapshot-files.ts";
import type { LineHash } from "./caches/snapshot-format.ts";
import { storeSizes } from "./disk/store-sizes.ts";
import type { StorePaths } from "./disk/store-paths.ts";
import type { CommitLog } from "./log/commit-log.ts";
import type { CommitObserver } from "./log/committed-record.ts";
import { Head } from "./log/head.ts";
import { LogReader } from "./log/log-reader.ts";
import { RecordCache } from "./log/record-cache.ts";
import { SegmentFiles } from "./log/segment-files.ts";
import { StoreGuard, type StoreGuardParts } from "./log/store-guard.ts";
import { ProgressLog } from "./progress/progress-log.ts";
import type { ReadingParts } from "./store-parts.ts";
import { AdoptedPositions } from "./streams/adopted-positions.ts";
import { Cuts } from "./streams/cuts.ts";
import { StreamFiles } from "./streams/stream-files.ts";
import { StreamIndex } from "./streams/stream-index.ts";
import { StreamKeys } from "./streams/stream-keys.ts";
import { StreamList } from "./streams/stream-list.ts";
import { StreamReader } from "./streams/stream-reader.ts";
import { StreamRegistry } from "./streams/stream-registry.ts";
import { UnappliedRecords } from "./streams/unapplied-records.ts";

export interface WireReadingParts {
  readonly fs: FileSystem;
  readonly paths: StorePaths;
  readonly hash: LineHash;
  readonly log: CommitLog;
  readonly lock: StoreGuardParts["lock"];
  /** The consumers that have notes before the log's end, if known. */
  readonly consumers: readonly string[] | undefined;
  /** Whether this process may have to write acknowledged records again, because their flush failed. */
  readonly mayRewrite: boolean;
}

export interface WiredReading extends Omit<ReadingParts, "follower" | "subjectKeys"> {
  readonly checkpointFiles: CheckpointFiles;
  readonly fs: FileSystem;
  readonly head: Head;
  readonly registry: StreamRegistry;
  readonly observers: readonly CommitObserver[];
}

/** Makes the parts that read, from the disk up. `observers` have to learn of each record, before the watchers. */
export function wireReading({ fs, paths, hash, log, lock, consumers, mayRewrite }: WireReadingParts): WiredReading {
  const mergesNames = fs.stat(`${paths.base}/META`) !== undefined;
  const head = new Head(fs, paths.head);
  const recent = new RecordCache();
  const progress = new ProgressLog(fs, paths, log, consumers);

  const files = new StreamFiles(fs, paths.streams, mergesNames);
  const registry = new StreamRegistry(fs, paths.registry);
  const keys = new StreamKeys(fs, paths);
  const unapplied = new UnappliedRecords();
  const positions = new AdoptedPositions(log);
  const cuts = new Cuts(fs, paths.cuts, log);
  const index = new StreamIndex({ fs, path: paths.streamEnds, log, files, unapplied, cuts });
  const streams = new StreamReader({ log, files, index, unapplied, positions, cuts });
  const list = new StreamList({ fs, paths, files, registry, index, keys, unapplied });
  const reader = new LogReader(log, recent, cuts, (stream, key) => streams.origin(stream, key));

  const checkpointFiles = new CheckpointFiles(
    fs,
    paths,
    {
      hash,
      openStream: (stream) => files.openForReading(keys.of(stream)),
    },
    (kind, sample) => isDroppedSample(cuts, keys, kind, sample),
  );
  const checkpoints = new ConsumerCheckpoints(checkpointFiles, reader, progress);
  const snapshots = new SnapshotFiles(fs, files, hash);
  const guard = new StoreGuard({ paths, lock, log, head, isLogTrusted: () => !mayRewrite || unapplied.isEmpty });

  const closeFiles = (): void => {
    for (const part of [files, registry, index, head, log]) part.close();
  };
  return {
    ...{ fs, paths, log, head, files, registry, keys, index, cuts, list, streams, unapplied, reader, progress, guard },
    ...{ snapshots, checkpoints, checkpointFiles, closeFiles },
    location: fs.realPath?.(paths.base) ?? paths.base,
    watchers: new CommitWatchers(),
    sizes: () => storeSizes(SegmentFiles.on(fs).physical, paths, droppedBytes(cuts, files)),
    observers: [cuts, index, progress, positions, recent],
  };
}

/** Bytes of the lines before the last cuts, in the streams' files. Reclaimed lines are blank. */
function droppedBytes(cuts: Cuts, files: StreamFiles): number {
  let bytes = 0;
  const before = Buffer.alloc(2);
  for (const [key, { at }] of cuts.lastUpTo(Infinity)) {
    const file = at < 2 ? undefined : files.openForReading(key);
    if (file === undefined) continue;
    file.read(before, 0, 2, at - 2);
    file.close();
    if (before.toString("latin1") !== "\n\n") bytes += at;
  }
  return bytes;
}

/**
 * Whether a sample in a checkpoint may have something of a dropped event. The state of a projection or a process manager is made of the
 * events of many streams; that of an aggregate is its own.
 */
function isDroppedSample(cuts: Cuts, keys: StreamKeys, kind: ConsumerKind, sample: unknown): boolean {
  if (cuts.isEmpty) return false;
  const { event } = sample as { readonly event?: string };
  const { stream, version, position } = JSON.parse(event ?? "{}") as Partial<StoredEvent>;
  if (stream === undefined || version === undefined || position === undefined) return true;
  if (kind !== "aggregate") return position <= cuts.lastPosition;
  return version < (cuts.last(keys.of(stream))?.version ?? 0);
}
