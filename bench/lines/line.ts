import type { Check } from "../compare.ts";
import type { Result, Run } from "../run.ts";

/** One line of the contract: some work, its measurements, and its targets. */
export interface Line {
  readonly number: number;
  measure(run: Run): Promise<Measured>;
}

export interface Measured {
  /** The work, with the sizes of this run. */
  readonly work: string;
  readonly checks: readonly Check[];
  readonly results: readonly Result[];
  /** Metrics that the table of results shows besides the event loop. */
  readonly columns: readonly Column[];
  /** Figures of others, measured elsewhere. */
  readonly elsewhere?: string;
  readonly remarks?: readonly string[];
}

export interface Column {
  readonly heading: string;
  readonly metric: string;
}
