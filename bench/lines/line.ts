import type { Check } from "../compare.ts";
import type { Result, Run } from "../run.ts";

/** One line of the contract: some work, what is measured, and what was to be reached. */
export interface Line {
  readonly number: number;
  measure(run: Run): Promise<Measured>;
}

export interface Measured {
  /** What was done, with the sizes of this run. */
  readonly work: string;
  readonly checks: readonly Check[];
  readonly results: readonly Result[];
  /** What the table of results shows besides the event loop. */
  readonly columns: readonly Column[];
  /** Figures of others, measured elsewhere. */
  readonly elsewhere?: string;
  readonly remarks?: readonly string[];
}

export interface Column {
  readonly heading: string;
  readonly metric: string;
}
