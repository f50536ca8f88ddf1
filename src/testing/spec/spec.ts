import type { AnyAggregate } from "../../aggregate/aggregate.ts";
import type { AnyProcessManager } from "../../process-manager/process-manager.ts";
import type { AnyProjection } from "../../projection/projection.ts";
import { type AggregateSpec, aggregateSpec } from "./aggregate-spec.ts";
import { managerSpec, type ProcessManagerSpec } from "./process-manager-spec.ts";
import { type ProjectionSpec, projectionSpec } from "./projection-spec.ts";

/**
 * Tests one definition without a store: `given` events, `when` a command or an event arrives, `then` expectations. A
 * failed expectation throws, so any test runner works.
 */
export function spec<A extends AnyAggregate>(aggregate: A): AggregateSpec<A>;
export function spec<P extends AnyProjection>(projection: P): ProjectionSpec<P>;
export function spec<M extends AnyProcessManager>(manager: M): ProcessManagerSpec<M>;
export function spec(definition: AnyAggregate | AnyProjection | AnyProcessManager): unknown {
  if ("contract" in definition) return aggregateSpec(definition, [], Date.UTC(2000, 0, 1));
  return definition.kind === "projection" ? projectionSpec(definition, []) : managerSpec(definition, []);
}
