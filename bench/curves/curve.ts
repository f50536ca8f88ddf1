import type { Run } from "../run.ts";
import type { Spread } from "../statistics.ts";
import type { Sample } from "../tasks/task.ts";

/** How something grows with the size of something else. */
export interface Curve {
  /** Names the files: `data/<name>.json`, `docs/images/<name>.svg`. */
  readonly name: string;
  readonly title: string;
  /** What grows. */
  readonly axis: string;
  readonly sizes: readonly number[];
  /** Sizes above this are left out in a quick run. */
  readonly quick: number;
  readonly panels: readonly Panel[];
  measure(run: Run, size: number): Promise<Sample>;
}

/** One diagram: what goes up. */
export interface Panel {
  readonly title: string;
  readonly scale: "linear" | "logarithmic";
  readonly series: readonly Series[];
}

export interface Series {
  readonly metric: string;
  readonly label: string;
}

/** A curve as it was measured; the contents of `data/<name>.json`. */
export interface MeasuredCurve {
  readonly name: string;
  readonly title: string;
  readonly axis: string;
  readonly panels: readonly Panel[];
  readonly machine: string;
  readonly date: string;
  readonly rounds: number;
  readonly points: readonly Point[];
}

export interface Point {
  readonly size: number;
  readonly metrics: Readonly<Record<string, Spread>>;
}
