import { EventfoldError } from "./errors.ts";

const UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** A length of time as text: `"30m"`, `"1.5h"`. */
export type Duration = `${number}${keyof typeof UNITS}`;

/** Milliseconds of a duration, or of a number that is milliseconds already. Throws `INVALID_ARGUMENT` for anything else. */
export function milliseconds(duration: number | Duration, what: string): number {
  const match = typeof duration === "string" ? /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(duration) : undefined;
  const value =
    typeof duration === "number"
      ? duration
      : match === null || match === undefined
        ? NaN
        : Number(match[1]) * UNITS[match[2] as keyof typeof UNITS];
  if (Number.isNaN(value) || value < 0) {
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `${what} is milliseconds or a text like "500ms", "30s", "10m", "2h", "1d"; not ${typeof duration === "number" ? duration : JSON.stringify(duration)}`,
    );
  }
  return value;
}
