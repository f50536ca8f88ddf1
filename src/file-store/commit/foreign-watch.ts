import { Slice } from "../../event-loop.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import { monotonicNow } from "../../real-timers.ts";
import { idsUnreachable } from "../../tracing/tracing.ts";
import type { LogFollower } from "../apply/log-follower.ts";
import { readError } from "../disk/io-error.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import { isUnreachableId, type StreamKey } from "../disk/stream-key.ts";
import type { StreamFiles } from "../streams/stream-files.ts";
import type { StreamIndex } from "../streams/stream-index.ts";
import { rawStreams, streamDirectories } from "../streams/stream-list.ts";

/** Up to this many streams, a reader waits until all of them have been looked at. */
const MAX_AWAITED_STREAMS = 10_000;
/** How old a look at all streams may be for a reader. */
const INTERVAL_MS = 800;
/** In a large store, looking takes at most one part in this many of the time. */
const SHARE = 20;
/** Streams that are adopted in one record. */
const ADOPTED_AT_ONCE = 100;

export interface ForeignWatchParts {
  readonly fs: FileSystem;
  readonly paths: StorePaths;
  readonly files: StreamFiles;
  readonly index: StreamIndex;
  readonly follower: LogFollower;
  /** Commits the foreign lines of a stream. */
  readonly adopt: (key: StreamKey) => Promise<void>;
  /** Readers wait in stores of any size. */
  readonly isAlwaysAwaited: boolean;
  /** The Rust crate never appends to these streams. */
  readonly isNeverNeeded?: boolean;
}

/**
 * Finds the streams to which the Rust crate has appended: their files are longer than what is committed. Its appends leave no other
 * trace, so this takes a call to the file system for each stream. It happens only while there are readers.
 */
export class ForeignWatch {
  readonly #parts: ForeignWatchParts;
  /** Sizes of files at which nothing was to be adopted. */
  #sizes = new Map<StreamKey, number>();
  #isLarge = false;
  #isReported = false;
  #running: Promise<void> | undefined;
  /** When the next look at all streams is due. */
  #due = 0;

  constructor(parts: ForeignWatchParts) {
    this.#parts = parts;
    if (parts.isNeverNeeded === true) this.#due = Infinity;
  }

  /** Adopts the lines of all streams, if it is time to look. Large stores do so in the background. */
  async look(): Promise<void> {
    if (this.#running === undefined && monotonicNow() < this.#due) return;
    this.#running ??= this.#lookAtAll().finally(() => (this.#running = undefined));
    if (this.#isLarge && !this.#parts.isAlwaysAwaited) {
      // If it fails in the background, the next reader begins again.
      this.#running.catch(() => {});
      return;
    }
    try {
      await this.#running;
    } catch (error) {
      throw readError(error, this.#parts.paths.streams);
    }
  }

  /** Adopts the lines of one stream. */
  async lookAt(key: StreamKey): Promise<void> {
    if (this.#isLonger(key)) await this.#parts.adopt(key);
  }

  /** Resolves when nothing runs any more. */
  async finish(): Promise<void> {
    this.#due = Infinity;
    await this.#running?.catch(() => {});
  }

  async #lookAtAll(): Promise<void> {
    const { fs, paths, follower } = this.#parts;
    const started = monotonicNow();
    const keys = streamDirectories(fs, paths);
    if (!this.#isReported) this.#reportUnreachable();
    this.#isLarge = keys.length > MAX_AWAITED_STREAMS;
    const longer: StreamKey[] = [];
    const slice = new Slice();
    for (const key of keys) {
      if (this.#isLonger(key)) longer.push(key);
      if (!slice.isOver) continue;
      await slice.next();
      follower.catchUp();
    }
    for (let i = 0; i < longer.length; i += ADOPTED_AT_ONCE)
      // A stream that cannot be adopted says so when it is read.
      await Promise.allSettled(longer.slice(i, i + ADOPTED_AT_ONCE).map((key) => this.#parts.adopt(key)));
    // A small store is searched often enough for readers to see everything within a second.
    const pause = this.#isLarge ? Math.max(INTERVAL_MS, (monotonicNow() - started) * SHARE) : INTERVAL_MS;
    this.#due = Math.max(this.#due, monotonicNow() + pause);
  }

  #reportUnreachable(): void {
    this.#isReported = true;
    const { fs, paths } = this.#parts;
    const streams = rawStreams(fs, paths).filter(({ id }) => isUnreachableId(id));
    if (streams.length > 0) idsUnreachable.publish(() => ({ directory: paths.base, streams }));
  }

  #isLonger(key: StreamKey): boolean {
    const { files, index } = this.#parts;
    let size: number;
    try {
      size = files.size(key) ?? 0;
      if (this.#sizes.get(key) === size) return false;
      const end = index.known(key)?.end ?? index.applied(key);
      if (end === undefined) return false;
      const isLonger = size > end.end;
      // Bytes that are not adopted (an unfinished line, blank lines) are looked at once.
      if (isLonger || !this.#isLarge) this.#sizes.set(key, size);
      return isLonger;
    } catch {
      // Reading the stream reports it.
      return false;
    }
  }
}
