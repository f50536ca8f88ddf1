import { timeInTurn } from "../../event-loop.ts";

/** Waiting for a disk that is faster than this, in ms, takes less than the way to the thread pool and back. */
const QUICK_MS = 1;
/** What we know of a disk that has not been used yet. */
const UNKNOWN_MS = 4;
/** Whoever waits for each command in turn would never let the event loop have its turn if all were flushed on the spot. */
const STRETCH_MS = 5;

/**
 * Tells whether a small write should be made durable on the spot. While the disk is quick, a command that nobody else waits with is:
 * the event loop stands still for as long as that takes, a tenth of a millisecond on a good disk. Once the disk takes its time,
 * flushes go to the thread pool until it is quick again.
 */
export class FlushPace {
  #average = UNKNOWN_MS;

  get isQuick(): boolean {
    return this.#average < QUICK_MS && timeInTurn() < STRETCH_MS;
  }

  /** Adds how long a write took, in ms. */
  add(ms: number): void {
    this.#average += (ms - this.#average) / 4;
  }

  /** A write whose time says nothing of the disk, because other work was done meanwhile: in time we try again. */
  forget(): void {
    this.#average *= 0.95;
  }
}
