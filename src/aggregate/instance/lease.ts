import type { StreamAppend, StreamName } from "../../event-store/event-store.ts";
import type { AggregateModel, Command, Decision, Environment, Situation } from "../model.ts";
import type { CommandOutcome } from "./command-outcome.ts";
import type { CommittedState } from "./committed-state.ts";
import type { VersionRange } from "./idempotency-keys.ts";
import type { DecidedOutcome, RememberedOutcomes } from "./remembered-outcomes.ts";

/**
 * Exclusive use of one instance: all its decided commands are answered, and new ones wait until the lease is given back.
 * Used through `withLeases`.
 */
export class Lease {
  readonly stream: StreamName;
  readonly #committed: CommittedState;
  readonly #model: AggregateModel;
  readonly #environment: Environment;
  readonly #onReturn: () => void;
  #isHeld = true;

  constructor(committed: CommittedState, model: AggregateModel, environment: Environment, onReturn: () => void) {
    this.stream = committed.stream;
    this.#committed = committed;
    this.#model = model;
    this.#environment = environment;
    this.#onReturn = onReturn;
  }

  get situation(): Situation {
    const { state, version } = this.#held();
    return { id: this.stream.id, state, version };
  }

  get version(): number {
    return this.#held().version;
  }

  /** Whether the instance has events that count. */
  get exists(): boolean {
    return this.#held().exists;
  }

  /** Whether the instance was deleted and must not live again. */
  get isFinal(): boolean {
    return this.#held().isFinal;
  }

  /** Throws `INSTANCE_DELETED` if the instance must not live again. */
  checkMayLive(): void {
    this.#held().checkMayLive();
  }

  /** False when another process is known to have committed to the stream. */
  get isCurrent(): boolean {
    return this.#held().isCurrent;
  }

  /** The outcome of a command that changes nothing. */
  get outcome(): CommandOutcome {
    return this.#held().outcome;
  }

  /** The outcome of an earlier command with this idempotency key. Throws its rejection. */
  async earlierOutcome(key: string): Promise<CommandOutcome | undefined> {
    const committed = this.#held();
    const earlier = (await committed.loadKeys()).find(key);
    return earlier === undefined ? undefined : committed.outcomeOf(earlier);
  }

  /** Throws the rejection of an earlier command with this idempotency key. */
  async throwEarlierRejection(key: string): Promise<void> {
    const committed = this.#held();
    const earlier = (await committed.loadKeys()).find(key);
    if (earlier !== undefined && "rejection" in earlier) await committed.outcomeOf(earlier);
  }

  /** The outcomes without events that are remembered. */
  readOutcomes(): Promise<RememberedOutcomes> {
    return this.#held().readOutcomes();
  }

  /** The append that remembers how commands with keys ended; without any, it only compares. */
  async outcomesAppend(decided: readonly DecidedOutcome[]): Promise<StreamAppend> {
    const { outcomes } = await this.#held().loadKeys();
    return decided.length === 0 ? outcomes.check : outcomes.append(decided, this.#environment);
  }

  /** Whether the instance has an event with this id. */
  hasEvent(eventId: string): Promise<boolean> {
    return this.#held().hasEvent(eventId);
  }

  decide(situation: Situation, command: Command): Decision {
    this.#held().checkMayLive();
    return this.#model.decide(situation, command, this.#environment);
  }

  /** Moves the instance on after a commit that has remembered outcomes, the last of them at a position. */
  advanceOutcomes(decided: readonly DecidedOutcome[], position: number): void {
    const committed = this.#held();
    committed.keys?.outcomes.record(decided);
    committed.advanceOutcomes(decided.length, position);
  }

  /** Another process has remembered outcomes that are not known here. */
  markOutcomesOutdated(): void {
    this.#held().markOutcomesOutdated();
  }

  /** Whether the lease has a state. A new era of the store takes it away until `catchUp`. */
  get isLoaded(): boolean {
    return !this.#held().isAbsent;
  }

  /** Reads the events that other processes have committed. */
  catchUp(): Promise<void> {
    const committed = this.#held();
    return committed.isAbsent ? committed.bringUpToDate() : committed.catchUp();
  }

  /** Moves the instance on after a commit whose state is known. */
  advance(state: unknown, version: number, position: number, keys: Iterable<readonly [string, VersionRange]>): void {
    const committed = this.#held();
    for (const [key, versions] of keys) committed.keys?.record(key, versions);
    committed.advance(state, version, position);
    committed.forgetEventIds();
  }

  /** After a commit whose events are not folded into the state: the instance reads them before its next use. */
  markOutdated(): void {
    this.#held().markOutdated();
  }

  /** After a failed commit: the instance loads again before its next use. */
  unload(): void {
    this.#held().unload();
  }

  /** Lets the mailbox go on. */
  giveBack(): void {
    this.#held();
    this.#isHeld = false;
    this.#onReturn();
  }

  #held(): CommittedState {
    if (!this.#isHeld) throw new Error(`expected a held lease of ${this.stream.type}, found one that was given back`);
    return this.#committed;
  }
}
