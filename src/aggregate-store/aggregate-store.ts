import type { AnyAggregate, CommandOf, EventOf } from "../aggregate/aggregate.ts";
import type { CommandContext, CommandEnvelope, RecordedEvent } from "../aggregate/messages.ts";
import { EventfoldError } from "../errors.ts";
import type { EventStore, StreamName } from "../event-store/event-store.ts";
import { isWellFormed } from "../json.ts";
import { MemoryEventStore } from "../event-store/memory-event-store.ts";
import type { FileSystem } from "../fs/file-system.ts";
import type { UnknownEventPolicy } from "../aggregate/model.ts";
import { type AnyProjection, definitionOf, type ProjectionState } from "../projection/projection.ts";
import type { RebuildOptions } from "../projection/projection-runner.ts";
import { Projections, type ReadProjectionOptions } from "../projection/projections.ts";
import { type AnyProcessManager, processManagerDefinition } from "../process-manager/process-manager.ts";
import type { ProcessManagerReport } from "../process-manager/process-manager-runner.ts";
import type { DeadLetter } from "../process-manager/dead-letter.ts";
import { ProcessManagers } from "../process-manager/process-managers.ts";
import { AggregateHandle, type CommandResult } from "./aggregate-handle.ts";
import { dispatchAll } from "./dispatch-all.ts";
import {
  handleEach,
  subscribe,
  type SubscribeOptions,
  type Subscription,
  type SubscriptionSource,
} from "../subscription/subscription.ts";
import type { InjectedEvent, InjectOptions, InjectResult } from "./inject-event.ts";
import { type Duration, milliseconds } from "../duration.ts";
import { dispatching, type DispatchTrace } from "../tracing/tracing.ts";
import { Instances } from "./instances.ts";

/** An envelope for one of the given aggregates. */
export type EnvelopeFor<A extends AnyAggregate> = A extends AnyAggregate
  ? CommandEnvelope<A["type"], CommandOf<A>>
  : never;

/** A recorded event of one of the given aggregates. */
export type RecordedEventOf<A extends AnyAggregate> = A extends AnyAggregate
  ? RecordedEvent<A["type"], EventOf<A>>
  : never;

/** The results of `dispatchAll`, in the order of the envelopes. */
export interface DispatchAllResult<A extends AnyAggregate> {
  readonly results: readonly CommandResult<A>[];
  /** Position of the commit's last event. */
  readonly position: number;
}

/**
 * The aggregates of one directory: runs commands, keeps instances in memory while they are used, and reads
 * events. Close it (or use `await using`) to leave the directory tidy; a process that is killed instead loses nothing
 * that was acknowledged.
 */
export class AggregateStore<
  A extends AnyAggregate = AnyAggregate,
  P extends AnyProjection = AnyProjection,
> implements AsyncDisposable {
  readonly #events: EventStore;
  readonly #instances: Instances;
  readonly #projections: Projections;
  readonly #managers: ProcessManagers;
  readonly #stop = new AbortController();
  readonly #subscriptions = new Set<Subscription>();
  readonly #loops: SubscriptionSource["loops"] = new Set();
  readonly #names: SubscriptionSource["names"] = new Set();
  #closing: Promise<void> | undefined;

  /** @internal Use `open`, `builder` or `inMemory`. */
  constructor(events: EventStore, instances: Instances, projections: Projections, managers: ProcessManagers) {
    this.#managers = managers;
    this.#events = events;
    this.#instances = instances;
    this.#projections = projections;
  }

  /** Opens the store in a directory with the defaults, making the directory when missing. */
  static async open(directory: string): Promise<AggregateStore> {
    return AggregateStore.builder(directory).open() as Promise<AggregateStore>;
  }

  /** Begins to configure a store in a directory. */
  static builder(directory: string): AggregateStoreBuilder {
    if (typeof directory !== "string" || directory === "")
      throw new EventfoldError("INVALID_ARGUMENT", "builder(directory) needs the path of a directory");
    return new AggregateStoreBuilder(directory, DEFAULTS);
  }

  /** A store that keeps everything in memory, for tests and prototypes: gone when it is closed. */
  static inMemory(): AggregateStore {
    return assemble(new MemoryEventStore(), NO_WIRING, DEFAULTS);
  }

  /** Begins to configure a store that keeps everything in memory. */
  static inMemoryBuilder(): AggregateStoreBuilder {
    return new AggregateStoreBuilder(undefined, DEFAULTS);
  }

  /** A handle to one instance. Does no I/O; throws `INVALID_ID` or `ID_TOO_LONG` for an id that cannot be stored. */
  get<X extends A>(aggregate: X, id: string): AggregateHandle<X> {
    this.#instances.checkOpen();
    this.#instances.register(aggregate);
    this.#instances.checkName({ type: aggregate.type, id });
    return new AggregateHandle(aggregate, id, this.#instances);
  }

  /** The ids of all instances of an aggregate, in the order of their code points. */
  async list<X extends A>(aggregate: X): Promise<string[]> {
    return (await this.listStreams(aggregate.type)).map(({ id }) => id);
  }

  /** All instances, or those of one type. */
  async listStreams(type?: string): Promise<StreamName[]> {
    this.#instances.checkOpen();
    return [...(await this.#events.listStreams(type))];
  }

  /** The events of one instance from a version on (1 if left out), also of aggregates that are not registered. */
  readEvents(type: string, id: string, options: { readonly from?: number } = {}): AsyncIterable<RecordedEvent> {
    return this.#instances.events(type, id, options.from);
  }

  /** Executes the command in an envelope. Fields of `context` win over the envelope's own. */
  async dispatch<X extends A>(envelope: EnvelopeFor<X>, context?: CommandContext): Promise<CommandResult<X>> {
    const { results } = await this.dispatchAll<X>([envelope], context);
    const [result] = results;
    if (result === undefined) throw new EventfoldError("INVALID_ARGUMENT", "there was nothing to dispatch");
    return result;
  }

  /**
   * Decides several commands and writes all their events in one commit. If one is rejected or fails, nothing is written
   * and it throws. Commands of one instance see each other's events.
   */
  async dispatchAll<X extends A>(
    envelopes: readonly EnvelopeFor<X>[],
    context: CommandContext = {},
  ): Promise<DispatchAllResult<X>> {
    return this.#instances.during(async () => {
      const commands = await Promise.all(
        envelopes.map(async (envelope) => {
          checkEnvelope(envelope);
          const stream = { type: envelope.aggregate, id: envelope.id };
          return {
            stream,
            command: await this.#instances.prepare(stream, envelope.command, merged(envelope.context, context)),
          };
        }),
      );
      return dispatching.promise(
        () => dispatchTrace(commands),
        async (trace) => {
          const [only] = commands;
          const outcomes =
            only !== undefined && commands.length === 1
              ? [await this.#instances.run(only.stream, only.command)]
              : await dispatchAll(this.#instances, this.#events, commands);
          const position = outcomes.reduce((last, outcome) => Math.max(last, outcome.position), 0);
          if (trace !== undefined) {
            trace.events = outcomes.reduce((sum, { events }) => sum + events.length, 0);
            trace.position = position;
          }
          return { results: outcomes as unknown as CommandResult<X>[], position };
        },
      );
    });
  }

  /**
   * A projection's state, up to date with everything committed so far. It is the live state: later reads may
   * change it, so copy what you keep. Throws `PROJECTION_FAILED` when a handler throws, `TIMEOUT` when `after` does not come.
   */
  async projection<X extends P>(projection: X, options: ReadProjectionOptions = {}): Promise<ProjectionState<X>> {
    this.#instances.checkOpen();
    return this.#projections.read(projection, options);
  }

  /** Folds a projection again from the first event. Until that is done, readers get the old state. */
  async rebuildProjection<X extends P>(projection: X, options: RebuildOptions = {}): Promise<void> {
    this.#instances.checkOpen();
    await this.#projections.rebuild(projection, options);
  }

  /**
   * Lets the process managers deal with every event and due appointment there is, and with what that leads to. They
   * do so by themselves unless the store was built with `processManagers("manual")`.
   */
  async runProcessManagers(): Promise<ProcessManagerReport> {
    this.#instances.checkOpen();
    return this.#managers.run();
  }

  /** Commands of process managers that could not be delivered, of one manager or of all. */
  async deadLetters(manager?: AnyProcessManager | string): Promise<DeadLetter[]> {
    this.#instances.checkOpen();
    return this.#managers.deadLetters(typeof manager === "object" ? manager.name : manager);
  }

  /** Sends a dead letter's command once more. It still takes effect at most once; if it fails again the letter stays and this throws. */
  async replayDeadLetter(key: string): Promise<void> {
    this.#instances.checkOpen();
    await this.#managers.replay(key);
  }

  /** Gives a dead letter up. */
  async dropDeadLetter(key: string): Promise<void> {
    this.#instances.checkOpen();
    await this.#managers.drop(key);
  }

  /**
   * Delivers events in global order: those from `from` on that are there, then each new one, also of other processes. It ends
   * when the signal is aborted or the store closes.
   */
  subscribe(options?: SubscribeOptions): AsyncIterable<RecordedEventOf<A>>;
  /** Calls a handler for each event; one that fails is called again with the same event, later and later. */
  subscribe(options: SubscribeOptions, handler: (event: RecordedEventOf<A>) => unknown): Subscription;
  subscribe(
    options: SubscribeOptions = {},
    handler?: (event: never) => unknown,
  ): AsyncIterable<RecordedEventOf<A>> | Subscription {
    this.#instances.checkOpen();
    const source = {
      events: this.#events,
      reader: (type: string) => this.#instances.reader(type),
      closing: this.#stop.signal,
      loops: this.#loops,
      names: this.#names,
    };
    if (handler === undefined) return subscribe(source, options) as AsyncIterable<RecordedEventOf<A>>;
    const subscription = handleEach(source, options, handler as (event: unknown) => unknown);
    this.#subscriptions.add(subscription);
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

  /** Waits for commands that were given, makes everything durable and lets go of the directory. Safe to call twice. */
  async close(): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async #close(): Promise<void> {
    this.#stop.abort();
    await this.#managers.close();
    await Promise.allSettled([...this.#subscriptions].map(({ done }) => done));
    await Promise.allSettled([...this.#loops].map((loop) => loop.return()));
    await this.#instances.close();
    await this.#projections.close();
    await this.#events.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** What a store runs. */
interface Wiring {
  readonly aggregates: readonly AnyAggregate[];
  readonly projections: readonly AnyProjection[];
  readonly managers: readonly AnyProcessManager[];
}

const NO_WIRING: Wiring = { aggregates: [], projections: [], managers: [] };

/** Makes a definition over an aggregate that is not registered a compile error that names the aggregate. */
type Registered<Needed extends string, Have extends string> = [Exclude<Needed, Have>] extends [never]
  ? unknown
  : { readonly error: `aggregate "${Exclude<Needed, Have>}" is not registered before this` };

interface StoreOptions {
  readonly idleTimeout: number;
  readonly durability: "flush" | "os";
  readonly onUnknownEvent: UnknownEventPolicy;
  readonly clock: () => number | Date;
  readonly ids: () => string;
  readonly fileSystem?: FileSystem;
  readonly processManagers: "automatic" | "manual";
  readonly onProcessManagerError: (error: unknown) => void;
}

const DEFAULTS: StoreOptions = {
  idleTimeout: 5 * 60_000,
  durability: "flush",
  onUnknownEvent: "skip",
  clock: Date.now,
  ids: () => globalThis.crypto.randomUUID(),
  processManagers: "automatic",
  onProcessManagerError: (error) => {
    // Nobody listens: it must not pass unnoticed, and must not end the program either.
    console.error(error);
  },
};

/** Configures and opens a store. Each call returns a new builder. */
export class AggregateStoreBuilder<A extends AnyAggregate = never, P extends AnyProjection = never> {
  readonly #directory: string | undefined;
  readonly #options: StoreOptions;
  readonly #wiring: Wiring;

  /** @internal Use `AggregateStore.builder`. */
  constructor(directory: string | undefined, options: StoreOptions, wiring: Wiring = NO_WIRING) {
    this.#directory = directory;
    this.#options = options;
    this.#wiring = wiring;
  }

  /** Registers an aggregate. */
  aggregate<X extends AnyAggregate>(aggregate: X): AggregateStoreBuilder<A | X, P> {
    const { aggregates } = this.#wiring;
    return new AggregateStoreBuilder(this.#directory, this.#options, {
      ...this.#wiring,
      aggregates: [...aggregates, aggregate],
    });
  }

  /** Registers a projection; all aggregates that it handles have to be registered before it. */
  projection<X extends AnyProjection>(
    projection: X & Registered<X["~types"]["from"], A["type"]>,
  ): AggregateStoreBuilder<A, P | X> {
    const { projections } = this.#wiring;
    return new AggregateStoreBuilder(this.#directory, this.#options, {
      ...this.#wiring,
      projections: [...projections, projection],
    });
  }

  /** Registers a process manager; all aggregates that it handles or sends commands to have to be registered before it. */
  processManager<X extends AnyProcessManager>(
    manager: X & Registered<X["~types"]["from"], A["type"]>,
  ): AggregateStoreBuilder<A, P> {
    const { managers } = this.#wiring;
    return new AggregateStoreBuilder(this.#directory, this.#options, {
      ...this.#wiring,
      managers: [...managers, manager],
    });
  }

  /** Whether process managers run by themselves while the store is open (`"automatic"`, the default) or only in `runProcessManagers()`. */
  processManagerMode(mode: "automatic" | "manual"): AggregateStoreBuilder<A, P> {
    return this.#with({ processManagers: mode });
  }

  /** Told what stops a process manager for a while when it runs by itself; it is tried again, later and later. */
  onProcessManagerError(listener: (error: unknown) => void): AggregateStoreBuilder<A, P> {
    return this.#with({ onProcessManagerError: listener });
  }

  /** How long an instance stays in memory without being used: milliseconds or `"10m"`; 5 minutes if left out. */
  idleTimeout(timeout: number | Duration): AggregateStoreBuilder<A, P> {
    return this.#with({ idleTimeout: milliseconds(timeout, "idleTimeout") });
  }

  /**
   * When a command is answered. `"flush"` (default): when its events are on stable storage. `"os"`: when the operating system has
   * them; they survive the death of the process, but the last moments before a power cut can be lost.
   */
  durability(mode: "flush" | "os"): AggregateStoreBuilder<A, P> {
    if (mode !== "flush" && mode !== "os")
      throw new EventfoldError("INVALID_ARGUMENT", `durability is "flush" or "os", not ${JSON.stringify(mode)}`);
    return this.#with({ durability: mode });
  }

  /** What to do with events that an aggregate does not declare: leave them out of the state (default), fail, or ask. */
  onUnknownEvent(policy: UnknownEventPolicy): AggregateStoreBuilder<A, P> {
    return this.#with({ onUnknownEvent: policy });
  }

  /** The time of new events: milliseconds since 1970, or a date. Called once per decision. */
  clock(now: () => number | Date): AggregateStoreBuilder<A, P> {
    return this.#with({ clock: now });
  }

  /** Ids of new events; UUIDs if left out. */
  ids(next: () => string): AggregateStoreBuilder<A, P> {
    return this.#with({ ids: next });
  }

  /** Where the files are: another implementation of the file port, for tests. */
  fileSystem(fileSystem: FileSystem): AggregateStoreBuilder<A, P> {
    return this.#with({ fileSystem });
  }

  /** Opens the store; after a crash this is where it recovers. */
  async open(): Promise<AggregateStore<A, P>> {
    // Bad wiring is told before anything touches the disk.
    checkWiring(this.#wiring);
    return assemble(await this.#openEvents(), this.#wiring, this.#options);
  }

  async #openEvents(): Promise<EventStore> {
    if (this.#directory === undefined) return new MemoryEventStore();
    // Loaded here so that importing the package, or using it in memory, does not load the file store.
    const [{ FileEventStore }, { openNodeFileSystem }] = await Promise.all([
      import("../file-store/file-event-store.ts"),
      import("../fs/node-file-system.ts"),
    ]);
    const fileSystem = this.#options.fileSystem ?? (await openNodeFileSystem());
    return FileEventStore.open(fileSystem, this.#directory, { durability: this.#options.durability });
  }

  #with(options: Partial<StoreOptions>): AggregateStoreBuilder<A, P> {
    return new AggregateStoreBuilder(this.#directory, { ...this.#options, ...options }, this.#wiring);
  }
}

function assemble<A extends AnyAggregate, P extends AnyProjection>(
  events: EventStore,
  wiring: Wiring,
  options: StoreOptions,
): AggregateStore<A, P> {
  const { clock, ids, onUnknownEvent, idleTimeout } = options;
  const instances = new Instances(
    events,
    { now: () => timeOf(clock()), nextId: () => checkedId(ids()), onUnknownEvent },
    idleTimeout,
  );
  for (const aggregate of wiring.aggregates) instances.register(aggregate);
  const projections = new Projections(events);
  for (const projection of wiring.projections) projections.register(projection);
  const managers = new ProcessManagers(
    wiring.managers,
    events,
    instances,
    () => timeOf(clock()),
    options.onProcessManagerError,
  );
  if (options.processManagers === "automatic") managers.start();
  return new AggregateStore(events, instances, projections, managers);
}

/** Throws when two definitions share a name, or one needs an aggregate that is not there. */
function checkWiring({ aggregates, projections, managers }: Wiring): void {
  const types = new Set(aggregates.map(({ type }) => type));
  checkUnique(
    "aggregates have the type",
    aggregates.map(({ type }) => type),
  );
  checkUnique(
    "projections have the name",
    projections.map(({ name }) => name),
  );
  checkUnique(
    "process managers have the name",
    managers.map(({ name }) => name),
  );
  const need = (who: string, type: string): void => {
    if (!types.has(type))
      throw new EventfoldError(
        "UNKNOWN_AGGREGATE",
        `${who} needs the aggregate ${type}, which is not registered in this store`,
      );
  };
  for (const projection of projections) {
    for (const { aggregate } of definitionOf(projection).sources) need(`projection ${projection.name}`, aggregate.type);
  }
  for (const manager of managers) {
    const { sources, targets } = processManagerDefinition(manager);
    for (const { aggregate } of sources) need(`process manager ${manager.name}`, aggregate.type);
    for (const type of targets) need(`process manager ${manager.name}`, type);
  }
}

function checkUnique(what: string, names: readonly string[]): void {
  const seen = new Set<string>();
  for (const name of names) {
    // Two directories that differ only in case are one on some systems.
    if (seen.has(name.toLowerCase()))
      throw new EventfoldError(
        "DUPLICATE_DEFINITION",
        `two ${what} ${name} (upper and lower case count as one); give one of them another`,
      );
    seen.add(name.toLowerCase());
  }
}

function checkedId(id: unknown): string {
  if (typeof id !== "string" || id === "" || !isWellFormed(id)) {
    throw new EventfoldError("INVALID_ARGUMENT", `ids() gave ${JSON.stringify(id)}; it gives a new text each time`);
  }
  return id;
}

function timeOf(time: number | Date): number {
  const value = Math.floor(typeof time === "number" ? time : time.getTime());
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `the clock gave ${String(time)}; it gives milliseconds since 1970, or a date, from 1970 on`,
    );
  }
  return value;
}

/** The fields of both contexts; a field that the second leaves undefined keeps its value. */
function merged(first: CommandContext = {}, second: CommandContext): CommandContext {
  return { ...first, ...Object.fromEntries(Object.entries(second).filter(([, value]) => value !== undefined)) };
}

function checkEnvelope(envelope: unknown): asserts envelope is CommandEnvelope {
  const { aggregate, id, command } = (typeof envelope === "object" && envelope !== null ? envelope : {}) as Record<
    string,
    unknown
  >;
  if (typeof aggregate !== "string" || typeof id !== "string" || typeof command !== "object") {
    throw new EventfoldError("INVALID_COMMAND", "an envelope is an object { aggregate, id, command, context? }");
  }
}

function dispatchTrace(
  commands: readonly { readonly stream: StreamName; readonly command: { readonly type: string } }[],
): DispatchTrace {
  return {
    processManager: undefined,
    commands: commands.map(({ stream, command }) => ({ aggregate: stream.type, id: stream.id, command: command.type })),
    cause: undefined,
  };
}
