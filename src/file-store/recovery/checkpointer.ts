import type { FileSystem } from "../../fs/file-system.ts";
import type { Applier } from "../apply/applier.ts";
import type { CommitLog } from "../log/commit-log.ts";
import { isBefore, type LogPlace } from "../log/log-place.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import { readMarker, writeMarker } from "./marker.ts";
import type { PendingBatches } from "../streams/unapplied-records.ts";
import type { StoreLock } from "../disk/store-lock.ts";
import type { StreamEnds } from "../streams/stream-index.ts";
import { startTimer } from "../../real-timers.ts";

/** How much log the next opening may have to apply again, and how long it may lie there. */
const MAX_BYTES = 8 << 20;
const DELAY_MS = 1000;

/**
 * Moves the marker behind the commits, in the background: makes the streams' files durable, then notes
 * up to where that holds.
 */
export class Checkpointer {
  readonly #fs: FileSystem;
  readonly #paths: StorePaths;
  readonly #log: CommitLog;
  readonly #lock: StoreLock;
  readonly #applier: Applier;
  readonly #pending: PendingBatches;
  readonly #ends: StreamEnds;
  readonly #reapply: (from: LogPlace) => void;
  #marked: LogPlace;
  #running: Promise<void> | undefined;
  #cancelStart: (() => void) | undefined;
  #stopped = false;
  #flushFailed = false;

  /** `marked` is where the marker is now. */
  constructor(
    parts: {
      readonly fs: FileSystem;
      readonly paths: StorePaths;
      readonly log: CommitLog;
      readonly lock: StoreLock;
      readonly applier: Applier;
      readonly pending: PendingBatches;
      readonly ends: StreamEnds;
      readonly reapply: (from: LogPlace) => void;
    },
    marked: LogPlace,
  ) {
    this.#fs = parts.fs;
    this.#paths = parts.paths;
    this.#log = parts.log;
    this.#lock = parts.lock;
    this.#applier = parts.applier;
    this.#pending = parts.pending;
    this.#ends = parts.ends;
    this.#reapply = parts.reapply;
    this.#marked = marked;
  }

  /** Sees to it that the marker moves soon. */
  schedule(): void {
    if (this.#running !== undefined || this.#stopped) return;
    if (this.#isFarBehind) this.#start();
    else this.#cancelStart ??= startTimer(() => this.#start(), DELAY_MS, "background");
  }

  /**
   * Moves the marker before anything else happens if it is far behind. Processes that are killed young would never come to it
   * otherwise, and each would have more to recover than the one before.
   */
  async bound(): Promise<void> {
    if (!this.#isFarBehind) return;
    this.#start();
    await this.#running;
  }

  get #isFarBehind(): boolean {
    const { segment, offset } = this.#log.end;
    return segment !== this.#marked.segment || offset - this.#marked.offset > MAX_BYTES;
  }

  /** Moves the marker to the end of the log and stops. */
  async finish(): Promise<void> {
    this.#stopped = true;
    this.#cancelStart?.();
    await this.#running;
    await this.#move();
  }

  #start(): void {
    this.#cancelStart?.();
    this.#cancelStart = undefined;
    if (this.#running !== undefined || this.#stopped) return;
    this.#running = this.#move()
      // The marker stays where it is: the next opening has more to do, and nothing is lost.
      .catch(() => {})
      .finally(() => (this.#running = undefined));
  }

  async #move(): Promise<void> {
    const end = this.#pending.list[0]?.place ?? this.#log.end;
    if (!isBefore(this.#marked, end) && !this.#ends.needsWriting) return;
    const ends = this.#ends.take();
    try {
      if (this.#flushFailed) {
        // The system may have dropped what it could not write: only what is written again can be trusted.
        await this.#lock.hold(async () => this.#reapply(this.#marked));
      }
      this.#flushFailed = true;
      await this.#applier.flush();
      this.#flushFailed = false;
      await this.#lock.hold(async () => {
        await this.#ends.write(ends, end.position);
        // Another process may be further.
        const there = readMarker(this.#fs, this.#paths.marker);
        if (there === undefined || isBefore(there, end)) await writeMarker(this.#fs, this.#paths.marker, end);
      });
    } catch (error) {
      this.#ends.notWritten();
      throw error;
    }
    this.#marked = end;
  }
}
