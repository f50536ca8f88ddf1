import { CommandRejectedError, EventfoldError } from "../../errors.ts";
import { type CutData, cutOfType, replacedIds } from "../../cut.ts";
import type { EventStore, StoredEvent, StreamName } from "../../event-store/event-store.ts";
import { refreshBeforeReading } from "../../event-store/freshness.ts";
import { loading, type LoadTrace } from "../../tracing/tracing.ts";
import type { RecordedEvent } from "../messages.ts";
import { freeze } from "../freeze.ts";
import { type AggregateModel, type Environment } from "../model.ts";
import type { CommandOutcome } from "./command-outcome.ts";
import { type Earlier, IdempotencyKeys } from "./idempotency-keys.ts";
import { explained, type PastState, stateAt } from "./past-state.ts";
import { RememberedOutcomes } from "./remembered-outcomes.ts";
import type { TypeSnapshots } from "./type-snapshots.ts";

/**
 * How the state in memory compares with the stream:
 *
 * - `absent`: nothing is loaded, or what was loaded cannot be relied on any more.
 * - `reading`: events are being read.
 * - `outdated`: usable as an old state; another process has committed since it was read.
 * - `current`: no newer event is known.
 */
type Freshness = "absent" | "reading" | "outdated" | "current";

/**
 * The state of one stream as far as it is committed: what callers may see. Loads itself from a snapshot and the events
 * after it, follows the commits of other processes, and is moved forward by the commits of this one.
 */
export class CommittedState {
  readonly stream: StreamName;
  readonly #model: AggregateModel;
  readonly #store: EventStore;
  readonly #snapshots: TypeSnapshots;
  readonly #environment: Environment;
  #freshness: Freshness = "absent";
  #state: unknown;
  #version = 0;
  #position = 0;
  /** Version of the snapshot that the last load began with; 0 for none. */
  #loadedSnapshot = 0;
  /** Read when the first command with an idempotency key arrives. */
  #keys: IdempotencyKeys | undefined;
  /** Another process has added remembered outcomes since they were read. */
  #hasNewOutcomes = false;
  /** The last deletion that was read. */
  #deletion: { readonly version: number; readonly isFinal: boolean } | undefined;
  /** Ids of all events; read when the first event is injected. */
  #eventIds: Set<string> | undefined;

  constructor(
    stream: StreamName,
    model: AggregateModel,
    store: EventStore,
    snapshots: TypeSnapshots,
    environment: Environment,
  ) {
    this.#snapshots = snapshots;
    this.stream = stream;
    this.#model = model;
    this.#store = store;
    this.#environment = environment;
  }

  get state(): unknown {
    return this.#state;
  }

  get version(): number {
    return this.#version;
  }

  get position(): number {
    return this.#position;
  }

  get isAbsent(): boolean {
    return this.#freshness === "absent";
  }

  get isCurrent(): boolean {
    return this.#freshness === "current";
  }

  get loadedSnapshot(): number {
    return this.#loadedSnapshot;
  }

  /** `undefined` until they are read. */
  get keys(): IdempotencyKeys | undefined {
    return this.#keys;
  }

  /** Whether the stream has events that count: it was never deleted, or has a new life. */
  get exists(): boolean {
    return this.#version > 0 && this.#deletion?.version !== this.#version;
  }

  /** Whether the instance was deleted and must not live again. */
  get isFinal(): boolean {
    return this.#deletion?.isFinal === true;
  }

  /** Throws `INSTANCE_DELETED` if the instance must not live again. */
  checkMayLive(): void {
    if (this.#deletion?.isFinal !== true) return;
    const { type, id } = this.stream;
    throw new EventfoldError(
      "INSTANCE_DELETED",
      `${type} ${JSON.stringify(id)} was deleted for good at version ${this.#deletion.version}; use another id`,
    );
  }

  /** The outcome of a command that changes nothing. */
  get outcome(): CommandOutcome {
    return { events: [], state: this.#state, version: this.#version, position: this.#position };
  }

  /** The stream has newer events than this state. */
  markOutdated(): void {
    if (this.#freshness !== "absent") this.#freshness = "outdated";
  }

  /** Another process has remembered outcomes that this one does not know. */
  markOutcomesOutdated(): void {
    // Without keys, they are read with these.
    if (this.#keys === undefined) return;
    this.#hasNewOutcomes = true;
    this.markOutdated();
  }

  /** The next use loads the stream again. Readers that are being answered still get the state of before. */
  unload(): void {
    this.#freshness = "absent";
    this.#keys = undefined;
    this.#eventIds = undefined;
  }

  /** Loads the state, or reads the events that it does not have yet. Rejects when reading fails. */
  bringUpToDate(): Promise<void> {
    const begin = (): LoadTrace => ({ aggregate: this.stream.type, id: this.stream.id });
    return loading.promise(begin, async (trace) => {
      const isLoad = this.#freshness === "absent";
      const before = this.#version;
      if (isLoad) await this.#load();
      else await this.catchUp();
      if (trace === undefined) return;
      trace.snapshotVersion = isLoad ? this.#loadedSnapshot : 0;
      trace.events = this.#version - (isLoad ? this.#loadedSnapshot : before);
      trace.version = this.#version;
      trace.position = this.#position;
    });
  }

  /** May load an old state from a store that answers from what it knows: the first commit on it conflicts then. */
  async #load(): Promise<void> {
    const snapshot = await this.#snapshots.load(this.stream);
    this.#state = snapshot === undefined ? this.#model.initial() : snapshot.state;
    this.#version = this.#loadedSnapshot = snapshot?.version ?? 0;
    this.#position = snapshot?.position ?? 0;
    this.#keys = undefined;
    this.#eventIds = undefined;
    this.#deletion = undefined;
    try {
      await this.#readNewEvents();
    } catch (error) {
      this.unload();
      throw error;
    }
  }

  /** Folds the events that came since. On failure the old state stays, and the next use tries again. */
  async catchUp(): Promise<void> {
    await refreshBeforeReading(this.#store);
    await this.#readNewEvents();
  }

  async #readNewEvents(): Promise<void> {
    this.#freshness = "reading";
    let state = this.#state;
    let last: StoredEvent | undefined;
    let deletion = this.#deletion;
    const { outcomes } = this.#hasNewOutcomes && this.#keys !== undefined ? this.#keys : {};
    this.#hasNewOutcomes = false;
    try {
      await outcomes?.readNew(this.#store);
      for await (const batch of this.#store.readStream(this.stream, { from: this.#version + 1 })) {
        for (const event of batch) {
          state = this.#model.fold(state, event, this.#environment.onUnknownEvent);
          const cut = cutOfType(event.type);
          if (cut === "deleted")
            deletion = { version: event.version, isFinal: (event.data as CutData | null)?.final === true };
          this.#keys?.recordEvent(event);
          // An id has to be read from the line, so not without need.
          if (this.#eventIds !== undefined) addIds(this.#eventIds, event);
          last = event;
        }
      }
      state = freeze(state);
      this.#model.checkState(state, this.stream.id);
    } catch (error) {
      this.#freshness = "outdated";
      if (outcomes !== undefined) this.#hasNewOutcomes = true;
      throw await explained(error, this.stream, this.#environment);
    }
    this.#state = state;
    this.#deletion = deletion;
    if (last !== undefined) {
      this.#version = last.version;
      this.#position = last.position;
    }
    this.#becomeCurrent();
  }

  /** A commit of another process may have been noticed while the events were read: then they are read again before the next use. */
  #becomeCurrent(): void {
    if (this.#freshness === "reading") this.#freshness = "current";
  }

  /** Moves on after a commit of this process. */
  advance(state: unknown, version: number, position: number): void {
    this.#environment.unknownEvents?.passOwn(version - this.#version, position);
    this.#state = state;
    this.#version = version;
    this.#position = position;
  }

  /** Moves on after a commit of this process that has remembered outcomes. */
  advanceOutcomes(count: number, position: number): void {
    this.#environment.unknownEvents?.passOwn(count, position);
    this.#keys?.outcomes.commit(count);
  }

  /** The outcomes that are remembered, with no other keys. */
  async readOutcomes(): Promise<RememberedOutcomes> {
    if (this.#keys !== undefined) return this.#keys.outcomes;
    const outcomes = new RememberedOutcomes(this.stream);
    await outcomes.readNew(this.#store);
    return outcomes;
  }

  async loadKeys(): Promise<IdempotencyKeys> {
    this.#keys ??= await IdempotencyKeys.read(this.#store, this.stream, this.#version);
    return this.#keys;
  }

  /** Whether the stream has an event with this id. */
  async hasEvent(eventId: string): Promise<boolean> {
    this.#eventIds ??= await this.#readEventIds();
    return this.#eventIds.has(eventId);
  }

  /** Records the ids of newly committed events, if ids are kept at all. */
  recordEventIds(events: readonly { readonly eventId: string }[]): void {
    if (this.#eventIds === undefined) return;
    for (const { eventId } of events) this.#eventIds.add(eventId);
  }

  /** The next `hasEvent` reads the ids again. */
  forgetEventIds(): void {
    this.#eventIds = undefined;
  }

  async #readEventIds(): Promise<Set<string>> {
    const ids = new Set<string>();
    for await (const batch of this.#store.readStream(this.stream)) {
      for (const event of batch) addIds(ids, event);
    }
    return ids;
  }

  /** Reads back what an earlier command led to. Throws its rejection. */
  async outcomeOf(earlier: Earlier): Promise<CommandOutcome> {
    if ("command" in earlier) {
      const { command, version, rejection } = earlier;
      if (rejection !== undefined) throw new CommandRejectedError(this.stream.type, this.stream.id, command, rejection);
      return { events: [], ...(await this.#stateAt(version)) };
    }
    const { from, to, isReplaced } = earlier;
    const events: RecordedEvent[] = [];
    if (isReplaced === true) return { events, ...(await this.#stateAt(to)) };
    for await (const batch of this.#store.readStream(this.stream, { from })) {
      for (const event of batch) {
        if (event.version > to) continue;
        for (const recorded of this.#model.reader.recorded(event)) events.push(recorded);
      }
    }
    return { events, ...(await this.#stateAt(to)) };
  }

  #stateAt(version: number): Promise<PastState> {
    return stateAt(this.stream, this.#model, this.#store, this.#environment, { version });
  }
}

/** Adds the id of an event, and those that a compaction keeps. A deletion has forgotten the ids before. */
function addIds(ids: Set<string>, event: StoredEvent): void {
  const { type, eventId } = event;
  const cut = cutOfType(type);
  if (cut !== undefined) ids.clear();
  if (eventId !== undefined) ids.add(eventId);
  if (cut === "compacted") for (const id of replacedIds(event)) ids.add(id);
}
