import type { AnyAggregate } from "../aggregate/aggregate.ts";
import { AggregateModel } from "../aggregate/model.ts";
import { EventfoldError } from "../errors.ts";
import { type AnyProcessManager, processManagerDefinition } from "../process-manager/process-manager.ts";
import { type AnyProjection, definitionOf } from "../projection/projection.ts";

/** The definitions that a store runs. */
export interface Wiring {
  readonly aggregates: readonly AnyAggregate[];
  readonly projections: readonly AnyProjection[];
  readonly managers: readonly AnyProcessManager[];
}

export const NO_WIRING: Wiring = { aggregates: [], projections: [], managers: [] };

/** Throws `DUPLICATE_DEFINITION` if two definitions share a name, `UNKNOWN_AGGREGATE` if one needs an aggregate that is not registered. */
export function checkWiring({ aggregates, projections, managers }: Wiring): void {
  for (const aggregate of aggregates) AggregateModel.of(aggregate);
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
