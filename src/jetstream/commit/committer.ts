import { CommitBatches, writeSplitting } from "../../event-store/commit-batches.ts";
import type { CommitResult } from "../../event-store/event-store.ts";
import { monotonicNow } from "../../real-timers.ts";
import { batchWritten } from "../../tracing/tracing.ts";
import { ApiFailure, ERROR_CODES } from "../connection/api-failure.ts";
import type { JetStreamApi } from "../connection/jetstream-api.ts";
import type { StreamNames } from "../connection/stream-config.ts";
import { commitFailed, commitTooLarge, writtenUnseen } from "../failures.ts";
import { headerText } from "../message/batch-message.ts";
import type { PreparedCommit } from "../message/prepared-commit.ts";
import type { CatchUp } from "../replica/catch-up.ts";
import type { Replica } from "../replica/replica.ts";
import { BatchPlan } from "./batch-plan.ts";

const MOST_COMMITS = 1000;
/** What a message has besides its commits, in bytes: its headers and its first line. */
const OVERHEAD = 1024;
/** How long a message in a place may take to arrive by itself, in ms. */
const ARRIVAL_MS = 10;
/** How long a stream may seem to have lost messages, in ms. */
const CHECK_MS = 1000;

export interface QueuedCommit extends PreparedCommit {
  readonly resolve: (result: CommitResult) => void;
  readonly reject: (error: unknown) => void;
}

export interface CommitterParts {
  readonly api: JetStreamApi;
  readonly names: StreamNames;
  readonly replica: Replica;
  readonly catchUp: CatchUp;
  /** Largest message of the stream, in bytes; -1 for no limit of its own. */
  readonly maxMessage: number;
  /** The batches of this store whose messages the replica does not have yet. */
  readonly own: Set<string>;
}

/** A place in the stream, and what comes into it. */
interface Slot {
  /** Sequence of the message before it. */
  readonly after: number;
  readonly batch: string;
  readonly text: string;
}

/**
 * The commit queue. Everything that waits when the previous batch is answered becomes one message, which the server takes only if it comes
 * right after the last message that the replica has. So the versions that the replica has are those that count.
 *
 * If an answer is lost, the next look goes into the message's place: ours means that it was written, another's that it was not. If
 * the place is empty, the same message is sent again. So no outcome is guessed, and nothing is written twice. Only when the servers stay away for longer
 * than the store's patience is the outcome reported as unknown.
 */
export class Committer {
  readonly #parts: CommitterParts;
  readonly #batches = new CommitBatches<QueuedCommit>({
    mostCommits: MOST_COMMITS,
    largest: () => this.#largest,
    write: (commits) => this.#settle(commits),
  });

  constructor(parts: CommitterParts) {
    this.#parts = parts;
  }

  add(commit: QueuedCommit): void {
    this.#batches.add(commit);
  }

  /** Resolves when nothing waits any more; an outage is not waited for as long as usual. */
  finish(): Promise<void> {
    return this.#batches.finish();
  }

  get #largest(): number {
    const { api, maxMessage } = this.#parts;
    const { maxPayload } = api.link;
    return (maxMessage < 0 ? maxPayload : Math.min(maxPayload, maxMessage)) - OVERHEAD;
  }

  /** Writes commits and answers them. If one of them cannot be written, the others must not fail with it. */
  #settle(commits: readonly QueuedCommit[]): Promise<void> {
    return writeSplitting(commits, {
      write: (some) => this.#write(some),
      // Errors of the replica are those of single streams, such as ids that its disk takes for the same.
      mayBeOfOne: (error) =>
        error instanceof ApiFailure ? error.code === ERROR_CODES.tooLarge : !this.#parts.replica.isStopped,
      failed: commitFailed,
    });
  }

  /** Plans and sends until a plan comes true. As long as other processes' messages come in between, the patience begins anew. */
  async #write(commits: readonly QueuedCommit[]): Promise<void> {
    const { replica, catchUp, api } = this.#parts;
    const [{ size } = { size: 0 }] = commits;
    // Such a commit is a batch of its own.
    if (size > this.#largest) throw commitTooLarge(size, this.#largest);
    let [since, had, isNewest] = [monotonicNow(), replica.sequence, false];
    const deadline = (): number => Math.min(since + api.patience, this.#batches.closingDeadline);
    for (;;) {
      replica.check();
      const { plan, after, batch, position } = await this.#plan(commits);
      if (after > had) [since, had] = [monotonicNow(), after];
      if (plan.isBehind && !isNewest) {
        await catchUp.toLast(deadline);
        isNewest = true;
        continue;
      }
      const { written } = plan;
      if (written.length === 0 && plan.accepted.length > 0 && !(await this.#isLast(after, deadline))) continue;
      if (written.length > 0) {
        const id = globalThis.crypto.randomUUID();
        const header = headerText({ batch: id, after: batch, position, commits: written.length });
        const slot = { after, batch: id, text: header + written.map(({ text }) => text).join("") };
        const started = monotonicNow();
        if (!(await this.#send(slot, deadline))) {
          await catchUp.to(after + 1, deadline);
          continue;
        }
        this.#publish(plan, slot, monotonicNow() - started);
        await this.#appear(plan, slot);
      }
      this.#answer(plan, position);
      return;
    }
  }

  #plan(commits: readonly QueuedCommit[]) {
    const { replica } = this.#parts;
    return replica.exclusively(async () => {
      const plan = new BatchPlan(commits, await replica.known(commits));
      return { plan, after: replica.sequence, batch: replica.batch, position: replica.position };
    });
  }

  /** Whether the stream has nothing after a message. If it has, waits for it. */
  async #isLast(sequence: number, deadline: () => number): Promise<boolean> {
    const { catchUp } = this.#parts;
    const last = await catchUp.last(deadline);
    if (last > sequence) await catchUp.to(last, deadline);
    return last === sequence;
  }

  /**
   * Sends a message into its place. False if another's is there. A refusal alone does not say so: while leaders change, two of them may
   * get the message, and one may refuse what the other one takes. It may also count messages that never come to be.
   */
  async #send(slot: Slot, deadline: () => number): Promise<boolean> {
    const { api, own } = this.#parts;
    let mayBeThere = false;
    /** Whether the place is empty, and the last try was refused all the same. */
    let isMisplaced = false;
    own.add(slot.batch);
    try {
      const isOurs = await api.untilAnswered(deadline, async (timeout) => {
        isMisplaced = false;
        const known = mayBeThere ? await this.#lookInto(slot, timeout) : undefined;
        if (known !== undefined) return known;
        try {
          return await this.#publishInto(slot, timeout);
        } catch (error) {
          if (!(error instanceof ApiFailure) || error.outcome === "unsent") throw error;
          mayBeThere = true;
          if (error.outcome === "unknown") throw error;
          const found = await this.#lookInto(slot, timeout);
          if (found !== undefined) return found;
          isMisplaced = error.code === ERROR_CODES.wrongLastSequence;
          throw isMisplaced ? new ApiFailure("passing", error.cause) : error;
        }
      });
      if (!isOurs) own.delete(slot.batch);
      return isOurs;
    } catch (error) {
      const isOurs = this.#seenIn(slot);
      if (isOurs === true) return true;
      // If it turns up later, it counts as another process's: its commands have failed.
      own.delete(slot.batch);
      if (isOurs === false) return false;
      if (isMisplaced) await this.#checkStream();
      const isCertain = !mayBeThere || (error instanceof ApiFailure && error.outcome === "refused");
      throw isCertain ? error : new ApiFailure("unknown", error instanceof ApiFailure ? error.cause : error);
    }
  }

  /** Throws if the stream has lost messages, and so refuses each place that the replica knows. */
  async #checkStream(): Promise<void> {
    const until = monotonicNow() + CHECK_MS;
    try {
      await this.#parts.catchUp.last(() => until);
    } catch (error) {
      if (!(error instanceof ApiFailure)) throw error;
    }
  }

  async #publishInto({ after, text }: Slot, timeout: number): Promise<true> {
    const { api, names, replica } = this.#parts;
    const sequence = await api.publish(names.commitSubject, text, after, timeout);
    if (sequence !== after + 1)
      throw replica.stop(`a message for place ${after + 1} of the stream came to place ${sequence}`);
    return true;
  }

  /** Whether our message is in its place; nothing if none is there. */
  async #lookInto(slot: Slot, timeout: number): Promise<boolean | undefined> {
    const { api, names, replica } = this.#parts;
    // The follower usually has it first.
    await replica.reached(slot.after + 1, ARRIVAL_MS);
    const seen = this.#seenIn(slot);
    if (seen !== undefined) return seen;
    const found = await api.message(names.commits, { seq: slot.after + 1 }, timeout);
    if (found === undefined) return undefined;
    replica.take(slot.after + 1, found.data);
    return found.data.equals(Buffer.from(slot.text));
  }

  /** The same, as far as the replica has it. */
  #seenIn({ after, batch }: Slot): boolean | undefined {
    const found = this.#parts.replica.batchAt(after + 1);
    return found === undefined ? undefined : found === batch;
  }

  /** Waits until readers here see a message that was written. */
  async #appear({ accepted }: BatchPlan<QueuedCommit>, { after, text }: Slot): Promise<void> {
    const { replica, api } = this.#parts;
    replica.take(after + 1, Buffer.from(text));
    let error: unknown;
    try {
      if (await replica.reached(after + 1, api.patience)) return;
      error = replica.trouble;
    } catch (failure) {
      error = failure;
    }
    const unseen = writtenUnseen(error);
    for (const { chain, writes, reject } of accepted) {
      if (chain !== undefined) chain.broken = true;
      reject(writes ? unseen : error);
    }
  }

  #publish({ accepted, written }: BatchPlan<QueuedCommit>, { text }: Slot, duration: number): void {
    batchWritten.publish(() => ({
      commits: accepted.length,
      events: written.reduce((sum, { appends }) => sum + eventsOf(appends), 0),
      bytes: Buffer.byteLength(text),
      waiting: this.#batches.waiting,
      duration,
      isFlushed: true,
    }));
  }

  #answer({ accepted, refused }: BatchPlan<QueuedCommit>, before: number): void {
    for (const { commit, result } of refused) {
      if (commit.chain !== undefined) commit.chain.broken = true;
      commit.resolve(result);
    }
    let position = before;
    for (const { appends, resolve } of accepted) resolve({ ok: true, position: (position += eventsOf(appends)) });
  }
}

function eventsOf(appends: QueuedCommit["appends"]): number {
  return appends.reduce((sum, { events }) => sum + events, 0);
}
