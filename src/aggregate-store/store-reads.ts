import type { AnyAggregate, AnyContract } from "../aggregate/aggregate.ts";
import type { RecordedEvent } from "../aggregate/messages.ts";
import type { BackupReport, EventStore, StreamName } from "../event-store/event-store.ts";
import { refreshBeforeReading } from "../event-store/freshness.ts";
import type { DeadLetter } from "../process-manager/dead-letter.ts";
import type { AnyProcessManager } from "../process-manager/process-manager.ts";
import type { Schedule } from "../process-manager/schedule-runner.ts";
import type { ProcessManagers } from "../process-manager/process-managers.ts";
import { projectionAt } from "../projection/past-projection.ts";
import { type AnyProjection, definitionOf, type ProjectionState } from "../projection/projection.ts";
import type { Projections } from "../projection/projections.ts";
import type { UnknownEvents } from "../projection/unknown-events.ts";
import { consumerOf } from "../subscription/subscription-letters.ts";
import type { SelectedEvent } from "../subscription/event-filter.ts";
import { type ExportOptions, exportStore } from "../transfer/export-store.ts";
import { encryptedStore } from "../personal/open-personal-store.ts";
import { backup, type StoreBackupOptions } from "./backup.ts";
import { isOutcomesType } from "../stream-names.ts";
import type { Instances } from "./instances.ts";
import { reclaimStore, type StoreReclaimOptions, type StoreReclaimReport } from "./reclaim.ts";
import { checkReadOptions, readEvents, type ReadEventsOptions } from "./read-events.ts";
import type * as Of from "./registered.ts";
import { type StoreStatus, storeStatus } from "./store-status.ts";

/** What can be read of an open store as a whole. */
export abstract class StoreReads<A extends AnyAggregate> {
  readonly #events: EventStore;
  readonly #instances: Instances;
  readonly #projections: Projections;
  readonly #managers: ProcessManagers;
  readonly #unknown: UnknownEvents;

  constructor(
    events: EventStore,
    instances: Instances,
    projections: Projections,
    managers: ProcessManagers,
    unknown: UnknownEvents,
  ) {
    this.#events = events;
    this.#instances = instances;
    this.#projections = projections;
    this.#managers = managers;
    this.#unknown = unknown;
  }

  /** All instances, or those of one type. */
  async listStreams(type?: string): Promise<StreamName[]> {
    this.#instances.checkOpen();
    await refreshBeforeReading(this.#events);
    const streams = await this.#events.listStreams(type);
    return type === undefined ? streams.filter((stream) => !isOutcomesType(stream.type)) : [...streams];
  }

  /** The events of one instance from a version on (1 if left out), also of aggregates that are not registered. */
  readEvents(type: string, id: string, options: { readonly from?: number } = {}): AsyncIterable<RecordedEvent> {
    return this.#instances.events(type, id, options.from);
  }

  /**
   * The events of the store that are there when reading begins, in global order, also of aggregates that are not registered. Ends after
   * the last of them; `subscribe` goes on. Throws `INVALID_ARGUMENT` for a bad position or limit.
   */
  events<const N extends AnyContract | string = A, const T extends string = string>(
    options: ReadEventsOptions<N, T> = {},
  ): AsyncIterable<SelectedEvent<A, N, T>> {
    this.#instances.checkOpen();
    checkReadOptions(options);
    return readEvents(this.#events, this.#instances, options) as AsyncIterable<SelectedEvent<A, N, T>>;
  }

  /** A projection's state after the event at a position, beside the live one. Folds all events up to there, and uses no checkpoint. */
  projectionAt<X extends AnyProjection, S extends Of.StoreTypes = Of.StoreTypes>(
    this: S,
    projection: Of.RegisteredProjection<X, S>,
    position: number,
  ): Promise<ProjectionState<X>>;
  async projectionAt(this: StoreReads<AnyAggregate>, projection: AnyProjection, position: number): Promise<unknown> {
    this.#instances.checkOpen();
    return projectionAt(definitionOf(projection), this.#events, this.#unknown, position);
  }

  /** Position of the last committed event, of any process; 0 if there is none. */
  async head(): Promise<number> {
    this.#instances.checkOpen();
    await refreshBeforeReading(this.#events);
    return this.#events.head();
  }

  /** How far everything is: the log, the projections, process managers and named subscriptions, what waits and what failed. */
  async status(): Promise<StoreStatus> {
    this.#instances.checkOpen();
    return storeStatus(this.#events, this.#projections, this.#managers, this.#unknown);
  }

  /**
   * Copies the store to another directory while it is used, by this process and by others: a prefix of the history that has every commit
   * acknowledged before the call. Durable when it resolves. Throws `TARGET_NOT_EMPTY` unless the directory is empty or has what is left
   * of a backup that was cut off, which goes on; with `incremental: true` it may have an earlier backup, to which what is new is added.
   * Throws `COPY_DIVERGED` if that is not one of this store, and `INVALID_ARGUMENT` if this store is not in a directory.
   */
  async backup(target: string, options: StoreBackupOptions = {}): Promise<BackupReport> {
    this.#instances.checkOpen();
    return backup(this.#events, target, options);
  }

  /**
   * Removes the events of deleted and compacted instances from the directory for good, with their snapshots and all that was made of
   * them, and compresses the parts of the commit log that are complete. This process and others may use the store meanwhile. A call that
   * is cut off, in whatever way, loses nothing, and the next one goes on. Throws `STORE_BUSY` if another process reclaims, `DISK_FULL`,
   * and `INVALID_ARGUMENT` if this store is not in a directory.
   */
  async reclaim(options: StoreReclaimOptions = {}): Promise<StoreReclaimReport> {
    this.#instances.checkWritable("reclaim");
    return this.#instances.during(() => reclaimStore(this.#events, this.#managers, options));
  }

  /**
   * The store as lines of JSON: all events with their positions, and what keeps process managers and named subscriptions from doing
   * anything again. `import` reads them, into any storage. The export ends with what is there when its reading begins; the store
   * may be used meanwhile. Personal fields stay encrypted. The guide "Backup and moving" shows how to move a store.
   */
  export(options: ExportOptions = {}): AsyncIterable<string> {
    this.#instances.checkOpen();
    return exportStore(encryptedStore(this.#events), options);
  }

  /** The commands that programs have scheduled and that are still to be sent, the next one first. */
  async schedules(): Promise<readonly Schedule[]> {
    this.#instances.checkOpen();
    return this.#managers.schedules();
  }

  /**
   * Commands of process managers and schedules that could not be delivered, and events that subscriptions could not handle: all of them,
   * or those of a process manager or a subscription.
   */
  async deadLetters(of?: AnyProcessManager | string | { readonly subscription: string }): Promise<DeadLetter[]> {
    this.#instances.checkOpen();
    const name = typeof of !== "object" ? of : "subscription" in of ? consumerOf(of.subscription) : of.name;
    return this.#managers.deadLetters(name);
  }
}
