import type { EventStore } from "../event-store/event-store.ts";
import { EventfoldError } from "../errors.ts";
import type { ProcessManagerDefinition } from "../process-manager/process-manager.ts";
import type { ProjectionDefinition } from "../projection/projection.ts";
import { sharedWeakMap } from "../shared-map.ts";
import type { Instances } from "./instances.ts";

/** What tools need of an open store, beyond its methods. */
export interface StoreParts {
  readonly events: EventStore;
  readonly instances: Instances;
  readonly projections: ReadonlyMap<string, ProjectionDefinition>;
  readonly managers: ReadonlyMap<string, ProcessManagerDefinition>;
}

const parts = sharedWeakMap<StoreParts>("store-parts");

export function keepParts(store: object, ofStore: StoreParts): void {
  parts.set(store, ofStore);
}

/** Throws `INVALID_ARGUMENT` for something that is not an open store. */
export function partsOf(store: object): StoreParts {
  const found = parts.get(store);
  if (found === undefined)
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      "expected a store that AggregateStore has opened, found another value",
    );
  found.instances.checkOpen();
  return found;
}
