import { turn } from "../event-loop.ts";
import { monotonicNow } from "../real-timers.ts";
import type { CommitChain } from "./event-store.ts";

/** How long commits that are under way may still wait for a server once the store is being closed, in ms. */
const CLOSING_PATIENCE_MS = 2000;

export interface CommitBatchesParts<C> {
  /** Limits of one batch; a commit that is larger is a batch of its own. */
  readonly mostCommits: number;
  readonly largest: () => number;
  /** Writes a batch and answers its commits. Never rejects. */
  readonly write: (commits: readonly C[]) => Promise<void>;
}

/** What a failed write needs of a commit. */
interface FailingCommit {
  readonly chain?: CommitChain | undefined;
  readonly reject: (error: unknown) => void;
}

export interface SplittingParts<C> {
  readonly write: (commits: readonly C[]) => Promise<void>;
  /** Whether an error may lie in one of the commits. */
  readonly mayBeOfOne: (error: unknown) => boolean;
  /** The error as the commits' callers meet it. */
  readonly failed: (error: unknown) => unknown;
}

/**
 * Writes commits. If that fails because of one of them, writes their halves, so that the others do not fail with it. Rejects the commits
 * that fail, and never rejects itself.
 */
export async function writeSplitting<C extends FailingCommit>(
  commits: readonly C[],
  parts: SplittingParts<C>,
): Promise<void> {
  const { write, mayBeOfOne, failed } = parts;
  try {
    await write(commits);
  } catch (error) {
    if (commits.length > 1 && mayBeOfOne(error)) {
      const middle = commits.length >> 1;
      await writeSplitting(commits.slice(0, middle), parts);
      await writeSplitting(commits.slice(middle), parts);
      return;
    }
    for (const { chain, reject } of commits) {
      if (chain !== undefined) chain.broken = true;
      reject(failed(error));
    }
  }
}

/** The commit queue of a store on a server: everything that waits when the previous batch is answered becomes the next one. */
export class CommitBatches<C extends { readonly size: number }> {
  readonly #parts: CommitBatchesParts<C>;
  #queue: C[] = [];
  #running: Promise<void> | undefined;
  #closingDeadline = Infinity;
  #beginClosing: () => void = () => {};
  /** Resolves when the store is being closed. */
  readonly closing: Promise<void> = new Promise<void>((resolve) => (this.#beginClosing = resolve));

  constructor(parts: CommitBatchesParts<C>) {
    this.#parts = parts;
  }

  /** How many commits wait for the next batch. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** Until when an outage is waited for, on the monotonic clock; `Infinity` unless the store is being closed. */
  get closingDeadline(): number {
    return this.#closingDeadline;
  }

  add(commit: C): void {
    this.#queue.push(commit);
    this.#start();
  }

  /** Resolves when nothing waits any more; an outage is not waited for as long as usual. */
  async finish(): Promise<void> {
    this.#closingDeadline = monotonicNow() + CLOSING_PATIENCE_MS;
    this.#beginClosing();
    while (this.#running !== undefined) await this.#running;
  }

  #start(): void {
    // Callers answered by one batch usually submit again in the same turn: those commits become one batch.
    this.#running ??= turn()
      .then(() => this.#run())
      .finally(() => {
        this.#running = undefined;
        if (this.#queue.length > 0) this.#start();
      });
  }

  async #run(): Promise<void> {
    while (this.#queue.length > 0) await this.#parts.write(this.#take());
  }

  #take(): C[] {
    const { mostCommits, largest } = this.#parts;
    const most = largest();
    let count = 0;
    for (let size = 0; count < Math.min(this.#queue.length, mostCommits); count++) {
      size += this.#queue[count]?.size ?? 0;
      if (count > 0 && size > most) break;
    }
    return this.#queue.splice(0, count);
  }
}
