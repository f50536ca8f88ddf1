import type { AnyAggregate } from "../aggregate/aggregate.ts";
import type { EventStore } from "../event-store/event-store.ts";
import { ProcessManagers } from "../process-manager/process-managers.ts";
import { processManagerDefinition } from "../process-manager/process-manager.ts";
import { type AnyProjection, definitionOf } from "../projection/projection.ts";
import { Projections } from "../projection/projections.ts";
import { UnknownEvents } from "../projection/unknown-events.ts";
import { AggregateStore } from "./aggregate-store.ts";
import { Instances } from "./instances.ts";
import { OpenStoreEntry } from "./open-stores.ts";
import { openPersonalStore } from "../personal/open-personal-store.ts";
import { PersonalDefinitions } from "./personal-definitions.ts";
import { MiddlewareChain } from "./middleware.ts";
import { monotonicNow } from "../real-timers.ts";
import { keepParts } from "./store-parts.ts";
import { DEFAULT_OPTIONS, sourcesOf, type StoreOptions } from "./store-options.ts";
import type { Wiring } from "./wiring.ts";

/** Puts an aggregate store together on an open event store, which it closes if that fails. */
export async function assemble<A extends AnyAggregate, P extends AnyProjection>(
  storage: EventStore,
  wiring: Wiring,
  options: StoreOptions,
): Promise<AggregateStore<A, P>> {
  const personal = new PersonalDefinitions(wiring);
  const events = await openPersonalStore(storage, personal, options).catch(async (error: unknown) => {
    await storage.close();
    throw error;
  });
  personal.isEncrypting = events !== storage;
  const { onUnknownEvent, idleTimeout, processManagerMode, onProcessManagerError } = options;
  const sources = sourcesOf(options);
  const unknown = new UnknownEvents(events, onUnknownEvent);
  const instances = new Instances(
    events,
    { ...sources, onUnknownEvent, unknownEvents: unknown, checkPersonal: (aggregate) => personal.declare(aggregate) },
    idleTimeout,
    new MiddlewareChain(options.middleware),
    options.readOnly,
  );
  for (const aggregate of wiring.aggregates) instances.register(aggregate);
  const projections = new Projections(events, unknown);
  for (const projection of wiring.projections) projections.register(projection);
  const isInjected = options.clock !== DEFAULT_OPTIONS.clock;
  const clocks = { now: sources.now, backoffClock: isInjected ? sources.now : monotonicNow };
  const managers = new ProcessManagers(
    wiring.managers,
    events,
    instances,
    { ...sources, ...clocks },
    onProcessManagerError,
    unknown,
  );
  const make = (entry: OpenStoreEntry): AggregateStore<A, P> => {
    const store = new AggregateStore<A, P>(events, instances, projections, managers, entry, unknown, clocks);
    keepParts(store, {
      events,
      instances,
      projections: new Map(wiring.projections.map((projection) => [projection.name, definitionOf(projection)])),
      managers: new Map(wiring.managers.map((manager) => [manager.name, processManagerDefinition(manager)])),
    });
    return store;
  };
  if (options.readOnly) return make(new OpenStoreEntry(undefined, []));
  try {
    await managers.begin();
  } catch (error) {
    await events.close();
    throw error;
  }
  const isAutomatic = processManagerMode === "automatic";
  if (isAutomatic) managers.start();
  return make(new OpenStoreEntry(events.location, isAutomatic ? wiring.managers : []));
}
