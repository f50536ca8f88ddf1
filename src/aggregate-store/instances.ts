import type { AnyAggregate } from "../aggregate/aggregate.ts";
import { checkContext, ownContext, withMetadata } from "../aggregate/context.ts";
import type { CommandLimits } from "../aggregate/instance/command-limits.ts";
import type { CommandOutcome } from "../aggregate/instance/command-outcome.ts";
import { type CommandOptions, withLimits } from "./command-options.ts";
import { explain, type Explanation } from "../aggregate/instance/explained-state.ts";
import { Instance } from "../aggregate/instance/instance.ts";
import { TypeSnapshots } from "../aggregate/instance/type-snapshots.ts";
import type { Lease } from "../aggregate/instance/lease.ts";
import type { CommandContext, CommandEnvelope, RecordedEvent } from "../aggregate/messages.ts";
import { type EventReader, recordedEvent } from "../aggregate/event-reader.ts";
import type { ValuePath } from "../aggregate/value-changes.ts";
import { AggregateModel, type Command, type Environment } from "../aggregate/model.ts";
import { duplicateDefinition } from "../duplicate-definition.ts";
import { EventfoldError } from "../errors.ts";
import type { EventStore, StreamName } from "../event-store/event-store.ts";
import { cutOfType } from "../cut.ts";
import { refreshBeforeReading } from "../event-store/freshness.ts";
import { readOnlyStore } from "../event-store/read-only.ts";
import { type FullName, fullNameOf, instanceOf, isOutcomesType, outcomesOf } from "../stream-names.ts";
import { isWellFormed } from "../json.ts";
import { instanceEvicted, instanceLoaded, executing, type ExecuteTrace } from "../tracing/tracing.ts";
import { type Execute, MiddlewareChain } from "./middleware.ts";
import { compactInstance, type CompactOptions, type CompactResult } from "./compact-instance.ts";
import { DueCompactions } from "./due-compactions.ts";
import { deleteInstance, type DeleteOptions, type DeleteResult } from "./delete-instance.ts";
import { draftOf, injectEvent, type InjectedEvent, type InjectResult } from "./inject-event.ts";
import { told } from "./told-outcome.ts";
import { monotonicNow, sleep, startTimer } from "../real-timers.ts";
import { turn } from "../event-loop.ts";
import { isDate } from "../realm.ts";

/** Instances saved at once while evicting, so that commands are not kept waiting. */
const EVICTIONS_AT_ONCE = 32;

/** A point in an instance's past. */
export interface StateOptions {
  /** After this many events. */
  readonly version?: number;
  /** After the last event that is not later: a date or milliseconds since 1970. */
  readonly at?: Date | number;
}

/** The aggregates of a store and their instances in memory. */
export class Instances {
  readonly eventStore: EventStore;
  readonly middleware: MiddlewareChain;
  readonly #environment: Environment;
  readonly #idleTimeout: number;
  readonly #models = new Map<string, AggregateModel>();
  readonly #snapshots = new Map<string, TypeSnapshots>();
  readonly #instances = new Map<FullName, Instance>();
  readonly #stopWatching: () => void;
  #cancelSweep: (() => void) | undefined;
  #sweeping: Promise<void> | undefined;
  readonly #isReadOnly: boolean;
  #closed = false;
  /** Operations that have begun and are not done. */
  #begun = 0;

  constructor(
    events: EventStore,
    environment: Environment,
    idleTimeout: number,
    middleware: MiddlewareChain = new MiddlewareChain([]),
    isReadOnly = false,
  ) {
    this.#isReadOnly = isReadOnly;
    this.eventStore = events;
    this.middleware = middleware;
    const compactions = new DueCompactions(events, (stream) => this.#compact(stream, {}));
    const onGrown = (stream: StreamName, version: number): void => {
      if (!this.#closed) compactions.consider(stream, this.model(stream.type), version);
    };
    this.#environment = { ...environment, onGrown };
    this.#idleTimeout = idleTimeout;
    const stopForeign = events.watchForeign((stream) => this.markOutdated(stream));
    const stopEra = events.watchEra?.(() => this.#unloadAll()) ?? stopForeign;
    this.#stopWatching = () => void [stopForeign(), stopEra()];
  }

  /** A person was forgotten: all states are made again from what is left. */
  #unloadAll(): void {
    for (const snapshots of this.#snapshots.values()) snapshots.reset();
    for (const instance of this.#instances.values()) instance.markOutdated(true);
  }

  /** Something else than a command of this store has appended to a stream. */
  markOutdated(stream: StreamName): void {
    const instance = this.#instances.get(fullNameOf(instanceOf(stream)));
    if (isOutcomesType(stream.type)) instance?.markOutcomesOutdated();
    else instance?.markOutdated();
  }

  /** Makes an aggregate known. Another definition with the same type is an error. */
  register(aggregate: AnyAggregate): AggregateModel {
    const known = this.#models.get(aggregate.type);
    const model = AggregateModel.of(aggregate);
    if (known !== undefined && known !== model) {
      throw duplicateDefinition(`aggregate ${aggregate.type}`, "in this store");
    }
    if (known === undefined) {
      this.#environment.checkPersonal?.(aggregate);
      this.#models.set(aggregate.type, model);
      this.#environment.unknownEvents?.declare(aggregate.type, model.reader.storedTypes);
    }
    return model;
  }

  model(type: string): AggregateModel {
    const model = this.#models.get(type);
    if (model === undefined) {
      const known = [...this.#models.keys()].join(", ");
      throw new EventfoldError(
        "UNKNOWN_AGGREGATE",
        `no aggregate ${JSON.stringify(type)} is registered in this store${known === "" ? "" : `; it has ${known}`}`,
      );
    }
    return model;
  }

  /** Reads events of an aggregate that is registered. */
  reader(type: string): EventReader | undefined {
    return this.#models.get(type)?.reader;
  }

  knows(type: string): boolean {
    return this.#models.has(type);
  }

  /** Throws for an id that cannot be stored. Does no I/O. */
  checkName(stream: StreamName): void {
    const { id } = stream;
    if (typeof id !== "string" || id === "")
      throw new EventfoldError("INVALID_ID", `an id is a non-empty string, not ${JSON.stringify(id) ?? typeof id}`);
    if (!isWellFormed(id))
      throw new EventfoldError(
        "INVALID_ID",
        `id ${JSON.stringify(id)} has half of a surrogate pair: it is not Unicode text`,
      );
    this.eventStore.checkName(stream);
  }

  /** Never throws: what is wrong with a command is how its promise ends. */
  execute(
    aggregate: AnyAggregate,
    stream: StreamName,
    command: unknown,
    options: CommandOptions,
  ): Promise<CommandOutcome> {
    try {
      this.checkWritable("a command");
      const model = this.register(aggregate);
      if (!this.middleware.isEmpty) return this.#pass(stream, command, options);
      const validated = this.#validate(model, command, options);
      return withLimits(options, (limits) => this.run(stream, validated, limits));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Executes a command that passes the middleware, which may change its envelope. The command is checked after that. */
  #pass(stream: StreamName, command: unknown, options: CommandOptions): Promise<CommandOutcome> {
    checkContext(options);
    const envelope = {
      aggregate: stream.type,
      id: stream.id,
      command: command as CommandEnvelope["command"],
      context: ownContext(options),
    };
    return withLimits(options, (limits) => {
      const run: Execute = async ({ aggregate, id, command: sent, context = {} }) => {
        const address = { type: aggregate, id };
        return this.run(address, this.prepare(address, sent, context), limits);
      };
      return this.during(() => this.middleware.pass(envelope, run, limits.signal));
    });
  }

  #validate(model: AggregateModel, command: unknown, context: CommandContext): Command {
    checkContext(context);
    return model.validateCommand(command, ownContext(context));
  }

  /** Checks a command for an instance that will be leased. */
  prepare(stream: StreamName, command: unknown, context: CommandContext): Command {
    const model = this.model(stream.type);
    this.checkName(stream);
    return this.#validate(model, command, context);
  }

  /** Executes a prepared command. */
  run(stream: StreamName, command: Command, limits?: CommandLimits): Promise<CommandOutcome> {
    if (!executing.isWatched) return this.#instance(stream).execute(command, limits);
    const { type, context } = command;
    const begin = (): ExecuteTrace => ({
      aggregate: stream.type,
      id: stream.id,
      command: type,
      actor: context.actor,
      correlationId: context.correlationId,
      metadata: context.metadata,
    });
    return executing.promise(begin, (trace) => {
      if (trace === undefined) return this.#instance(stream).execute(command, limits);
      const traced = withMetadata(command, trace.extraMetadata);
      return told(this.#instance(stream).execute(traced, { ...limits, trace }), trace);
    });
  }

  /** Appends an event that was made elsewhere. */
  async inject(aggregate: AnyAggregate, id: string, event: InjectedEvent): Promise<InjectResult> {
    this.checkWritable("injectEvent");
    return this.during(async () => {
      const model = this.register(aggregate);
      const stream = { type: aggregate.type, id };
      const draft = draftOf(event, model, this.#environment);
      return injectEvent(this, this.eventStore, stream, draft);
    });
  }

  /** Drops the events of an instance. */
  async delete(aggregate: AnyAggregate, id: string, options: DeleteOptions): Promise<DeleteResult> {
    this.checkWritable("delete");
    return this.during(async () => {
      this.register(aggregate);
      const stream = { type: aggregate.type, id };
      this.checkName(stream);
      return deleteInstance(this, this.eventStore, stream, options, this.#environment);
    });
  }

  /** Replaces the events of an instance. */
  async compact(aggregate: AnyAggregate, id: string, options: CompactOptions): Promise<CompactResult> {
    this.checkWritable("compact");
    this.register(aggregate);
    const stream = { type: aggregate.type, id };
    this.checkName(stream);
    return this.#compact(stream, options);
  }

  #compact(stream: StreamName, options: CompactOptions): Promise<CompactResult> {
    return this.during(() =>
      compactInstance(this, this.eventStore, stream, this.model(stream.type), options, this.#environment),
    );
  }

  lease(stream: StreamName): Promise<Lease> {
    return this.#instance(stream).lease();
  }

  async state(aggregate: AnyAggregate, id: string, { version, at }: StateOptions): Promise<unknown> {
    this.checkOpen();
    this.register(aggregate);
    if (version !== undefined && !(Number.isSafeInteger(version) && version >= 0))
      throw new EventfoldError("INVALID_ARGUMENT", `version is a whole number from 0 on, not ${version}`);
    const time = isDate(at) ? at.getTime() : at;
    if (time !== undefined && (typeof time !== "number" || Number.isNaN(time)))
      throw new EventfoldError("INVALID_ARGUMENT", `at is milliseconds since 1970 or a date, found ${String(at)}`);
    const instance = this.#instance({ type: aggregate.type, id });
    if (version === undefined && time === undefined) return (await instance.read()).state;
    return (
      await instance.at({ ...(version === undefined ? {} : { version }), ...(time === undefined ? {} : { time }) })
    ).state;
  }

  async explain(aggregate: AnyAggregate, id: string, path: ValuePath): Promise<Explanation[]> {
    this.checkOpen();
    const model = this.register(aggregate);
    const stream = { type: aggregate.type, id };
    this.checkName(stream);
    await refreshBeforeReading(this.eventStore);
    return explain(stream, model, this.eventStore, this.#environment, path);
  }

  async *events(type: string, id: string, from = 1): AsyncGenerator<RecordedEvent, void, undefined> {
    this.checkOpen();
    this.checkName({ type, id });
    if (!(Number.isSafeInteger(from) && from >= 1))
      throw new EventfoldError("INVALID_ARGUMENT", `from is a version, 1 or more, not ${from}`);
    const reader = this.reader(type);
    await refreshBeforeReading(this.eventStore);
    for await (const batch of this.eventStore.readStream({ type, id }, { from })) {
      for (const event of batch) {
        if (cutOfType(event.type) !== undefined) continue;
        if (reader === undefined) yield recordedEvent(event, event.data);
        else yield* reader.recorded(event);
      }
    }
  }

  /** Makes all snapshots of an aggregate stale. */
  async dropSnapshots(aggregate: AnyAggregate): Promise<void> {
    this.checkWritable("dropSnapshots");
    return this.during(() => {
      this.register(aggregate);
      return this.#snapshotsOf(aggregate.type).drop();
    });
  }

  #snapshotsOf(type: string): TypeSnapshots {
    let snapshots = this.#snapshots.get(type);
    if (snapshots === undefined)
      this.#snapshots.set(type, (snapshots = new TypeSnapshots(this.model(type), this.eventStore, this.#environment)));
    return snapshots;
  }

  isAlive(type: string, id: string): boolean {
    return this.#instances.has(fullNameOf({ type, id }));
  }

  /** Runs an operation that `close` waits for; refuses when the store is closed. */
  async during<T>(work: () => Promise<T>): Promise<T> {
    this.checkOpen();
    this.#begun++;
    try {
      return await work();
    } finally {
      this.#begun--;
    }
  }

  checkOpen(): void {
    if (this.#closed) throw new EventfoldError("STORE_CLOSED", "the store is closed; open it again to go on");
  }

  /** Throws `READ_ONLY` if nothing may be written. `call` names the call that would write. */
  checkWritable(call: string): void {
    this.checkOpen();
    if (this.#isReadOnly) throw readOnlyStore(call);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelSweep?.();
    await this.#sweeping;
    // Commands that were given are carried out, also those whose instance is still loading.
    while (!this.isIdle) await sleep(1);
    this.#stopWatching();
    if (instanceEvicted.isWatched) for (const instance of this.#instances.values()) publishEviction(instance);
  }

  /** Whether no command is under way. */
  get isIdle(): boolean {
    return this.#begun === 0 && [...this.#instances.values()].every((instance) => instance.isIdle);
  }

  #instance(stream: StreamName): Instance {
    const key = fullNameOf(stream);
    let instance = this.#instances.get(key);
    if (instance === undefined) {
      this.checkName(stream);
      const snapshots = this.#snapshotsOf(stream.type);
      instance = new Instance(stream, this.model(stream.type), this.eventStore, snapshots);
      this.#instances.set(key, instance);
      instanceLoaded.publish(() => ({ aggregate: stream.type, id: stream.id }));
      this.#scheduleSweep();
    }
    return instance;
  }

  /** One timer for all instances; none while there are no instances. */
  #scheduleSweep(): void {
    if (this.#cancelSweep !== undefined || this.#closed || this.#idleTimeout === Infinity) return;
    const interval = Math.min(Math.max(this.#idleTimeout / 4, 10), 30_000);
    const sweep = (): void => {
      this.#sweeping = this.#evictIdle().finally(() => {
        this.#cancelSweep = undefined;
        this.#sweeping = undefined;
        if (this.#instances.size > 0) this.#scheduleSweep();
      });
    };
    this.#cancelSweep = startTimer(sweep, interval, "background");
  }

  async #evictIdle(): Promise<void> {
    const due = monotonicNow() - this.#idleTimeout;
    const idle = [...this.#instances].filter(([, instance]) => instance.lastUsed <= due && instance.isIdle);
    for (let i = 0; i < idle.length && !this.#closed; i += EVICTIONS_AT_ONCE) {
      await Promise.all(idle.slice(i, i + EVICTIONS_AT_ONCE).map(([key, instance]) => this.#evict(key, instance, due)));
      await turn();
    }
  }

  async #evict(key: FullName, instance: Instance, due: number): Promise<void> {
    await instance.saveSnapshot();
    // A command may have come while the snapshot was written: then it stays.
    if (!instance.isIdle || instance.lastUsed > due || this.#instances.get(key) !== instance) return;
    this.#instances.delete(key);
    this.eventStore.release(instance.stream);
    if (instance.hasOutcomes) this.eventStore.release(outcomesOf(instance.stream));
    publishEviction(instance);
  }
}

function publishEviction({ stream, version }: Instance): void {
  instanceEvicted.publish(() => ({ aggregate: stream.type, id: stream.id, version }));
}
