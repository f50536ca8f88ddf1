import { CommitBatches, writeSplitting } from "../../event-store/commit-batches.ts";
import type { CommitResult } from "../../event-store/event-store.ts";
import { type Database, type Row, statement, type Statement, untilAnswered } from "../connection/database.ts";
import { SqlFailure } from "../connection/sql-failure.ts";
import { commitFailed } from "../failures.ts";
import type { BatchIds } from "./batch-ids.ts";
import { BatchPlan, type Known } from "./batch-plan.ts";
import type { PreparedCommit } from "./prepared-commit.ts";
import { monotonicNow } from "../../real-timers.ts";
import { batchWritten } from "../../tracing/tracing.ts";

/** Limits of one batch. */
const MOST_COMMITS = 1000;
const LARGEST_BATCH = 4 << 20;

export interface QueuedCommit extends PreparedCommit {
  readonly resolve: (result: CommitResult) => void;
  readonly reject: (error: unknown) => void;
}

export interface CommitterParts {
  readonly database: Database;
  /** The quoted schema. */
  readonly schema: string;
  /** Whether the server flushes before it answers. */
  readonly flushed: boolean;
  /** Resolves when the reads of the head that were asked for so far are answered; `undefined` if there are none. */
  readonly headsRead: () => Promise<unknown> | undefined;
  readonly ids: BatchIds;
  /** Told of each batch that was written, before its commits are answered: how many events, and the last position. */
  readonly written: (events: number, last: number) => void;
  /** Told of a batch that was given up without knowing whether it was, or will be, carried out. */
  readonly abandoned: (batch: string) => void;
}

/**
 * The commit queue. Everything that waits when the previous batch is answered goes to the server as one call of `commit_batch`, which is
 * one transaction.
 *
 * A call whose answer was lost is made again with the same batch id, and the function looks into the batch's first slot: ours
 * means that it was carried out, another's is a conflict, and an empty one is filled now. So no outcome is guessed, and nothing is
 * written twice. Only when the server stays away for longer than the store's patience is the outcome reported as unknown.
 */
export class Committer {
  readonly #parts: CommitterParts;
  readonly #call: Statement;
  readonly #batches = new CommitBatches<QueuedCommit>({
    mostCommits: MOST_COMMITS,
    largest: () => LARGEST_BATCH,
    write: (commits) => this.#handle(commits),
  });

  constructor(parts: CommitterParts) {
    this.#parts = parts;
    const parameters = Array.from({ length: 25 }, (_, i) => `$${i + 1}`).join(", ");
    this.#call = statement(`select ${parts.schema}.commit_batch(${parameters})`);
  }

  add(commit: QueuedCommit): void {
    this.#batches.add(commit);
  }

  /** Resolves when nothing waits any more; an outage is not waited for as long as usual. */
  finish(): Promise<void> {
    return this.#batches.finish();
  }

  async #handle(commits: readonly QueuedCommit[]): Promise<void> {
    const read = this.#parts.headsRead();
    if (read !== undefined) await Promise.race([read, this.#batches.closing]);
    await this.#settle(commits);
  }

  /** Writes commits and answers them. If the server refuses them, it does so because of one of them: the others must not fail with it. */
  #settle(commits: readonly QueuedCommit[]): Promise<void> {
    return writeSplitting(commits, {
      write: (some) => this.#write(some),
      mayBeOfOne: (error) => error instanceof SqlFailure && error.outcome === "refused",
      failed: commitFailed,
    });
  }

  /** Plans and sends until a plan comes true. Each answer that corrects a plan leads to at least one more refusal, so this ends. */
  async #write(commits: readonly QueuedCommit[]): Promise<void> {
    const known: Known = { versions: new Map(), sequences: new Map() };
    const deadline = monotonicNow() + this.#parts.database.patience;
    for (;;) {
      const plan = new BatchPlan(commits, known);
      const started = monotonicNow();
      // A refusal now rests on the versions that the server has just returned.
      const base = plan.accepted.length === 0 ? 0 : await this.#send(plan, deadline);
      if (base === undefined) continue;
      if (plan.accepted.length > 0) this.#publish(plan, monotonicNow() - started);
      this.#answer(plan, base);
      return;
    }
  }

  #publish({ accepted, events }: BatchPlan<QueuedCommit>, duration: number): void {
    batchWritten.publish(() => ({
      commits: accepted.length,
      events,
      bytes: accepted.reduce((sum, { commit }) => sum + commit.size, 0),
      waiting: this.#batches.waiting,
      duration,
      isFlushed: this.#parts.flushed,
    }));
  }

  #answer({ accepted, refused, events }: BatchPlan<QueuedCommit>, base: number): void {
    for (const { commit, result } of refused) {
      if (commit.chain !== undefined) commit.chain.broken = true;
      commit.resolve(result);
    }
    if (accepted.length === 0) return;
    if (events > 0) this.#parts.written(events, base + events);
    let position = base;
    for (const { commit, events: count } of accepted) commit.resolve({ ok: true, position: (position += count) });
  }

  /** The position before the batch's first event; nothing if an expectation was wrong, and then the plan was corrected. */
  async #send(plan: BatchPlan<QueuedCommit>, deadline: number): Promise<number | undefined> {
    const { database, flushed, ids, abandoned } = this.#parts;
    const batch = ids.next();
    const values = plan.values;
    let again = false;
    try {
      const [row] = await untilAnswered(
        () => Math.min(deadline, this.#batches.closingDeadline),
        async () => {
          try {
            return await database.attempt(
              this.#call,
              [batch, again, flushed, ...values],
              database.attemptTime(deadline),
            );
          } catch (error) {
            if (error instanceof SqlFailure && error.outcome === "unknown") again = true;
            throw error;
          }
        },
      );
      return baseOf(row, plan);
    } catch (error) {
      if (!again || !plan.writes) throw error;
      abandoned(batch);
      // Even if the last try was refused or never sent, an earlier one may have been carried out.
      throw new SqlFailure("unknown", error instanceof SqlFailure ? error.cause : error);
    }
  }
}

/** Reads what `commit_batch` returned. */
function baseOf(row: Row | undefined, plan: BatchPlan<QueuedCommit>): number | undefined {
  const [base = NaN, ...wrong] = (row?.[0] ?? "").slice(1, -1).split(",").map(Number);
  if (base >= 0) return base;
  for (let i = 0; i + 2 < wrong.length; i += 3) plan.correct(wrong[i] ?? 0, wrong[i + 1] ?? 0, wrong[i + 2] ?? 0);
  return undefined;
}
