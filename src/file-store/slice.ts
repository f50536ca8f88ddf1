/** Working for longer than this lets other work run in between. */
const SLICE_MS = 10;

/** Measures how long a long piece of work has kept the thread. */
export class Slice {
  #started = performance.now();

  get isOver(): boolean {
    return performance.now() - this.#started > SLICE_MS;
  }

  /** Lets everything else have its turn, and begins anew. */
  async next(): Promise<void> {
    await turn();
    this.#started = performance.now();
  }
}

/** One turn of the event loop. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
