import { type Duration, milliseconds } from "../duration.ts";

/** A clock that stands still until it is moved; for `builder.clock(clock.now)`. */
export interface ManualClock {
  /** Milliseconds since 1970. */
  readonly now: () => number;
  advance(by: number | Duration): void;
  set(time: number | Date): void;
}

/** Makes a manual clock; it shows 2000-01-01 if no time is given. */
export function manualClock(start: number | Date = Date.UTC(2000, 0, 1)): ManualClock {
  let time = Number(start);
  return {
    now: () => time,
    advance(by) {
      time += milliseconds(by, "advance");
    },
    set(next) {
      time = Number(next);
    },
  };
}

/** Ids in sequence (`event-1`, `event-2`, …), for `builder.ids(sequentialIds())`: the same run gives the same files. */
export function sequentialIds(prefix = "event-"): () => string {
  let last = 0;
  return () => `${prefix}${++last}`;
}
