import { EventfoldError, isEventfoldError } from "../../errors.ts";
import type { BackupReport } from "../../event-store/event-store.ts";
import type { EventIdentity } from "../../event-store/event-digest.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import { makeDirectoryDurably } from "../disk/durable-directory.ts";
import { StoreLock } from "../disk/store-lock.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import { Head } from "../log/head.ts";
import type { LogPlace } from "../log/log-place.ts";
import { LogScanner } from "../log/log-scanner.ts";
import { pacedScan } from "../log/paced-scan.ts";
import { listSegments, segmentHeader, segmentPath } from "../log/segment.ts";
import { readMarker } from "../recovery/marker.ts";
import { StreamRegistry } from "../streams/stream-registry.ts";
import { type BesideLog, writeBesideLog } from "./copy-beside-log.ts";
import { copyKeys } from "./copy-keys.ts";
import { compareEnds, copyLog, type LogCopyOptions, type LogExtent } from "./copy-log.ts";
import { beginCopy, copyState, cutAfterRecords, endCopy } from "../recovery/copy-marker.ts";

const LOG_START: LogPlace = { segment: 1, offset: 0, position: 0 };

/** What a copy is made of. */
export interface CopySource {
  /** The source's `commit_log/`. */
  readonly commitLog: string;
  readonly end: LogPlace;
  /** A record that follows `end` in the copy. */
  readonly rest?: Buffer | undefined;
  readonly beside: BesideLog;
  /** Position of the copy's last event. */
  readonly position: number;
  /** That event, if the copy ends before the source. */
  readonly last?: EventIdentity | undefined;
}

export interface CopyOptions extends LogCopyOptions {
  /** Whether the directory may have a copy, to which what is new is added. */
  readonly incremental: boolean;
  /** The store whose keys of personal fields are copied, too. */
  readonly keysOf?: StorePaths | undefined;
  /** Opens a store, which completes its files from the log, and closes it. */
  readonly settle: (directory: string) => Promise<void>;
}

/**
 * Copies a store's log into a directory, then has the directory opened as a store, which makes everything else from the log. Durable
 * when it resolves. Until the log is whole, `meta/copying.json` keeps the directory from being used for more than it is.
 */
export async function copyStore(
  fs: FileSystem,
  source: CopySource,
  target: StorePaths,
  options: CopyOptions,
): Promise<BackupReport> {
  await prepareTarget(fs, target, options.incremental);
  const lock = StoreLock.open(fs, target.lock, { turn: target.turn });
  let bytes: number;
  try {
    bytes = await lock.hold(() => copyLocked(fs, source, target, options));
  } finally {
    lock.close();
  }
  if (options.keysOf !== undefined) await copyKeys(fs, options.keysOf, target);
  await options.settle(target.base);
  await flushHead(fs, target);
  return { position: source.position, bytes };
}

/** Makes the target's directories. Throws `TARGET_NOT_EMPTY` for a directory that may not become, or be, this copy. */
async function prepareTarget(fs: FileSystem, target: StorePaths, incremental: boolean): Promise<void> {
  const isUnsettled = copyState(fs, target).kind === "unsettled";
  const hasLog = listSegments(fs, target.commitLog).length > 0;
  const entries = fs.readDirectory(target.base);
  // A store without events counts as empty, and so does what a process has left that was killed when it began a copy.
  const isEmpty =
    !hasLog &&
    entries.every(({ name }) => ["meta", "streams", "commit_log", "keys"].includes(name)) &&
    fs.readDirectory(target.streams).length === 0;
  if (!isEmpty && !isUnsettled && !(incremental && hasLog))
    throw new EventfoldError(
      "TARGET_NOT_EMPTY",
      `expected an empty directory for the copy, found ${entries.length} entries in ${target.base}; ${
        hasLog ? "with incremental: true, a backup adds what is new to an earlier one" : "name another directory"
      }`,
    );
  await makeDirectoryDurably(fs, target.meta, target.base);
}

async function copyLocked(
  fs: FileSystem,
  source: CopySource,
  target: StorePaths,
  { signal, onProgress }: CopyOptions,
): Promise<number> {
  const log = { directory: source.commitLog, end: source.end };
  const earlier = await findEarlier(fs, log, target, signal);
  await beginCopy(fs, target, earlier.isWhole ? earlier.end : undefined);
  await makeDirectoryDurably(fs, target.commitLog, target.base);
  await cutAfterRecords(fs, target, earlier.end, signal);
  await writeBesideLog(fs, target, source.beside, source.position, source.last);
  const copy = { directory: target.commitLog, end: earlier.end };
  const bytes = await copyLog(fs, log, copy, { signal, onProgress });
  if (source.rest !== undefined) await appendRest(fs, target, source.end, source.rest);
  // A power cut may have torn what an earlier try has written. The opening adds what is missing.
  await new StreamRegistry(fs, target.registry).removeUnreadable();
  await endCopy(fs, target);
  return bytes + (source.rest?.length ?? 0);
}

/** Where the records of an earlier copy end, and whether that was a whole one. Throws `COPY_DIVERGED` for a whole one of other events. */
async function findEarlier(
  fs: FileSystem,
  source: LogExtent,
  target: StorePaths,
  signal: AbortSignal | undefined,
): Promise<{ readonly end: LogPlace; readonly isWhole: boolean }> {
  const state = copyState(fs, target);
  const isWhole = state.kind === "settled" ? listSegments(fs, target.commitLog).length > 0 : state.whole !== undefined;
  const known = state.kind === "settled" ? readMarker(fs, target.marker) : state.whole;
  const scanner = new LogScanner(fs, target.commitLog);
  const { end } = await pacedScan(scanner, known ?? LOG_START, undefined, undefined, signal);
  try {
    compareEnds(fs, source, { directory: target.commitLog, end });
    return { end, isWhole };
  } catch (error) {
    if (isWhole || !isEventfoldError(error, "COPY_DIVERGED")) throw error;
    // The remains of a copy of another store are of no use.
    fs.remove(target.commitLog);
    return { end: LOG_START, isWhole };
  }
}

/** Others do not need it durable, but a copy may be the last thing that is written to a disk. */
async function flushHead(fs: FileSystem, target: StorePaths): Promise<void> {
  const head = new Head(fs, target.head);
  try {
    await head.flush();
  } finally {
    head.close();
  }
}

async function appendRest(fs: FileSystem, target: StorePaths, end: LogPlace, rest: Buffer): Promise<void> {
  const file = fs.open(segmentPath(target.commitLog, end.segment), "create");
  try {
    const header = Buffer.from(segmentHeader(end.segment));
    if (end.offset === 0) file.write(header, 0, header.length, 0);
    file.write(rest, 0, rest.length, Math.max(end.offset, header.length));
    await file.flush();
  } finally {
    file.close();
  }
  await fs.syncDirectory(target.commitLog);
}
