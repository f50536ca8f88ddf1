import { type Duration, milliseconds } from "../duration.ts";

/** A clock that moves only when a test moves it. Pass `clock.now` to `builder.clock`. */
export interface ManualClock {
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** Moves the clock forward, by milliseconds or by a duration like `"14d"`. */
  advance(by: number | Duration): void;
  /** Moves the clock to a time, in milliseconds since 1970 or as a `Date`. */
  set(time: number | Date): void;
}

/** Makes a manual clock that shows `start`. Default: 2000-01-01. */
export function manualClock(start: number | Date = Date.UTC(2000, 0, 1)): ManualClock {
  let time = Number(start);
  return {
    now: () => time,
    /** Moves the clock forward, by milliseconds or by a duration like `"14d"`. */
    advance(by) {
      time += milliseconds(by, "advance");
    },
    set(next) {
      time = Number(next);
    },
  };
}

/** Ids in sequence: `event-1`, `event-2`, …. With `builder.ids(sequentialIds())`, the same run writes the same files. */
export function sequentialIds(prefix = "event-"): () => string {
  let last = 0;
  return () => `${prefix}${++last}`;
}
