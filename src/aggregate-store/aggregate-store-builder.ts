import type { CompileError } from "../compile-error.ts";
import type { AnyAggregate } from "../aggregate/aggregate.ts";
import type { UnknownEventPolicy } from "../aggregate/unknown-event-policy.ts";
import { type Duration, milliseconds } from "../duration.ts";
import { EventfoldError } from "../errors.ts";
import type { EventStorage, StorageOptions } from "../event-store/event-storage.ts";
import type { EventStore } from "../event-store/event-store.ts";
import type { SubjectKeys } from "../event-store/subject-keys.ts";
import type { FileSystem } from "../fs/file-system.ts";
import type { AnyProcessManager } from "../process-manager/process-manager.ts";
import type { AnyProjection } from "../projection/projection.ts";
import type { AggregateStore } from "./aggregate-store.ts";
import { assemble } from "./assemble.ts";
import { DirectoryStorage } from "./directory-storage.ts";
import type { Middleware } from "./middleware.ts";
import { DEFAULT_OPTIONS, sourcesOf, type StoreOptions } from "./store-options.ts";
import { checkWiring, NO_WIRING, type Wiring } from "./wiring.ts";

/** Makes a definition over an aggregate that is not registered a compile error that names the aggregate. */
type Registered<Needed extends string, Have extends string> = [Exclude<Needed, Have>] extends [never]
  ? unknown
  : CompileError<`the aggregate "${Exclude<Needed, Have>}" is not registered before this: call .aggregate(…) first`>;

/** Configures and opens a store. Each call returns a new builder. */
export class AggregateStoreBuilder<A extends AnyAggregate = never, P extends AnyProjection = never> {
  readonly #storage: EventStorage;
  readonly #options: StoreOptions;
  readonly #wiring: Wiring;

  /** @internal Use `AggregateStore.builder`. */
  constructor(storage: EventStorage, options: StoreOptions = DEFAULT_OPTIONS, wiring: Wiring = NO_WIRING) {
    this.#storage = storage;
    this.#options = options;
    this.#wiring = wiring;
  }

  /** Registers an aggregate. */
  aggregate<X extends AnyAggregate>(aggregate: X): AggregateStoreBuilder<A | X, P> {
    const { aggregates } = this.#wiring;
    return new AggregateStoreBuilder(this.#storage, this.#options, {
      ...this.#wiring,
      aggregates: [...aggregates, aggregate],
    });
  }

  /** Registers a projection; all aggregates that it handles have to be registered before it. */
  projection<X extends AnyProjection>(
    projection: X & Registered<X["~types"]["from"], A["type"]>,
  ): AggregateStoreBuilder<A, P | X> {
    const { projections } = this.#wiring;
    return new AggregateStoreBuilder(this.#storage, this.#options, {
      ...this.#wiring,
      projections: [...projections, projection],
    });
  }

  /** Registers a process manager; all aggregates that it handles or sends commands to have to be registered before it. */
  processManager<X extends AnyProcessManager>(
    manager: X & Registered<X["~types"]["from"], A["type"]>,
  ): AggregateStoreBuilder<A, P> {
    const { managers } = this.#wiring;
    return new AggregateStoreBuilder(this.#storage, this.#options, {
      ...this.#wiring,
      managers: [...managers, manager],
    });
  }

  /** Whether process managers run by themselves while the store is open (`"automatic"`, the default) or only in `runProcessManagers()`. */
  processManagerMode(mode: "automatic" | "manual"): AggregateStoreBuilder<A, P> {
    if (mode !== "automatic" && mode !== "manual")
      throw new EventfoldError(
        "INVALID_ARGUMENT",
        `processManagerMode expected "automatic" or "manual", found ${JSON.stringify(mode)}`,
      );
    return this.#with({ processManagerMode: mode });
  }

  /** Called with the error that stops a process manager that runs by itself. The manager is tried again after a growing pause. */
  onProcessManagerError(listener: (error: unknown) => void): AggregateStoreBuilder<A, P> {
    checkFunction(listener, "onProcessManagerError expected");
    return this.#with({ onProcessManagerError: listener });
  }

  /**
   * Opens the store for reading only. Nothing in the directory changes, not even a lock or a time, so it may be read-only, or belong to
   * another user. Other processes may write to it: states, events, projections and subscriptions follow them. Process managers do not
   * run. Commands, and all other calls that would write, fail with `READ_ONLY`. Works for directories and memory; `open` throws
   * `INVALID_ARGUMENT` for a storage that cannot do it, and `STORE_NOT_FOUND` if the directory has no store.
   */
  readOnly(): AggregateStoreBuilder<A, P> {
    return this.#with({ readOnly: true });
  }

  /** How long an unused instance stays in memory: milliseconds or a text like `"10m"`; 5 minutes by default. */
  idleTimeout(timeout: number | Duration): AggregateStoreBuilder<A, P> {
    return this.#with({ idleTimeout: milliseconds(timeout, "idleTimeout") });
  }

  /**
   * When a command is answered. `"flush"` (default): when its events are on stable storage. `"os"`: when the operating system has
   * them; they survive the death of the process, but a power cut can lose the last moments. Memory has no such choice.
   */
  durability(mode: "flush" | "os"): AggregateStoreBuilder<A, P> {
    if (mode !== "flush" && mode !== "os")
      throw new EventfoldError(
        "INVALID_ARGUMENT",
        `durability expected "flush" or "os", found ${JSON.stringify(mode)}`,
      );
    return this.#with({ durability: mode });
  }

  /**
   * How readers learn of events that the Rust crate appends to the same directory. `"auto"` (default): reading, projections, process
   * managers and subscriptions look at the sizes of all streams' files at most about once a second; if there are more than 10,000
   * streams, in the background. `"await"`: they wait for that in a store of any size. An instance always looks at its own file.
   * Other storages have no such choice.
   */
  foreignEvents(mode: "auto" | "await"): AggregateStoreBuilder<A, P> {
    if (mode !== "auto" && mode !== "await")
      throw new EventfoldError(
        "INVALID_ARGUMENT",
        `foreignEvents expected "auto" or "await", found ${JSON.stringify(mode)}`,
      );
    return this.#with({ foreignEvents: mode });
  }

  /**
   * How long commands and `open` wait for another process that keeps the lock of the store: milliseconds or a text like `"5s"`; 30
   * seconds by default. Then they fail with `STORE_BUSY`, which names the process, and are not written. Other storages have no such lock.
   */
  lockTimeout(timeout: number | Duration): AggregateStoreBuilder<A, P> {
    return this.#with({ lockTimeout: milliseconds(timeout, "lockTimeout") });
  }

  /**
   * Keeps the keys of personal fields in a place of your own, e.g. a keychain or a key management service, instead of the storage. A store
   * must always be opened with the same place.
   */
  keys(keys: SubjectKeys): AggregateStoreBuilder<A, P> {
    for (const method of ["obtain", "find", "withIds", "destroy", "count"] as const)
      checkFunction((keys as Partial<SubjectKeys> | undefined)?.[method], `keys expected the method ${method} to be`);
    return this.#with({ keys });
  }

  /**
   * What to do with events of registered aggregates that their contracts do not declare: `"error"` (default) fails each load, projection
   * and process manager that needs the aggregate's events, `"skip"` passes over them, a function decides for each event.
   */
  onUnknownEvent(policy: UnknownEventPolicy): AggregateStoreBuilder<A, P> {
    if (policy !== "skip" && policy !== "error") checkFunction(policy, 'onUnknownEvent expected "skip", "error" or');
    return this.#with({ onUnknownEvent: policy });
  }

  /**
   * Adds middleware that every command passes: of handles, `dispatch`, `dispatchAll`, a command bus, process managers and schedules. The
   * first added runs outermost, inside the middleware of a bus. The command is checked after it.
   *
   * Its envelopes have the types of the aggregates that are registered before it.
   */
  use(middleware: Middleware<[A] extends [never] ? AnyAggregate : A>): AggregateStoreBuilder<A, P>;
  /** Adds middleware that takes envelopes of any aggregate. */
  use(middleware: Middleware): AggregateStoreBuilder<A, P>;
  use(middleware: never): AggregateStoreBuilder<A, P> {
    checkFunction(middleware, "use expected");
    return this.#with({ middleware: [...this.#options.middleware, middleware] });
  }

  /** The time of new events: milliseconds since 1970, or a date. It is called once per decision. */
  clock(now: () => number | Date): AggregateStoreBuilder<A, P> {
    checkFunction(now, "clock expected");
    return this.#with({ clock: now });
  }

  /** Ids of new events; UUIDs by default. */
  ids(next: () => string): AggregateStoreBuilder<A, P> {
    checkFunction(next, "ids expected");
    return this.#with({ ids: next });
  }

  /** Another implementation of the file port, for tests. Throws `INVALID_ARGUMENT` if the store is not in a directory. */
  fileSystem(fileSystem: FileSystem): AggregateStoreBuilder<A, P> {
    if (!(this.#storage instanceof DirectoryStorage))
      throw new EventfoldError(
        "INVALID_ARGUMENT",
        `fileSystem expected a store in a directory, found ${this.#storage.name}; call builder(directory), or leave it out`,
      );
    return new AggregateStoreBuilder(this.#storage.on(fileSystem), this.#options, this.#wiring);
  }

  /** Opens the store. After a crash, this recovers what was written. */
  async open(): Promise<AggregateStore<A, P>> {
    // Faults in the definitions are found before anything touches the storage.
    checkWiring(this.#wiring);
    const { durability, foreignEvents, lockTimeout } = this.#options;
    const options = { durability, foreignEvents, lockTimeout, ...sourcesOf(this.#options) };
    const events = await (this.#options.readOnly ? this.#openReadOnly(options) : this.#storage.open(options));
    return assemble(events, this.#wiring, this.#options);
  }

  #openReadOnly(options: StorageOptions): Promise<EventStore> {
    if (this.#storage.openReadOnly !== undefined) return this.#storage.openReadOnly(options);
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `readOnly() expected a directory, memory() or another storage that can be opened for reading only, found ${this.#storage.name}; leave readOnly() out, or restrict what the program may write in the storage itself`,
    );
  }

  #with(options: Partial<StoreOptions>): AggregateStoreBuilder<A, P> {
    return new AggregateStoreBuilder(this.#storage, { ...this.#options, ...options }, this.#wiring);
  }
}

function checkFunction(value: unknown, expected: string): void {
  if (typeof value !== "function")
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `${expected} a function, found ${typeof value === "string" ? JSON.stringify(value) : String(value)}`,
    );
}
