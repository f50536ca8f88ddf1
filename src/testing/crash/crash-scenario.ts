import type { FileSystem } from "../../fs/file-system.ts";
import type { SimulatedDisk } from "../disk/simulated-disk.ts";
import type { SimulatedProcess } from "./simulated-process.ts";

/** A commit that a scenario has asked for. */
export interface TrackedCommit {
  /** Its correlation id: unique, and on every event of it. */
  readonly id: string;
  /** How many events it has. */
  readonly events: number;
  /** `"failed"` after an error: whether it counts is open only if the power is cut before the next acknowledgement. */
  readonly outcome: "pending" | "acknowledged" | "failed";
  /** What the store answered. */
  readonly result?: unknown;
}

export interface Closeable {
  close(): Promise<void>;
}

/** What a scenario works with. */
export interface CrashWorld<S extends Closeable> {
  readonly disk: SimulatedDisk;
  readonly store: S;
  /** Opens the store once more, as another process or again after `store.close()`; it can be killed. */
  open(): Promise<{ readonly store: S; readonly process: SimulatedProcess }>;
  /**
   * Runs something that makes one commit of `events` events (1 if left out) with the context that it is given, and notes when
   * it is acknowledged. An error is noted and thrown.
   */
  commit<T>(action: (context: { readonly correlationId: string }) => Promise<T>, events?: number): Promise<T>;
  /** The commits so far. */
  commits(): readonly TrackedCommit[];
}

/** What a check looks at: a store that was opened on what a crash left. */
export interface CrashRemains<S extends Closeable> {
  readonly disk: SimulatedDisk;
  readonly store: S;
  /** The commits so far, in the order in which they were begun. */
  readonly commits: readonly TrackedCommit[];
  /** How many of them had been begun when the power was cut; the others were made after the recovery. */
  readonly begun: number;
  /** Nothing that was written is missing: as if only the process had been killed. */
  readonly killed: boolean;
}

export interface CrashScenario<S extends Closeable> {
  /** Opens what is examined; for every crash again, so recovery belongs to it. */
  readonly open: (fileSystem: FileSystem) => Promise<S>;
  /** What is going on when the power is cut. */
  readonly workload: (world: CrashWorld<S>) => Promise<void>;
  /** Throws when something is wrong. May give a list of what is there (`checkInvariants` does): what was seen once must be there for ever. */
  readonly check: (remains: CrashRemains<S>) => Promise<readonly string[] | void>;
  /** What is done after a recovery, to see that the store works on; then it is opened and checked again. */
  readonly goOn?: (world: CrashWorld<S>) => Promise<void>;
  /** The same seed gives the same disks; 0 if left out. */
  readonly seed?: number | string;
  /** Stop after this many disks; 1,000 if left out. */
  readonly maxDisks?: number;
  /** Out of how many disks one recovery is itself cut off; 20 if left out, 0 for never. */
  readonly nestEvery?: number;
  /** Prepares the disk before the workload: faults, for example. */
  readonly prepare?: (disk: SimulatedDisk) => void;
  /** Only this disk, as a `CrashError` names it. */
  readonly only?: string;
  /** Gets what is wrong, instead of an exception for the first; the exploration ends when it returns false. */
  readonly onViolation?: (error: CrashError) => boolean | void;
}

export interface CrashReport {
  /** Moments at which the power was cut. */
  readonly moments: number;
  /** Disks examined, those of interrupted recoveries included. */
  readonly disks: number;
  /** Disks of recoveries that were cut off. */
  readonly nested: number;
  /** Those of them that are of a second recovery, which was cut off too. */
  readonly nestedTwice: number;
  readonly violations: number;
}

/** A disk on which something is wrong. */
export class CrashError extends Error {
  override readonly name = "CrashError";
  /** Pass it as `only`, with the same seed, to see this disk alone. */
  readonly only: string;

  constructor(only: string, seed: number | string, where: string, story: string, cause: unknown) {
    super(
      `${cause instanceof Error ? cause.message : String(cause)}\n` +
        `after a power cut ${where} (seed: ${JSON.stringify(seed)}, only: ${JSON.stringify(only)}) that left:\n${story}`,
      { cause },
    );
    this.only = only;
  }
}
