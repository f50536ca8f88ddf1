import type { ExecuteTrace } from "../../tracing/tracing.ts";
import type { Command } from "../model.ts";
import type { CommandOutcome } from "./command-outcome.ts";

export interface CommandJob {
  readonly kind: "command";
  readonly command: Command;
  readonly expectedVersion: number | undefined;
  /** Whether an outcome without events is remembered. */
  readonly remembersAll: boolean;
  readonly trace: ExecuteTrace | undefined;
  /** Its caller has the answer that it was given up. It is never decided again. */
  isAbandoned: boolean;
  /** How often the command lost its version to another process. */
  conflicts: number;
  readonly resolve: (outcome: CommandOutcome) => void;
  readonly reject: (error: unknown) => void;
}

/** Runs when the instance is loaded; an exclusive job waits until every decided command is answered as well. */
export interface AccessJob {
  readonly kind: "read" | "exclusive";
  readonly run: () => void;
  readonly reject: (error: unknown) => void;
}

export type Job = CommandJob | AccessJob;

/** The jobs of one instance in the order in which they are worked through. */
export class Mailbox {
  #jobs: Job[] = [];

  get isEmpty(): boolean {
    return this.#jobs.length === 0;
  }

  get first(): Job | undefined {
    return this.#jobs[0];
  }

  append(job: Job): void {
    this.#jobs.push(job);
  }

  removeFirst(): void {
    this.#jobs.shift();
  }

  /** Removes a job. Returns whether it was there. */
  remove(job: Job): boolean {
    const index = this.#jobs.indexOf(job);
    if (index >= 0) this.#jobs.splice(index, 1);
    return index >= 0;
  }

  /** Puts jobs before all others, in their own order. */
  prepend(jobs: readonly Job[]): void {
    if (jobs.length > 0) this.#jobs = [...jobs, ...this.#jobs];
  }

  /** Empties the mailbox and fails its jobs. */
  rejectAll(error: unknown): void {
    const jobs = this.#jobs;
    this.#jobs = [];
    for (const job of jobs) job.reject(error);
  }
}
