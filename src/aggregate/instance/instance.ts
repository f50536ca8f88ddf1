import { whenAborted } from "../../abort.ts";
import { CommandRejectedError, ConflictError, EventfoldError, isEventfoldError } from "../../errors.ts";
import { isTurnLong } from "../../event-loop.ts";
import type { EventStore, StreamAppend, StreamName } from "../../event-store/event-store.ts";
import { refreshBeforeReading } from "../../event-store/freshness.ts";
import { inNextTurn, monotonicNow } from "../../real-timers.ts";
import { isOutcomesType } from "../../stream-names.ts";
import type { AggregateModel, Command, Decision, Environment } from "../model.ts";
import type { CommandLimits } from "./command-limits.ts";
import type { CommandOutcome } from "./command-outcome.ts";
import { CommittedState } from "./committed-state.ts";
import { DecidedCommands, type Undone } from "./decided-commands.ts";
import type { Earlier } from "./idempotency-keys.ts";
import { Lease } from "./lease.ts";
import { type CommandJob, type Job, Mailbox } from "./mailbox.ts";
import { type PastState, type PointInTime, stateAt } from "./past-state.ts";
import { PhaseMachine } from "./phase.ts";
import { decidedOutcome, keyToRemember, type RememberedOutcome } from "./remembered-outcomes.ts";
import { SnapshotSchedule } from "./snapshot-schedule.ts";
import type { TypeSnapshots } from "./type-snapshots.ts";

/** How often a command is decided because another process has committed to the stream. */
const MAX_ATTEMPTS = 100;

/**
 * One aggregate instance in memory: a mailbox whose commands are decided strictly one after the other.
 *
 * A command is decided on the state that includes the commands before it, also those whose commit is still in flight, so
 * that many commands share a flush. The committed state, which callers see, moves on only when a commit is durable. If a commit
 * fails, every command decided on top of it fails, and the instance loads itself again. If another process has
 * committed first, the commands are decided again on the new state.
 */
export class Instance {
  readonly stream: StreamName;
  readonly #model: AggregateModel;
  readonly #store: EventStore;
  readonly #environment: Environment;
  readonly #phase = new PhaseMachine();
  readonly #mailbox = new Mailbox();
  readonly #committed: CommittedState;
  readonly #decided: DecidedCommands;
  readonly #snapshots: SnapshotSchedule;
  /** Readers that wait for the answer of a commit. */
  readonly #awaitingAnswers: (() => void)[] = [];
  /** Outcomes of earlier commands that are being read back for commands with the same idempotency key. */
  #readingBack = 0;
  /** When it was last used, in ms of the monotonic clock. */
  lastUsed: number = monotonicNow();

  constructor(stream: StreamName, model: AggregateModel, store: EventStore, snapshots: TypeSnapshots) {
    const { environment } = snapshots;
    this.stream = stream;
    this.#model = model;
    this.#store = store;
    this.#environment = environment;
    this.#committed = new CommittedState(stream, model, store, snapshots, environment);
    this.#decided = new DecidedCommands(stream, store, () => this.#answerDecided());
    this.#snapshots = new SnapshotSchedule(model, snapshots);
  }

  /** Whether it has nothing to do, so that it can leave memory. */
  get isIdle(): boolean {
    return (
      this.#phase.isOpen &&
      this.#mailbox.isEmpty &&
      this.#decided.isEmpty &&
      this.#readingBack === 0 &&
      !this.#snapshots.isSaving
    );
  }

  /** The committed version. */
  get version(): number {
    return this.#committed.version;
  }

  /** Whether it is known to have remembered outcomes. */
  get hasOutcomes(): boolean {
    return (this.#committed.keys?.outcomes.version ?? 0) > 0;
  }

  /** Another process has committed to the stream. Or, in a new era of the store, the state may say more than the events still do. */
  markOutdated(isNewEra = false): void {
    if (isNewEra) this.#committed.unload();
    else this.#committed.markOutdated();
  }

  /** Another process has remembered outcomes of commands without events. */
  markOutcomesOutdated(): void {
    this.#committed.markOutcomesOutdated();
  }

  execute(command: Command, { expectedVersion, remember, signal, trace }: CommandLimits = {}): Promise<CommandOutcome> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const remembersAll = remember === "all";
      if (remembersAll) keyToRemember(command);
      const job: CommandJob = {
        kind: "command",
        command,
        expectedVersion,
        remembersAll,
        trace,
        isAbandoned: false,
        conflicts: 0,
        resolve,
        reject,
      };
      this.#enqueue(job);
      if (signal !== undefined) whenAborted(signal, () => this.#abandon(job, signal.reason));
    });
  }

  /** Answers a command whose caller no longer waits. If it was answered already, this changes nothing. */
  #abandon(job: CommandJob, reason: unknown): void {
    job.isAbandoned = true;
    if (this.#mailbox.remove(job) || !this.#decided.isWriting(job)) {
      job.reject(reason);
      return;
    }
    const { type, id } = this.stream;
    job.reject(
      new EventfoldError(
        "COMMIT_UNKNOWN",
        `what ${job.command.type} led to for ${type} ${JSON.stringify(id)} was being written when its caller gave it up, so it may be in the store; send the command again with the same idempotencyKey`,
        { cause: reason },
      ),
    );
  }

  /** The newest committed state. */
  async read(): Promise<CommandOutcome> {
    this.lastUsed = monotonicNow();
    // Loading looks for the newest events by itself, if the store can do so without waiting.
    if (!this.#committed.isAbsent || this.#store.refreshNow === undefined) await this.#store.refresh(this.stream);
    if (!this.#committed.isCurrent)
      await new Promise<void>((resolve, reject) => this.#enqueue({ kind: "read", run: resolve, reject }));
    if (this.#isCommitting) await this.#includeVisible();
    return this.#committed.outcome;
  }

  /** Whether commits are in flight, of decided commands or of a lease. */
  get #isCommitting(): boolean {
    return !this.#decided.isEmpty || !this.#phase.isOpen;
  }

  /**
   * Waits for the answers of commits that readers can see. A store lets readers see a commit shortly before it answers, so a
   * subscriber may have an event that the committed state does not have yet.
   */
  async #includeVisible(): Promise<void> {
    let visible = 0;
    for await (const batch of this.#store.readStream(this.stream, { from: this.#committed.version + 1 }))
      visible = batch.at(-1)?.version ?? visible;
    while (this.#committed.version < visible && this.#isCommitting)
      await new Promise<void>((resolve) => this.#awaitingAnswers.push(resolve));
  }

  /** Waits until every decided command is answered, and keeps new ones waiting until the lease is given back. */
  lease(): Promise<Lease> {
    return new Promise((resolve, reject) => {
      const run = (): void => {
        this.#phase.begin("leased");
        resolve(new Lease(this.#committed, this.#model, this.#environment, () => this.#endLease()));
      };
      this.#enqueue({ kind: "exclusive", run, reject });
    });
  }

  #endLease(): void {
    this.#phase.end("leased");
    this.#decided.continueFrom(this.#committed);
    this.#goOn();
    this.#wakeReaders();
  }

  /** State and version at an earlier point, folded from the first event. */
  async at(until: PointInTime): Promise<PastState> {
    this.lastUsed = monotonicNow();
    await refreshBeforeReading(this.#store);
    return stateAt(this.stream, this.#model, this.#store, this.#environment, until);
  }

  /** Saves a snapshot, unless the newest one has this version already. */
  saveSnapshot(): Promise<void> {
    return this.#snapshots.save(this.#committed);
  }

  #enqueue(job: Job): void {
    this.lastUsed = monotonicNow();
    this.#mailbox.append(job);
    this.#workThroughMailbox();
  }

  #workThroughMailbox(): void {
    for (let job = this.#mailbox.first; job !== undefined && this.#phase.isOpen; job = this.#mailbox.first) {
      if (isTurnLong()) {
        this.#pause();
        return;
      }
      const reading = this.#readingBefore(job);
      if (reading !== undefined) {
        // Reading while commits are in flight would mix the decided with the committed.
        if (this.#decided.isEmpty) this.#read(reading);
        return;
      }
      if (job.kind === "exclusive" && !this.#decided.isEmpty) return;
      this.#mailbox.removeFirst();
      if (job.kind === "command") this.#decide(job);
      else job.run();
    }
  }

  #pause(): void {
    this.#phase.begin("paused");
    inNextTurn(() => {
      this.#phase.end("paused");
      this.#workThroughMailbox();
    });
  }

  /** The reading that a job needs before it can run; `undefined` for none. */
  #readingBefore(job: Job): (() => Promise<unknown>) | undefined {
    if (!this.#committed.isCurrent) return () => this.#bringUpToDate();
    if (job.kind !== "command" || job.command.context.idempotencyKey === undefined) return undefined;
    return this.#committed.keys === undefined ? () => this.#committed.loadKeys() : undefined;
  }

  #read(reading: () => Promise<unknown>): void {
    this.#phase.begin("reading");
    reading().then(
      () => {
        this.#phase.end("reading");
        this.#workThroughMailbox();
      },
      (error: unknown) => {
        this.#phase.end("reading");
        this.#committed.unload();
        this.#mailbox.rejectAll(error);
      },
    );
  }

  async #bringUpToDate(): Promise<void> {
    const isLoad = this.#committed.isAbsent;
    await this.#committed.bringUpToDate();
    if (isLoad) this.#snapshots.recordLoaded(this.#committed.loadedSnapshot);
    this.#decided.continueFrom(this.#committed);
  }

  #decide(job: CommandJob): void {
    const { command } = job;
    const { idempotencyKey } = command.context;
    const earlier = idempotencyKey === undefined ? undefined : this.#committed.keys?.find(idempotencyKey);
    if (earlier !== undefined) {
      this.#answer(job, () => this.#readBack(job, earlier));
      return;
    }
    if (job.expectedVersion !== undefined && job.expectedVersion !== this.#decided.version) {
      const { type, id } = this.stream;
      const error = new ConflictError(type, id, job.expectedVersion, this.#decided.version);
      this.#answer(job, () => job.reject(error));
      return;
    }
    let decision: Decision;
    this.#phase.begin("deciding");
    try {
      this.#committed.checkMayLive();
      const { state, version } = this.#decided;
      decision = this.#model.decide({ id: this.stream.id, state, version }, command, this.#environment);
    } catch (error) {
      this.#answer(job, () => job.reject(error));
      return;
    } finally {
      this.#phase.end("deciding");
    }
    if (decision.kind === "rejection") {
      const { rejection } = decision;
      const { type, id } = this.stream;
      const error = new CommandRejectedError(type, id, command.type, rejection);
      this.#conclude(job, () => job.reject(error), rejection);
    } else if (decision.drafts.length === 0) {
      this.#conclude(job, () => job.resolve(this.#committed.outcome));
    } else this.#write(job, decision);
  }

  #write(job: CommandJob, { drafts, events, state }: Extract<Decision, { readonly kind: "events" }>): void {
    const { idempotencyKey } = job.command.context;
    const { keys } = this.#committed;
    if (idempotencyKey === undefined || keys === undefined) {
      this.#decided.write(job, drafts, events, state);
      return;
    }
    const { version } = this.#decided;
    keys.record(idempotencyKey, { from: version + 1, to: version + drafts.length });
    const { outcomes } = keys;
    // Not without need: it is one more version for the store to compare.
    const isCompared = job.remembersAll || outcomes.version > 0;
    this.#decided.write(job, drafts, events, state, isCompared ? outcomes.check : undefined);
  }

  /** Ends a command that leads to no event, and remembers how it ended if its caller has asked for that. */
  #conclude(job: CommandJob, answer: () => void, rejection?: RememberedOutcome["rejection"]): void {
    const { keys } = this.#committed;
    if (!job.remembersAll || keys === undefined) {
      this.#answer(job, answer);
      return;
    }
    const decided = [decidedOutcome(job.command, this.#decided.version, rejection)];
    let append: StreamAppend;
    try {
      append = keys.outcomes.append(decided, this.#environment);
    } catch (error) {
      this.#answer(job, () => job.reject(error));
      return;
    }
    keys.outcomes.record(decided);
    this.#decided.addRememberedVerdict(job, answer, append);
  }

  /**
   * Answers a command that writes nothing, once everything that the decision rests on is committed. If that is nothing but the
   * committed state, it must be the newest: another process may have changed it.
   */
  #answer(job: CommandJob, answer: () => void): void {
    if (!this.#decided.isEmpty || this.#store.refreshNow === undefined) {
      this.#decided.addVerdict(job, answer);
      return;
    }
    try {
      this.#store.refreshNow();
    } catch (error) {
      job.reject(error);
      return;
    }
    if (this.#committed.isCurrent) answer();
    else this.#mailbox.prepend([job]);
  }

  #readBack(job: CommandJob, earlier: Earlier): void {
    this.#readingBack++;
    void this.#committed
      .outcomeOf(earlier)
      .then(job.resolve, job.reject)
      .finally(() => this.#readingBack--);
  }

  #answerDecided(): void {
    const undone = this.#decided.answer(this.#committed);
    if (undone !== undefined) this.#undo(undone);
    this.#goOn();
    this.#wakeReaders();
  }

  #wakeReaders(): void {
    for (const wake of this.#awaitingAnswers.splice(0)) wake();
  }

  #goOn(): void {
    this.lastUsed = monotonicNow();
    this.#snapshots.saveWhenDue(this.#committed);
    if (this.#model.compactAfter !== undefined) this.#environment.onGrown?.(this.stream, this.#committed.version);
    this.#workThroughMailbox();
  }

  /** Decides commands again that lost their version to another process, and fails those whose commit failed. */
  #undo({ cause, commands }: Undone): void {
    if ("failed" in cause) this.#committed.unload();
    else {
      this.#committed.markOutdated();
      if ("stream" in cause && isOutcomesType(cause.stream.type)) this.#committed.markOutcomesOutdated();
      this.#committed.keys?.undoAfter(this.#committed.version);
    }
    this.#decided.continueFrom(this.#committed);
    const again: CommandJob[] = [];
    for (const { job, result } of commands) {
      if (job.isAbandoned) continue;
      const error = this.#errorOf(job, cause, result);
      if (error === undefined) again.push(job);
      else job.reject(error);
    }
    this.#mailbox.prepend(again);
  }

  /** Why a command fails whose chain of commits was broken by `cause`; `undefined` if it is decided again. */
  #errorOf(job: CommandJob, cause: Undone["cause"], result: Undone["commands"][number]["result"]): unknown {
    if (result !== undefined && "failed" in result) return result.failed;
    if ("failed" in cause && !isEventfoldError(cause.failed, "COMMIT_UNKNOWN")) return cause.failed;
    // Certainly not written. After COMMIT_UNKNOWN that must not be taken for unknown.
    job.conflicts++;
    if (job.conflicts < MAX_ATTEMPTS) return undefined;
    const { version } = this.#committed;
    const isOfEvents = "stream" in cause && !isOutcomesType(cause.stream.type);
    const actual = isOfEvents ? cause.actualVersion : version;
    return new ConflictError(this.stream.type, this.stream.id, version, actual);
  }
}
