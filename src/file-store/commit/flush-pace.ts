import { timeInTurn } from "../../event-loop.ts";

/** A flush that takes less than this, in ms, is cheaper on the spot than through the thread pool. */
const QUICK_MS = 1;
/** Assumed of a disk before the first flush, in ms. */
const UNKNOWN_MS = 4;
/** A caller that awaits one command after the other would block the event loop if all were flushed on the spot. In ms. */
const STRETCH_MS = 5;

/**
 * Tells whether a small write should be made durable on the spot. While the disk is quick, a lone
 * command is flushed on the spot, which blocks the event loop for a tenth of a millisecond on a good disk. While the disk is slow,
 * flushes go to the thread pool.
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

  /** Call after a write whose time says nothing about the disk, because other work ran meanwhile. After many, the disk counts as quick again. */
  forget(): void {
    this.#average *= 0.95;
  }
}
