/** Waiting for a disk that is faster than this, in ms, takes less than the way to the thread pool and back. */
const QUICK_MS = 1;
/** What we know of a disk that has not been used yet. */
const UNKNOWN_MS = 4;
/** Whoever waits for each command in turn never lets the event loop have its turn if all are flushed on the spot. */
const STRETCH_MS = 5;

/**
 * Tells whether a small write should be made durable on the spot. While the disk is quick, a command that nobody else waits with is:
 * the event loop stands still for as long as that takes, a tenth of a millisecond on a good disk. Once the disk takes its time,
 * flushes go to the thread pool until it is quick again.
 */
export class FlushPace {
  #average = UNKNOWN_MS;
  /** Since when the event loop has not had its turn. */
  #stretch: number | undefined;

  get isQuick(): boolean {
    return this.#average < QUICK_MS && (this.#stretch === undefined || performance.now() - this.#stretch < STRETCH_MS);
  }

  /** Takes note of a write that took from `started` until now, in ms of the monotonic clock. */
  note(started: number, onTheSpot: boolean): void {
    this.#average += (performance.now() - started - this.#average) / 4;
    if (!onTheSpot || this.#stretch !== undefined) return;
    this.#stretch = started;
    setImmediate(() => (this.#stretch = undefined));
  }
}
