import { inNextTurn, monotonicNow } from "./real-timers.ts";

/** Working for longer than this, in ms, lets other work run in between. */
const SLICE_MS = 10;

/** One turn of the event loop. */
export function turn(): Promise<void> {
  return new Promise(inNextTurn);
}

/** Measures how long a long piece of work has kept the thread. */
export class Slice {
  #started = monotonicNow();

  get isOver(): boolean {
    return monotonicNow() - this.#started > SLICE_MS;
  }

  /** Lets everything else have its turn, and begins anew. */
  async next(): Promise<void> {
    await turn();
    this.#started = monotonicNow();
  }
}

/** Calls within this time, in ms, after the first one are not measured: measuring takes an immediate, and most turns are over by then. */
const UNMEASURED_MS = 2;

/** When the first call came after the last measured turn. */
let firstCall: number | undefined;
/** When the present turn of the event loop was first measured. */
let began: number | undefined;

/**
 * For how long, in ms, the event loop has not had its turn, measured since one of the first calls in this turn. Small pieces of work for
 * many callers in one turn add up to a long piece of work.
 */
export function timeInTurn(): number {
  const now = monotonicNow();
  if (began !== undefined) return now - began;
  firstCall ??= now;
  if (now - firstCall >= UNMEASURED_MS) {
    began = now;
    inNextTurn(() => (began = firstCall = undefined));
  }
  return 0;
}

/** Whether it is time to let other work run. */
export function isTurnLong(): boolean {
  return timeInTurn() > SLICE_MS;
}
