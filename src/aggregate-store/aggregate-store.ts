import type { AnyAggregate, AnyContract, DeepReadonly, EventOf, StateOf } from "../aggregate/aggregate.ts";
import type { CommandLimits } from "../aggregate/instance/command-limits.ts";
import type { CommandContext, CommandEnvelope } from "../aggregate/messages.ts";
import { EventfoldError } from "../errors.ts";
import type { EventStore } from "../event-store/event-store.ts";
import type { Unfinished } from "../event-store/unfinished.ts";
import type { AnyProjection, ReadProjection } from "../projection/projection.ts";
import type { RebuildOptions } from "../projection/projection-runner.ts";
import type { Projections, ReadProjectionOptions } from "../projection/projections.ts";
import type { UnknownEvents } from "../projection/unknown-events.ts";
import type { ProcessManagerReport } from "../process-manager/process-manager-runner.ts";
import type { Schedule, ScheduleOptions } from "../process-manager/schedule-runner.ts";
import { type ReplayOptions, withoutCommand } from "../process-manager/dead-letter.ts";
import type { ProcessManagers } from "../process-manager/process-managers.ts";
import { type ImportOptions, type ImportReport, importStore } from "../transfer/import-store.ts";
import { encryptingStore, forgetSubject } from "../personal/open-personal-store.ts";
import { AggregateHandle } from "./aggregate-handle.ts";
import { type CommandOptions, type DispatchAllOptions, limitsOfAll, withLimits } from "./command-options.ts";
import { dispatch } from "./dispatch.ts";
import {
  handleEach,
  subscribe,
  type HandlerOptions,
  type SubscribeOptions,
  type Subscription,
  type SubscriptionPlace,
  type SubscriptionSource,
} from "../subscription/subscription.ts";
import { SubscriptionLetters, subscriptionOfKey } from "../subscription/subscription-letters.ts";
import { type IdleOptions, untilIdle } from "./idle.ts";
import type { CompactOptions, CompactResult } from "./compact-instance.ts";
import type { DeleteOptions, DeleteResult } from "./delete-instance.ts";
import type { InjectedEvent, InjectOptions, InjectResult } from "./inject-event.ts";
import { checkEnvelope } from "./middleware.ts";
import type * as Of from "./registered.ts";
import type { OpenStoreEntry } from "./open-stores.ts";
import type { Instances } from "./instances.ts";
import { StoreReads } from "./store-reads.ts";
import type { SelectedEvent } from "../subscription/event-filter.ts";

/**
 * An open store: it runs commands, keeps instances in memory while they are used, and reads events. Close it (or use
 * `await using`) to let go of its storage; a process that is killed instead loses nothing that was acknowledged.
 */
export class AggregateStore<A extends AnyAggregate = AnyAggregate, P extends AnyProjection = AnyProjection>
  extends StoreReads<A>
  implements AsyncDisposable
{
  /** Only a type: there is nothing here at run time. */
  declare readonly "~types": Of.RegisteredTypes<A, P>;
  readonly #events: EventStore;
  readonly #instances: Instances;
  readonly #projections: Projections;
  readonly #managers: ProcessManagers;
  readonly #unknown: UnknownEvents;
  readonly #stop = new AbortController();
  /** The subscriptions with a handler. */
  readonly #subscriptions = new Map<
    Subscription,
    { readonly name: string | undefined; readonly place: SubscriptionPlace }
  >();
  readonly #loops: SubscriptionSource["loops"] = new Set();
  readonly #entry: OpenStoreEntry;
  readonly #clocks: Pick<SubscriptionSource, "now" | "backoffClock">;
  #closing: Promise<void> | undefined;

  /** @internal Use `AggregateStore.open` or `AggregateStore.builder`. */
  constructor(
    events: EventStore,
    instances: Instances,
    projections: Projections,
    managers: ProcessManagers,
    entry: OpenStoreEntry,
    unknown: UnknownEvents,
    clocks: Pick<SubscriptionSource, "now" | "backoffClock">,
  ) {
    super(events, instances, projections, managers, unknown);
    this.#entry = entry;
    this.#clocks = clocks;
    this.#unknown = unknown;
    this.#managers = managers;
    this.#events = events;
    this.#instances = instances;
    this.#projections = projections;
  }

  /** A handle to one instance. Does no I/O; throws `INVALID_ID` or `ID_TOO_LONG` for an id that cannot be stored. */
  get<X extends AnyAggregate, S extends Of.StoreTypes = Of.StoreTypes>(
    this: S,
    aggregate: Of.RegisteredAggregate<X, S>,
    id: string,
  ): AggregateHandle<X>;
  get(this: AggregateStore, aggregate: AnyAggregate, id: string): AggregateHandle {
    this.#instances.checkOpen();
    this.#instances.register(aggregate);
    this.#instances.checkName({ type: aggregate.type, id });
    return new AggregateHandle(aggregate, id, this.#instances);
  }

  /** The ids of all instances of an aggregate, in the order of their code points. */
  list<X extends AnyAggregate, S extends Of.StoreTypes = Of.StoreTypes>(
    this: S,
    aggregate: Of.RegisteredAggregate<X, S>,
  ): Promise<string[]>;
  async list(this: AggregateStore, aggregate: AnyAggregate): Promise<string[]> {
    return (await this.listStreams(aggregate.type)).map(({ id }) => id);
  }

  /**
   * Imports the lines of an export. An empty store becomes the same as the exported one, with all positions; what a store with the same
   * beginning has already is skipped, so an import that was cut off goes on. A store with events of its own gets the events that it
   * does not have yet, with new positions. The process managers of this store wait meanwhile. Throws `IMPORT_INVALID` for lines that
   * are damaged or missing, and `IMPORT_CONFLICT` if something else writes to the store.
   */
  async import(lines: AsyncIterable<string> | Iterable<string>, options: ImportOptions = {}): Promise<ImportReport> {
    this.#instances.checkWritable("import");
    return this.#managers.pausedDuring(() =>
      importStore(encryptingStore(this.#events), lines, options, (stream) => this.#instances.markOutdated(stream)),
    );
  }

  /** Executes the command in an envelope. Fields of `options` win over the context of the envelope. */
  dispatch<const E extends Of.Addressed, S extends Of.StoreTypes = Of.StoreTypes>(
    this: S,
    envelope: E & Of.RegisteredEnvelope<E, S>,
    options?: CommandOptions,
  ): Promise<Of.ResultOf<E, S>>;
  async dispatch(this: AggregateStore, envelope: unknown, options: CommandOptions = {}): Promise<never> {
    const { results } = await withLimits(options, (limits) =>
      this.#dispatch([envelope as CommandEnvelope], options, limits),
    );
    return results[0] as never;
  }

  /**
   * Decides several commands and writes all their events in one commit. If one is rejected or fails, nothing is written
   * and it throws. Commands of one instance see each other's events. Fields of `options` win over the contexts of the envelopes.
   */
  dispatchAll<const E extends readonly Of.Addressed[], S extends Of.StoreTypes = Of.StoreTypes>(
    this: S,
    envelopes: readonly [...E] & Of.RegisteredEnvelopes<E, S>,
    options?: DispatchAllOptions,
  ): Promise<Of.DispatchAllResult<Of.ResultsOf<E, S>>>;
  async dispatchAll(
    this: AggregateStore,
    envelopes: unknown,
    options: DispatchAllOptions = {},
  ): Promise<Of.DispatchAllResult<never>> {
    const sent = envelopes as readonly CommandEnvelope[];
    const { results, position } = await this.#dispatch(sent, options, limitsOfAll(options));
    return { results: results as never, position };
  }

  async #dispatch(
    envelopes: readonly CommandEnvelope[],
    context: CommandContext,
    limits?: CommandLimits,
  ): ReturnType<typeof dispatch> {
    this.#instances.checkWritable("a command");
    return this.#instances.during(() => dispatch(this.#instances, this.#events, envelopes, context, limits));
  }

  /**
   * A projection's state, up to date with everything committed so far. It is the live state: later reads may
   * change it, so copy what you keep. With `withPosition`, resolves to the state and the position up to which it is. Throws `PROJECTION_FAILED` when a handler throws, `TIMEOUT` when `after` does not come.
   */
  projection<X extends AnyProjection, W extends boolean = false, S extends Of.StoreTypes = Of.StoreTypes>(
    this: S,
    projection: Of.RegisteredProjection<X, S>,
    options?: ReadProjectionOptions<W>,
  ): Promise<ReadProjection<X, W>>;
  async projection(
    this: AggregateStore,
    projection: AnyProjection,
    options: ReadProjectionOptions<boolean> = {},
  ): Promise<unknown> {
    this.#instances.checkOpen();
    const read = await this.#projections.read(projection, options);
    return options.withPosition === true ? read : read.state;
  }

  /**
   * Makes all snapshots of an aggregate stale: each instance is folded from its first event when it is loaded next. Instances
   * in memory keep their state. Needed only after a change that the store cannot notice, see the guide to aggregates.
   */
  async dropSnapshots<X extends A>(aggregate: X): Promise<void> {
    await this.#instances.dropSnapshots(aggregate);
  }

  /** Folds a projection again from the first event. Until that is done, readers get the old state. */
  rebuildProjection<X extends AnyProjection, S extends Of.StoreTypes = Of.StoreTypes>(
    this: S,
    projection: Of.RegisteredProjection<X, S>,
    options?: RebuildOptions,
  ): Promise<void>;
  async rebuildProjection(
    this: AggregateStore,
    projection: AnyProjection,
    options: RebuildOptions = {},
  ): Promise<void> {
    this.#instances.checkWritable("rebuildProjection");
    await this.#projections.rebuild(projection, options);
  }

  /**
   * Lets the process managers handle every event and every due scheduled command, and what that leads to. They
   * do so by themselves unless the store was built with `processManagerMode("manual")`.
   */
  async runProcessManagers(): Promise<ProcessManagerReport> {
    this.#instances.checkWritable("runProcessManagers");
    return this.#managers.run();
  }

  /**
   * Sends the command of an envelope at a time, or again and again. Resolves when that is durable. The command is sent once for each time,
   * also after a restart and if several processes have the store open; if no process has, it is sent later. Times that were
   * missed count as one. Throws what `dispatch` throws for the envelope, and `INVALID_ARGUMENT` for options that cannot be meant.
   */
  schedule<const E extends Of.Addressed, S extends Of.StoreTypes = Of.StoreTypes>(
    this: S,
    envelope: E & Of.RegisteredEnvelope<E, S>,
    options: ScheduleOptions,
  ): Promise<Schedule>;
  async schedule(this: AggregateStore, envelope: CommandEnvelope, options: ScheduleOptions): Promise<Schedule> {
    this.#instances.checkOpen();
    this.#instances.checkWritable("schedule");
    const { aggregate, id, command, context = {} } = checkEnvelope(envelope);
    this.#instances.prepare({ type: aggregate, id }, command, context);
    return this.#managers.schedule(envelope, options);
  }

  /** Cancels the schedule with a key. Resolves to false if no such schedule waits, for example because its command was sent. */
  async cancelSchedule(key: string): Promise<boolean> {
    this.#instances.checkOpen();
    this.#instances.checkWritable("cancelSchedule");
    return this.#managers.cancelSchedule(key);
  }

  /**
   * Sends a dead letter's command once more, with another payload if `data` has one; it still takes effect at most once. Or gives a dead letter's event to the handler of its
   * subscription, which must be running in this store. If it fails again, the letter stays and this throws.
   */
  async replayDeadLetter(key: string, options: ReplayOptions = {}): Promise<void> {
    this.#instances.checkWritable("replayDeadLetter");
    const name = subscriptionOfKey(key);
    if (name === undefined) return this.#managers.replay(key, options);
    if (options.data !== undefined) throw withoutCommand(key);
    for (const [, running] of this.#subscriptions) if (running.name === name) return running.place.replay?.(key);
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `replayDeadLetter expected the subscription ${name} to be running in this store, because its handler gets the event; start it first`,
    );
  }

  /** Gives a dead letter up. */
  async dropDeadLetter(key: string): Promise<void> {
    this.#instances.checkWritable("dropDeadLetter");
    const name = subscriptionOfKey(key);
    if (name === undefined) return this.#managers.drop(key);
    await new SubscriptionLetters(this.#events, name).drop(key);
  }

  /**
   * Forgets a person: destroys the key of the subject's personal fields, durably. Then readers of all processes get the placeholders that the
   * contracts declare, and states are made again of them. False if there is no key. Later events of the subject get a new key.
   */
  async forget(subject: string): Promise<boolean> {
    this.#instances.checkWritable("forget");
    return this.#instances.during(() => forgetSubject(this.#events, subject));
  }

  /**
   * Delivers events in global order: those from `from` on that are there, then each new one, also of other processes. It ends
   * when the signal is aborted or the store closes.
   */
  subscribe<const N extends AnyContract | string = A, const T extends string = string>(
    options?: SubscribeOptions<N, T>,
  ): AsyncIterable<SelectedEvent<A, N, T>>;
  /** Calls a handler for each event; one that fails is called again with the same event, later and later. */
  subscribe<const N extends AnyContract | string = A, const T extends string = string>(
    options: HandlerOptions<N, T>,
    handler: (event: SelectedEvent<A, N, T>) => unknown,
  ): Subscription;
  subscribe(options: HandlerOptions = {}, handler?: (event: never) => unknown): AsyncIterable<unknown> | Subscription {
    if (options.name === undefined) this.#instances.checkOpen();
    // Its position is saved under the name.
    else this.#instances.checkWritable(`a subscription with a name, ${JSON.stringify(options.name)}`);
    const source = {
      events: this.#events,
      reader: (type: string) => this.#instances.reader(type),
      closing: this.#stop.signal,
      loops: this.#loops,
      names: this.#entry.names,
      checkName: (name: string) => this.#entry.checkName(name),
      ...this.#clocks,
    };
    if (handler === undefined) return subscribe(source, options);
    const place: SubscriptionPlace = {};
    const subscription = handleEach(source, options, handler as (event: unknown) => unknown, place);
    this.#subscriptions.set(subscription, { name: options.name, place });
    const forget = (): void => void this.#subscriptions.delete(subscription);
    subscription.done.then(forget, forget);
    return subscription;
  }

  /**
   * Appends an event that was made elsewhere (by another device, say) as it is, unless the instance has an event with its id
   * already. With `runProcessManagers`, the process managers have dealt with it, and with what it led to, when this
   * resolves; if they fail, this throws and the event stays: inject it again to let them go on.
   */
  async injectEvent<X extends A>(
    aggregate: X,
    id: string,
    event: InjectedEvent<EventOf<X>>,
    { runProcessManagers = false }: InjectOptions = {},
  ): Promise<InjectResult> {
    this.#instances.checkOpen();
    const result = await this.#instances.inject(aggregate, id, event as InjectedEvent);
    if (runProcessManagers) await this.runProcessManagers();
    return result;
  }

  /**
   * Resolves when there is nothing left to do: no command is under way, and the process managers that run by themselves and the
   * subscriptions with a handler have handled every event, of any process, and what that led to.
   *
   * A scheduled command counts from the time at which it is due; `idle` does not wait for that time. A reaction or handler that fails
   * has work left until an attempt succeeds, so pass a `timeout`: then `idle` throws `TIMEOUT`, which names it and has its error as
   * `cause`. Loops over `subscribe()` do not count. A handler must not wait for `idle`, which waits for the handler. Throws
   * `STORE_CLOSED` when the store closes meanwhile, and the reason of an aborted `signal`.
   */
  async idle(options: IdleOptions = {}): Promise<void> {
    await untilIdle(
      {
        events: this.#events,
        checkOpen: () => this.#instances.checkOpen(),
        isQuiet: () => this.#instances.isIdle,
        unfinished: (head) => [...this.#managers.unfinished(head), ...this.#unfinishedSubscriptions(head)],
      },
      options,
    );
  }

  #unfinishedSubscriptions(head: number): Unfinished[] {
    return [...this.#subscriptions.values()]
      .map(({ name, place }) => ({
        what: name === undefined ? "a subscription" : `subscription ${name}`,
        // One that has not read yet may have everything left.
        position: place.cursor?.isVerified === true ? place.cursor.position : -1,
        failure: place.failure,
      }))
      .filter(({ position }) => position < head);
  }

  /**
   * Deletes an instance: readers no longer get its events, and it has its initial state again. Its version goes on, and projections, process
   * managers and subscriptions get the event `$deleted`. The bytes of the events stay in the storage until `reclaim`, where no reader finds them.
   */
  async delete<X extends A>(aggregate: X, id: string, options: DeleteOptions = {}): Promise<DeleteResult> {
    this.#instances.checkOpen();
    return this.#instances.delete(aggregate, id, options);
  }

  /**
   * Replaces the events of an instance so far by those that `into` returns for its state. The store checks that they fold to the same
   * state, and throws `COMPACTION_DIFFERS` otherwise. The version goes on, and idempotency keys keep their effect: a repeated command
   * writes nothing, and gets the state after the compaction, without events. Readers that had the old events do not get the new ones;
   * readers that start over get the new ones in place of the old.
   */
  async compact<X extends A>(
    aggregate: X,
    id: string,
    options: CompactOptions<DeepReadonly<StateOf<X>>, EventOf<X>> = {},
  ): Promise<CompactResult> {
    this.#instances.checkOpen();
    return this.#instances.compact(aggregate, id, options as CompactOptions);
  }

  /** Waits for commands that were given, makes everything durable and lets go of the storage. Safe to call twice. */
  async close(): Promise<void> {
    this.#closing ??= this.#closeParts().finally(() => this.#entry.close());
    await this.#closing;
  }

  async #closeParts(): Promise<void> {
    this.#stop.abort();
    await this.#managers.close();
    await Promise.allSettled([...this.#subscriptions.keys()].map(({ done }) => done));
    await Promise.allSettled([...this.#loops].map((loop) => loop.return()));
    await this.#instances.close();
    await this.#projections.close();
    await this.#unknown.close();
    await this.#events.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
