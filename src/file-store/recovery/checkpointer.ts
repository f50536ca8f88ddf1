import type { FileSystem } from "../../fs/file-system.ts";
import { startTimer } from "../../real-timers.ts";
import type { Applier } from "../apply/applier.ts";
import type { DirtyFiles } from "../apply/dirty-files.ts";
import type { UnsettledStreams } from "../apply/unsettled-streams.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import type { StoreLock } from "../disk/store-lock.ts";
import type { CommitLog } from "../log/commit-log.ts";
import { scannedRecord } from "../log/committed-record.ts";
import { earliest, isBefore, type LogPlace } from "../log/log-place.ts";
import type { ProgressLog } from "../progress/progress-log.ts";
import type { Cuts } from "../streams/cuts.ts";
import type { StreamIndex } from "../streams/stream-index.ts";
import type { StreamRegistry } from "../streams/stream-registry.ts";
import type { UnappliedRecords } from "../streams/unapplied-records.ts";
import { type Marker, readMarker, writeMarker } from "./marker.ts";

/** How much log the next opening may have to apply again, and how long it may lie there. */
const MAX_BYTES = 8 << 20;
const DELAY_MS = 1000;
const LOG_START: Marker = { segment: 1, offset: 0, position: 0, cut: 0 };

export interface CheckpointerParts {
  readonly fs: FileSystem;
  readonly paths: StorePaths;
  readonly log: CommitLog;
  readonly lock: StoreLock;
  readonly registry: StreamRegistry;
  readonly applier: Applier;
  readonly dirty: DirtyFiles;
  readonly unsettled: UnsettledStreams;
  readonly unapplied: UnappliedRecords;
  readonly index: StreamIndex;
  readonly progress: ProgressLog;
  readonly cuts: Cuts;
}

/**
 * Moves the marker in the background: makes the files that follow the log durable, saves the stream index, then writes up to
 * where both hold. The next opening recovers from there.
 */
export class Checkpointer {
  readonly #parts: CheckpointerParts;
  #marked: LogPlace;
  #running: Promise<void> | undefined;
  #cancelStart: (() => void) | undefined;
  #stopped = false;
  #flushFailed = false;

  /** `marked` is where the marker is now. */
  constructor(parts: CheckpointerParts, marked: LogPlace) {
    this.#parts = parts;
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
    const { segment, offset } = this.#parts.log.end;
    return segment !== this.#marked.segment || offset - this.#marked.offset > MAX_BYTES;
  }

  /** Moves the marker to the end of the log and stops. */
  async finish(): Promise<void> {
    this.#stopped = true;
    this.#cancelStart?.();
    await this.#running;
    await this.#move();
  }

  /** Moves the marker to the end of the log. */
  async settle(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
    await (this.#running = this.#move().finally(() => (this.#running = undefined)));
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
    const { fs, paths, log, lock, dirty, unapplied, unsettled, index, progress, cuts } = this.#parts;
    if (!unsettled.isEmpty) await lock.hold(() => unsettled.settleAll(0));
    const end = earliest(log.end, unapplied.start, unsettled.start);
    if (!isBefore(this.#marked, end) && !index.needsSaving) return;
    const ends = index.beginSave();
    try {
      // After a failed flush the system may have dropped pages: only bytes that are written again can be trusted.
      if (this.#flushFailed) await lock.hold(() => this.#reapply());
      this.#flushFailed = true;
      await dirty.flush();
      this.#flushFailed = false;
      await lock.hold(async () => {
        await index.save(ends, end.position);
        // Another process may be further.
        const marked = readMarker(fs, paths.marker);
        if (marked?.unsettled === true) {
          this.findUnsettled();
          await unsettled.settleAll(0);
          await dirty.flush();
        }
        const reached = earliest(end, unsettled.start);
        if (marked !== undefined && !isBefore(marked, reached)) {
          if (marked.unsettled === true && unsettled.isEmpty)
            await writeMarker(fs, paths.marker, { ...marked, unsettled: false });
          return;
        }
        const cut = await cuts.save(reached);
        const consumers = progress.consumers();
        await writeMarker(fs, paths.marker, { ...reached, cut, consumers, unsettled: !unsettled.isEmpty });
      });
    } catch (error) {
      index.saveFailed();
      throw error;
    }
    this.#marked = earliest(end, unsettled.start);
  }

  /**
   * Lets other processes know that streams' files lack committed lines: they must not take them for damaged, nor move the marker
   * past the lines. Call it before the lines are announced. Needs the store's lock.
   */
  async announceUnsettled(): Promise<void> {
    const { fs, paths, unsettled } = this.#parts;
    if (unsettled.isEmpty) return;
    const marked = readMarker(fs, paths.marker) ?? LOG_START;
    if (marked.unsettled !== true) await writeMarker(fs, paths.marker, { ...marked, unsettled: true });
  }

  /** Whether a process has announced such streams. Needs no lock. */
  get isAnyUnsettled(): boolean {
    const { fs, paths, unsettled } = this.#parts;
    return !unsettled.isEmpty || readMarker(fs, paths.marker)?.unsettled === true;
  }

  /** Finds the streams that another process has announced. Needs the store's lock. */
  findUnsettled(): void {
    const { fs, paths, log, applier, unapplied, unsettled } = this.#parts;
    const marked = readMarker(fs, paths.marker);
    if (marked?.unsettled !== true) return;
    const end = earliest(log.end, unapplied.start);
    if (isBefore(marked, end))
      log.scanner.read(marked, end, (header, buffer, base, segment) => {
        applier.findMissing(scannedRecord(header, buffer, base, segment));
      });
    unsettled.addBegunMoves();
  }

  /** Writes everything after the marker to its files once more. */
  async #reapply(): Promise<void> {
    const { log, registry, applier, unsettled } = this.#parts;
    const registered = registry.names();
    unsettled.whileAppending(() =>
      log.scanner.read(this.#marked, log.end, (header, buffer, base, segment) => {
        applier.reapply(scannedRecord(header, buffer, base, segment), registered);
      }),
    );
    await unsettled.settleAll(0);
  }
}
