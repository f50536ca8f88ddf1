import { number, times } from "./format.ts";
import type { Result } from "./run.ts";
import { median } from "./statistics.ts";
import type { Sample } from "./tasks/task.ts";

/** A single stretch of the event loop may be so long, in ms. */
const LONGEST_STRETCH_MS = 20;

/** A target and its result. */
export interface Check {
  readonly target: string;
  readonly measured: string;
  /** `undefined` if it was not measured. */
  readonly met: boolean | undefined;
}

/** The middle of the ratios of all rounds, each of measurements made shortly after one another. Not a number if one is missing. */
export function ratio(results: readonly Result[], key: string, other: string, metric: string): number {
  return paired(results, key, other, metric, (a, b) => a / b);
}

/** As `ratio`: the middle of the differences. */
export function difference(results: readonly Result[], key: string, other: string, metric: string): number {
  return paired(results, key, other, metric, (a, b) => a - b);
}

function paired(
  results: readonly Result[],
  key: string,
  other: string,
  metric: string,
  compare: (a: number, b: number) => number,
): number {
  const samples = samplesOf(results, key);
  const others = samplesOf(results, other);
  const rounds = Math.min(samples.length, others.length);
  const value = (sample: Sample | undefined): number => sample?.[metric] ?? Number.NaN;
  return median(Array.from({ length: rounds }, (_, n) => compare(value(samples[n]), value(others[n]))));
}

/** The middle of a metric; not a number if it was not measured. */
export function middle(results: readonly Result[], key: string, metric: string): number {
  return median(samplesOf(results, key).map((sample) => sample[metric] ?? Number.NaN));
}

function samplesOf(results: readonly Result[], key: string): readonly Sample[] {
  return results.find((result) => result.key === key)?.samples ?? [];
}

/** A target for a ratio or another number. */
export function check(
  target: string,
  value: number,
  limit: { readonly most: number } | { readonly least: number },
  unit = "×",
): Check {
  const met = "most" in limit ? value <= limit.most : value >= limit.least;
  const known = Number.isFinite(value);
  return {
    target,
    measured: known ? (unit === "×" ? times(value) : `${number(value)} ${unit}`) : "–",
    met: known ? met : undefined,
  };
}

/** No stretch of the event loop is too long, in any of the entries. */
export function checkLoop(results: readonly Result[], keys: readonly string[], metric = "loopMs"): Check {
  const longest = Math.max(...keys.map((key) => middle(results, key, metric)));
  return check(`event loop: no stretch over ${LONGEST_STRETCH_MS} ms`, longest, { most: LONGEST_STRETCH_MS }, "ms");
}
