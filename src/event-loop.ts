/** Working for longer than this, in ms, lets other work run in between. */
const SLICE_MS = 10;

/** Calls back in a later task: after input, timers and other work that is due, but without waiting for time to pass. */
const later: (work: () => void) => void = laterTasks();

function laterTasks(): (work: () => void) => void {
  // The real ones, also if a test replaces the globals later.
  const {
    setImmediate: immediate,
    MessageChannel: Channel,
    setTimeout: timeout,
  } = globalThis as Partial<typeof globalThis>;
  if (immediate !== undefined) return (work) => void immediate(work);
  // Browsers make timeouts wait: 4 ms when they are nested, a second or a minute in a hidden tab. Messages do not wait.
  if (Channel !== undefined) {
    const { port1, port2 } = new Channel();
    const waiting: (() => void)[] = [];
    port1.addEventListener("message", () => waiting.shift()?.());
    port1.start();
    return (work) => {
      waiting.push(work);
      port2.postMessage(null);
    };
  }
  return (work) => void timeout?.(work);
}

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
