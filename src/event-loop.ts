/** Working for longer than this, in ms, lets other work run in between. */
const SLICE_MS = 10;

// The real ones, also when a test replaces them later: whoever waits here waits for other work and not for time to pass.
const { setImmediate: immediate, setTimeout: timeout } = globalThis;
const later: (work: () => void) => void =
  typeof immediate === "function" ? (work) => void immediate(work) : (work) => void timeout(work);

/** One turn of the event loop. */
export function turn(): Promise<void> {
  return new Promise(later);
}

/** Calls back in the next turn of the event loop. */
export function inNextTurn(work: () => void): void {
  later(work);
}

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

/** When somebody first asked in the present turn of the event loop. */
let began: number | undefined;

/**
 * For how long, in ms, the event loop has not had its turn, as far as anybody has asked: what is done for many in one go, a little for
 * each, is a long piece of work too.
 */
export function timeInTurn(): number {
  const now = performance.now();
  if (began === undefined) {
    began = now;
    later(() => (began = undefined));
  }
  return now - began;
}

/** Whether it is time to let other work run. */
export function isTurnLong(): boolean {
  return timeInTurn() > SLICE_MS;
}
