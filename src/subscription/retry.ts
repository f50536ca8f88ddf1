import { type Duration, milliseconds } from "../duration.ts";
import { EventfoldError } from "../errors.ts";
import { startTimer } from "../real-timers.ts";

/** A handler that fails is tried again after this long, then twice as long, and so on. */
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 30_000;
/** How often the clock is read while a handler waits for its next attempt, in ms. */
const TICK_MS = 20;

/** How often a handler that fails is tried, and after which pauses. */
export interface RetryOptions {
  /** How often an event is given to the handler, the first time included, before it becomes a dead letter. */
  readonly attempts: number;
  /**
   * The pause before the second attempt, which doubles with each further one up to 30 seconds, unless it is longer by itself: milliseconds or a text like `"1s"`. Or a
   * function of the number of failures so far that gives each pause. 50 ms if left out.
   */
  readonly backoff?: number | Duration | ((failures: number) => number | Duration) | undefined;
}

/** Throws `INVALID_ARGUMENT` for options that cannot be meant. */
export function checkRetry({ attempts, backoff }: RetryOptions): void {
  if (!(Number.isSafeInteger(attempts) && attempts >= 1))
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `retry expected attempts to be a whole number from 1 on, found ${String(attempts)}`,
    );
  if (backoff !== undefined && typeof backoff !== "function") milliseconds(backoff, "backoff");
}

/** The pause after so many failures, in milliseconds. */
export function pauseAfter(failures: number, backoff: RetryOptions["backoff"] = FIRST_PAUSE_MS): number {
  if (typeof backoff === "function") return milliseconds(backoff(failures), "backoff");
  const first = milliseconds(backoff, "backoff");
  return Math.min(first * 2 ** (failures - 1), Math.max(first, LONGEST_PAUSE_MS));
}

/** Waits until a clock has moved on by `ms` milliseconds. A step back of the clock counts as no time. */
export async function waitByClock(now: () => number, ms: number, ended: AbortSignal): Promise<void> {
  let last = now();
  for (let left = ms; left > 0 && !ended.aborted;) {
    await pause(Math.min(left, TICK_MS), ended);
    const time = now();
    left -= Math.max(time - last, 0);
    last = time;
  }
}

/** Waits for `ms` milliseconds of real time. */
export function pause(ms: number, ended: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const finish = (): void => {
      cancel();
      ended.removeEventListener("abort", finish);
      resolve();
    };
    const cancel = startTimer(finish, ms, "foreground");
    ended.addEventListener("abort", finish);
    if (ended.aborted) finish();
  });
}
