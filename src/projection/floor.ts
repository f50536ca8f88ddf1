import { Slice } from "../event-loop.ts";

/**
 * Who has the floor folds for a slice of time, then gives it to the next one. When many projections catch up at once, taking turns after
 * every few hundred events makes each start again with a cold cache: fifty took twice as long as one after the other.
 */
export class Floor {
  #isTaken = false;
  readonly #waiting: (() => void)[] = [];

  async take(): Promise<void> {
    if (this.#isTaken) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#isTaken = true;
  }

  /** To whoever has waited longest. */
  give(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#isTaken = false;
    else next();
  }

  /** The batches of somebody who has the floor while he works through each of them, and gives it on when his time is over. */
  async *during<T>(batches: AsyncIterable<T>): AsyncGenerator<T, void, undefined> {
    await this.take();
    try {
      const slice = new Slice();
      for await (const batch of batches) {
        yield batch;
        if (!slice.isOver) continue;
        this.give();
        await slice.next();
        await this.take();
      }
    } finally {
      this.give();
    }
  }
}
