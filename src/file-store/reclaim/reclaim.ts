import { EventfoldError } from "../../errors.ts";
import type { ReclaimOptions, ReclaimReport } from "../../event-store/event-store.ts";
import { Slice } from "../../event-loop.ts";
import type { LogFollower } from "../apply/log-follower.ts";
import type { CheckpointFiles } from "../caches/checkpoint-files.ts";
import type { SnapshotFiles } from "../caches/snapshot-files.ts";
import { removeQuarantined } from "../disk/quarantine.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import type { CommitLog } from "../log/commit-log.ts";
import type { LogPlace } from "../log/log-place.ts";
import { isReclaimed } from "../log/reclaimed-section.ts";
import { readSections, type Section } from "../log/record-sections.ts";
import type { SegmentFiles } from "../log/segment-files.ts";
import type { Checkpointer } from "../recovery/checkpointer.ts";
import { readMarker } from "../recovery/marker.ts";
import type { Recovery } from "../recovery/recover-log.ts";
import type { ProgressLog } from "../progress/progress-log.ts";
import type { Cuts } from "../streams/cuts.ts";
import type { UnappliedRecords } from "../streams/unapplied-records.ts";
import { reclaimSegment } from "./reclaim-log.ts";
import { reclaimStream, type ReclaimStreamParts } from "./reclaim-streams.ts";

export interface ReclaimParts extends ReclaimStreamParts {
  readonly fs: SegmentFiles;
  readonly paths: StorePaths;
  readonly log: CommitLog;
  readonly cuts: Cuts;
  readonly unapplied: UnappliedRecords;
  readonly follower: LogFollower;
  readonly checkpointer: Checkpointer;
  readonly recovery: Recovery;
  readonly snapshots: SnapshotFiles;
  readonly progress: ProgressLog;
  readonly checkpointFiles: CheckpointFiles;
}

/**
 * Removes the lines of dropped events from the log and from the streams' files, and from what was made of them, and compresses the
 * segments that nothing is appended to any more. Each file is whole at each moment, so a process may die or be killed at any time: the
 * next call goes on. Other processes may read and write meanwhile.
 */
export async function reclaim(parts: ReclaimParts, options: ReclaimOptions): Promise<ReclaimReport> {
  const { fs, paths } = parts;
  const lock = fs.openLock(paths.reclaim);
  try {
    if (!lock.tryAcquire())
      throw new EventfoldError(
        "STORE_BUSY",
        `expected no other process to reclaim ${paths.base}, found one that does; wait until it is done`,
      );
    return await new Reclamation(parts, options).run();
  } finally {
    lock.close();
  }
}

const ROUNDS = 4;

class Reclamation {
  readonly #parts: ReclaimParts;
  readonly #options: ReclaimOptions;
  #events = 0;
  #bytes = 0;
  #isDone = true;
  /** How many dropped events stay, by the position of the first one of a section. */
  readonly #kept = new Map<number, number>();
  /** Up to here, the log is durable and in the streams' files. */
  #durable: LogPlace = { segment: 1, offset: 0, position: 0 };

  constructor(parts: ReclaimParts, options: ReclaimOptions) {
    this.#parts = parts;
    this.#options = options;
  }

  async run(): Promise<ReclaimReport> {
    // Beside writers, the last segment may have to wait for the next round.
    for (let round = 0; round < ROUNDS; round++) {
      this.#isDone = true;
      await this.#settle();
      await this.#sealDropped();
      await this.#reclaimLog();
      if (this.#isDone || this.#isOver()) break;
    }
    await this.#reclaimStreams();
    const kept = [...this.#kept.values()].reduce((sum, events) => sum + events, 0);
    return { isDone: this.#isDone, events: this.#events, bytes: this.#bytes, kept };
  }

  /** Makes durable what the removal rests on: the cuts, and the lines after them in the streams' files. */
  async #settle(): Promise<void> {
    const { fs, paths, checkpointer } = this.#parts;
    await checkpointer.settle();
    this.#durable = readMarker(fs, paths.marker) ?? this.#durable;
  }

  /** Whether the lines of a section may go for ever: no reader needs them, and no power cut can take back why. */
  readonly #mayGo = (section: Section): boolean => {
    const { cuts } = this.#parts;
    const { position } = this.#durable;
    if (cuts.isDroppedFor(section, position, this.#options)) return true;
    if (cuts.isDropped(section, position)) this.#kept.set(section.position, section.events);
    return false;
  };

  /** Whether a dead letter was replayed or dropped. */
  #isSettled(name: string, key: string): boolean {
    return this.#parts.progress.deadLetter(name, key) === undefined;
  }

  /** Begins a new segment if the last one has lines that may go. */
  async #sealDropped(): Promise<void> {
    const { log, lock, follower, unapplied, recovery } = this.#parts;
    const { segment } = log.end;
    let found = false;
    log.scanner.scan({ segment, offset: 0, position: segment - 1 }, log.end, (header, buffer, base) => {
      readSections(
        buffer,
        header,
        base,
        (section) => (found ||= this.#mayGo(section) && !isReclaimed(buffer, section)),
        ({ name, deadLetters = [] }) =>
          (found ||= deadLetters.some(
            ({ key, letter }) => Object.keys(letter).length > 0 && this.#isSettled(name, key),
          )),
      );
      return !found;
    });
    if (!found) return;
    await lock.hold(async () => {
      follower.catchUp();
      // A process may have died, or this one have failed, when it began the next segment.
      if (unapplied.isEmpty && log.hasMore()) await recovery.recover();
      if (log.end.segment !== segment) return;
      if (unapplied.isEmpty && !log.hasMore()) {
        await log.seal();
        follower.announce(log.end);
      } else this.#isDone = false;
    });
    await this.#settle();
  }

  async #reclaimLog(): Promise<void> {
    const { fs, log, paths, lock } = this.#parts;
    const { signal, onProgress = () => {} } = this.#options;
    const segments = log.scanner.segments();
    const mayGo = { lines: this.#mayGo, letter: (name: string, key: string) => this.#isSettled(name, key) };
    const sealed = segments.filter((segment) => segment < this.#durable.segment);
    for (const [done, segment] of sealed.entries()) {
      onProgress({ segments: done, totalSegments: sealed.length });
      if (this.#isOver()) return;
      const next = segments[done + 1] ?? this.#durable.segment;
      const parts = { fs, directory: paths.commitLog, lock };
      const { events, before, after } = await reclaimSegment(parts, segment, next, mayGo, signal);
      this.#events += events;
      this.#bytes += before - after;
    }
    onProgress({ segments: sealed.length, totalSegments: sealed.length });
    if (segments.some((segment) => segment >= this.#durable.segment && segment < log.end.segment)) this.#isDone = false;
  }

  /** The streams' files, their snapshots, and samples of events in checkpoints. */
  async #reclaimStreams(): Promise<void> {
    const { cuts, snapshots, checkpointFiles, lock, progress } = this.#parts;
    const slice = new Slice();
    for (const [key, cut] of cuts.lastUpTo(this.#durable.position)) {
      if (this.#isOver()) return;
      await snapshots.removeBefore(key, cut.version);
      if (!(await reclaimStream(this.#parts, key, cut.at))) this.#isDone = false;
      if (slice.isOver) await slice.next();
    }
    if (!cuts.isEmpty) await lock.hold(() => checkpointFiles.removeSamples());
    await lock.hold(async () => progress.removeSettled());
    const { fs, paths } = this.#parts;
    const deleted = [...cuts.lastUpTo(this.#durable.position)].filter(([, { kind }]) => kind === "deleted");
    await removeQuarantined(
      fs,
      paths,
      deleted.map(([key]) => key),
    );
  }

  #isOver(): boolean {
    this.#options.signal?.throwIfAborted();
    if (this.#options.isOver?.() !== true) return false;
    this.#isDone = false;
    return true;
  }
}
