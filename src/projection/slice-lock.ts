import { Slice } from "../event-loop.ts";

/**
 * A fair lock for long folds. The holder folds for one slice of time, then yields to the longest waiter. Without it, projections
 * that catch up at the same time would alternate after every few hundred events, each with a cold cache: fifty took twice
 * as long as one after the other.
 */
export class SliceLock {
  #isHeld = false;
  readonly #waiting: (() => void)[] = [];

  async #acquire(): Promise<void> {
    // A released lock passes to the waiter directly, and stays held.
    if (this.#isHeld) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#isHeld = true;
  }

  #release(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#isHeld = false;
    else next();
  }

  /** Passes batches on while the lock is held. Between two batches it yields the lock when the slice is over. */
  async *inSlices<T>(batches: AsyncIterable<T>): AsyncGenerator<T, void, undefined> {
    await this.#acquire();
    try {
      const slice = new Slice();
      for await (const batch of batches) {
        yield batch;
        if (!slice.isOver) continue;
        this.#release();
        await slice.next();
        await this.#acquire();
      }
    } finally {
      this.#release();
    }
  }
}
