import type { EventStore, Snapshot, StoredEvent, StreamName } from "../../event-store/event-store.ts";
import { fingerprint } from "../../fingerprint.ts";
import { cacheProblem } from "../../json.ts";
import { staleCache, uncachedState } from "../../tracing/tracing.ts";
import { type BegunSample, differing, type FoldSample, FoldSamples } from "../fold-samples.ts";
import { freeze } from "../freeze.ts";
import { type AggregateModel, type Environment, type FoldSampler } from "../model.ts";

/** At most so many events are folded again to take samples before a snapshot is saved. */
const MOST_EVENTS = 1000;
/** Samples of each type of event. */
const OF_EACH_TYPE = 2;

/** What a store keeps for all snapshots of a type. */
interface Kept {
  /** Part of the fingerprint of each snapshot. Another one makes them all stale. */
  readonly epoch: string;
  readonly samples: readonly FoldSample[];
}

/**
 * The snapshots of one type in one store. The text of `apply` does not tell when something that `apply` calls has changed. So the
 * store keeps samples of how events were folded. Each process folds them again before it loads the first snapshot, and uses
 * none of the old snapshots if the code makes other states of them.
 */
export class TypeSnapshots implements FoldSampler {
  readonly #model: AggregateModel;
  readonly #store: EventStore;
  /** For decisions: they are sampled. */
  readonly environment: Environment;
  #ready: Promise<void> | undefined;
  #epoch = "";
  #samples = new FoldSamples();
  /** Whether the store has the present epoch. Other processes can load only snapshots of an epoch that it has. */
  #isKept = false;
  #hasNewSamples = false;
  /** Of each type of event: how many were folded when samples were last looked for. */
  #triedAt = new Map<string, number>();
  /** `apply` is not deterministic, so no snapshots are saved. */
  #isStopped = false;
  #isReported = false;

  constructor(model: AggregateModel, store: EventStore, environment: Environment) {
    this.#model = model;
    this.#store = store;
    this.environment = { ...environment, sampler: this };
  }

  /** The newest snapshot of a stream that the present code would have made. */
  async load(stream: StreamName): Promise<Snapshot | undefined> {
    await this.#checked();
    // No snapshot can have an epoch that the store does not have.
    return this.#isKept ? this.#store.loadSnapshot(stream, this.#fingerprint) : undefined;
  }

  /** Saves a snapshot, unless the state cannot be cached. Returns whether the store received it. */
  async save(stream: StreamName, { state, version, position }: Omit<Snapshot, "fingerprint">): Promise<boolean> {
    if (this.#isStopped) return false;
    const { era } = this.#store;
    const problem = cacheProblem(state, "frozen");
    if (problem !== undefined) return this.#report(problem);
    await this.#checked();
    if (this.#hasUnsampled()) await this.#sampleStream(stream, version);
    if (
      this.#hasNewSamples &&
      differing(this.#samples.all, (before, event) => this.#fold(before, event)) !== undefined
    ) {
      this.#isStopped = true;
      return this.#report("the same event did not lead to the same state again; apply must be deterministic");
    }
    if (!this.#isKept || this.#hasNewSamples) await this.#keep();
    await this.#store.saveSnapshot(stream, { state, version, position, fingerprint: this.#fingerprint, era });
    return this.#store.era === era;
  }

  isDue(type: string): boolean {
    return ++this.#samples.counter(type).count <= OF_EACH_TYPE;
  }

  begin(state: unknown, event: StoredEvent): BegunSample | undefined {
    return this.#samples.begin(this.#samples.counter(event.type), state, event);
  }

  complete(begun: BegunSample, state: unknown): void {
    this.#samples.complete(begun, state, (event) => this.#fold(undefined, event));
    this.#hasNewSamples = true;
  }

  /** A new era of the store has begun: the samples may say more than its events still do. */
  reset(): void {
    this.#ready = undefined;
    this.#begin();
  }

  /** Makes all snapshots that were saved so far stale. */
  async drop(): Promise<void> {
    await this.#checked();
    this.#begin();
    await this.#save();
  }

  get #fingerprint(): string {
    return fingerprint(`${this.#model.fingerprint} ${this.#epoch}`);
  }

  #checked(): Promise<void> {
    return (this.#ready ??= this.#check().catch((error: unknown) => {
      this.#ready = undefined;
      throw error;
    }));
  }

  async #check(): Promise<void> {
    const kept = await this.#load();
    if (kept === undefined) {
      this.#begin();
      return;
    }
    const found = differing(kept.samples, (before, event) => this.#fold(before, event));
    if (found === undefined) {
      this.#continue(kept);
      return;
    }
    this.#begin();
    const { type } = found.event;
    staleCache.publish(() => ({
      kind: "snapshots",
      name: this.#model.type,
      event: `${this.#model.type}.${type}`,
      isRepeatable: found.isRepeatable,
    }));
  }

  /** What the store has, if the code has the same text. */
  async #load(): Promise<Kept | undefined> {
    const { era } = this.#store;
    const checkpoint = await this.#store.loadCheckpoint("aggregate", this.#model.type);
    if (this.#store.era !== era) return undefined;
    return checkpoint?.fingerprint === this.#model.fingerprint ? (checkpoint.state as Kept) : undefined;
  }

  /** A new epoch without samples. Never one that was there before: snapshots of it may still exist. */
  #begin(): void {
    this.#epoch = fingerprint(`${Math.random()} ${Math.random()}`);
    this.#samples = new FoldSamples();
    this.#triedAt = new Map();
    this.#isKept = false;
    this.#hasNewSamples = false;
  }

  #continue({ epoch, samples }: Kept): void {
    this.#epoch = epoch;
    this.#samples = new FoldSamples(samples, ({ type }) => type);
    this.#isKept = true;
    this.#hasNewSamples = false;
  }

  #fold(before: { readonly state: unknown } | undefined, event: StoredEvent): unknown {
    const state = before === undefined ? this.#model.initial() : freeze(before.state);
    return this.#model.fold(state, event, "skip");
  }

  /** Whether events of a type without samples were folded that were read instead of written. */
  #hasUnsampled(): boolean {
    for (const [type, { count }] of this.#model.folds)
      if (count > (this.#triedAt.get(type) ?? 0) && this.#samples.counter(type).count === 0) return true;
    return false;
  }

  /** Takes samples of the events since a stream's last snapshot. */
  async #sampleStream(stream: StreamName, version: number): Promise<void> {
    for (const [type, { count }] of this.#model.folds) this.#triedAt.set(type, count);
    const { era } = this.#store;
    const base = this.#isKept ? await this.#store.loadSnapshot(stream, this.#fingerprint) : undefined;
    let state = base === undefined ? this.#model.initial() : freeze(base.state);
    let count = 0;
    for await (const batch of this.#store.readStream(stream, { from: (base?.version ?? 0) + 1 })) {
      if (this.#store.era !== era) return;
      for (const event of batch) {
        if (event.version > version || ++count > MOST_EVENTS) return;
        const begun = this.isDue(event.type) ? this.begin(state, event) : undefined;
        state = freeze(this.#model.fold(state, event, "skip"));
        if (begun !== undefined) this.complete(begun, state);
      }
    }
  }

  /** Brings epoch and samples into the store, or takes over the epoch that another process has begun meanwhile. */
  async #keep(): Promise<void> {
    const kept = await this.#load();
    if (kept !== undefined && kept.epoch !== this.#epoch && kept.samples.length >= this.#samples.all.length) {
      if (differing(kept.samples, (before, event) => this.#fold(before, event)) === undefined) {
        this.#continue(kept);
        return;
      }
    }
    await this.#save();
  }

  async #save(): Promise<void> {
    const { fingerprint: code, type } = this.#model;
    const state: Kept = { epoch: this.#epoch, samples: this.#samples.all };
    try {
      const { era } = this.#store;
      await this.#store.saveCheckpoint("aggregate", type, { state, position: 0, fingerprint: code, era });
      this.#isKept = true;
      this.#hasNewSamples = false;
    } catch {
      // Only a cache: without it no other process uses the snapshots.
    }
  }

  /** Says once why a state is not cached. */
  #report(problem: string): false {
    if (!this.#isReported) uncachedState.publish(() => ({ kind: "snapshots", name: this.#model.type, problem }));
    this.#isReported = true;
    return false;
  }
}
