import type { AnyAggregate } from "../aggregate/aggregate.ts";
import type { EventStore } from "../event-store/event-store.ts";
import { ProcessManagers } from "../process-manager/process-managers.ts";
import type { AnyProjection } from "../projection/projection.ts";
import { Projections } from "../projection/projections.ts";
import { UnknownEvents } from "../projection/unknown-events.ts";
import { AggregateStore } from "./aggregate-store.ts";
import { Instances } from "./instances.ts";
import { OpenStoreEntry } from "./open-stores.ts";
import { MiddlewareChain } from "./middleware.ts";
import { sourcesOf, type StoreOptions } from "./store-options.ts";
import type { Wiring } from "./wiring.ts";

/** Puts an aggregate store together on an open event store, which it closes if that fails. */
export async function assemble<A extends AnyAggregate, P extends AnyProjection>(
  events: EventStore,
  wiring: Wiring,
  options: StoreOptions,
): Promise<AggregateStore<A, P>> {
  const { onUnknownEvent, idleTimeout, processManagerMode, onProcessManagerError } = options;
  const sources = sourcesOf(options);
  const unknown = new UnknownEvents(events, onUnknownEvent);
  const instances = new Instances(
    events,
    { ...sources, onUnknownEvent, unknownEvents: unknown },
    idleTimeout,
    new MiddlewareChain(options.middleware),
    options.readOnly,
  );
  for (const aggregate of wiring.aggregates) instances.register(aggregate);
  const projections = new Projections(events, unknown);
  for (const projection of wiring.projections) projections.register(projection);
  const managers = new ProcessManagers(wiring.managers, events, instances, sources, onProcessManagerError, unknown);
  if (options.readOnly)
    return new AggregateStore(events, instances, projections, managers, new OpenStoreEntry(undefined, []), unknown);
  try {
    await managers.begin();
  } catch (error) {
    await events.close();
    throw error;
  }
  const isAutomatic = processManagerMode === "automatic";
  if (isAutomatic) managers.start();
  const entry = new OpenStoreEntry(events.location, isAutomatic ? wiring.managers : []);
  return new AggregateStore(events, instances, projections, managers, entry, unknown);
}
