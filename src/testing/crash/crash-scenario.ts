import type { FileSystem } from "../../fs/file-system.ts";
import type { SimulatedDisk } from "../disk/simulated-disk.ts";
import type { SimulatedProcess } from "../disk/simulated-process.ts";
import { messageOf } from "../../realm.ts";

/** A commit that a scenario has made or tried to make. */
export interface TrackedCommit {
  /** The correlation id of all its events; no other commit has it. */
  readonly id: string;
  /** How many events it has. */
  readonly events: number;
  /** `"failed"` after an error. Such a commit may be on the disk or not, as a pending one. */
  readonly outcome: "pending" | "acknowledged" | "failed";
  /** The result of the store's call. */
  readonly result?: unknown;
}

export interface Closeable {
  close(): Promise<void>;
}

/** The disk and the store that a workload uses. */
export interface CrashWorld<S extends Closeable> {
  readonly disk: SimulatedDisk;
  readonly store: S;
  /** Opens the store in a new process, which can be killed: beside `store`, or after `store.close()`. */
  open(): Promise<{ readonly store: S; readonly process: SimulatedProcess }>;
  /**
   * Runs an action that makes one commit of `events` events (default: 1) with the given context, and records its
   * outcome for the check. Throws the action's error.
   */
  commit<T>(action: (context: { readonly correlationId: string }) => Promise<T>, events?: number): Promise<T>;
  /** The commits so far. */
  commits(): readonly TrackedCommit[];
}

/** A store that was opened on a disk after a crash, for a check. */
export interface CrashRemains<S extends Closeable> {
  readonly disk: SimulatedDisk;
  readonly store: S;
  /** The commits so far, in the order in which they began. */
  readonly commits: readonly TrackedCommit[];
  /** How many of them began before the power cut; the others were made after the recovery. */
  readonly begun: number;
  /** Whether every write is there, as if the process had been killed and the power had stayed on. */
  readonly killed: boolean;
}

export interface CrashScenario<S extends Closeable> {
  /** Opens the store. Called again after every crash, so it includes the recovery. */
  readonly open: (fileSystem: FileSystem) => Promise<S>;
  /** The work during which the power is cut. */
  readonly workload: (world: CrashWorld<S>) => Promise<void>;
  /**
   * Throws if the store is wrong. May return a list of the events (`checkInvariants` does): each later check of the same
   * run must return a list that begins with it.
   */
  readonly check: (remains: CrashRemains<S>) => Promise<readonly string[] | void>;
  /** Work after a recovery. The store is then closed or killed, opened and checked again. */
  readonly goOn?: (world: CrashWorld<S>) => Promise<void>;
  /** The same seed gives the same disks. Default: 0. */
  readonly seed?: number | string;
  /** The exploration stops after this many disks. Default: 1,000. */
  readonly maxDisks?: number;
  /** One recovery in this many is itself cut off. Default: 20; 0 for never. */
  readonly nestEvery?: number;
  /** Called with the disk before the workload, for example to add faults. */
  readonly prepare?: (disk: SimulatedDisk) => void;
  /** Examines only this disk: the `only` of a `CrashError`. */
  readonly only?: string;
  /** Called for every violation; without it, the first is thrown. The exploration ends when it returns false. */
  readonly onViolation?: (error: CrashError) => boolean | void;
}

export interface CrashReport {
  /** Moments at which the power was cut. */
  readonly moments: number;
  /** Disks examined, including those of recoveries that were cut off. */
  readonly disks: number;
  /** Disks of recoveries that were cut off. */
  readonly nested: number;
  /** Disks of second recoveries that were cut off, after a first. */
  readonly nestedTwice: number;
  readonly violations: number;
}

/** A disk on which the check failed. Its message describes the disk's history. */
export class CrashError extends Error {
  override readonly name = "CrashError";
  /** Pass this as `only`, with the same seed, to examine this disk alone. */
  readonly only: string;

  constructor(only: string, seed: number | string, when: string, left: string | undefined, cause: unknown) {
    super(
      `${messageOf(cause)}\n` +
        `${when} (seed: ${JSON.stringify(seed)}, only: ${JSON.stringify(only)})${left === undefined ? "" : ` that left:\n${left}`}`,
      { cause },
    );
    this.only = only;
  }
}
