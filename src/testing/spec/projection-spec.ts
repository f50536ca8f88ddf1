import { ProjectionFold } from "../../projection/projection-fold.ts";
import { type AnyProjection, definitionOf, type ProjectionState } from "../../projection/projection.ts";
import { type Expected, expectState } from "./expect-same.ts";
import { asStored, type GivenEvent } from "./given-event.ts";

export interface ProjectionSpec<P extends AnyProjection> {
  /** Events to fold, after those of earlier calls. */
  given(...events: readonly GivenEvent[]): ProjectionSpec<P>;
  /** Expects this state after the given events. */
  thenState(expected: Expected<ProjectionState<P>>): void;
}

export function projectionSpec(projection: AnyProjection, given: readonly GivenEvent[]): ProjectionSpec<AnyProjection> {
  const fold = new ProjectionFold(definitionOf(projection));
  return {
    given: (...events) => projectionSpec(projection, [...given, ...events]),
    thenState(expected) {
      let state = fold.initial;
      for (const [index, event] of given.entries()) state = fold.next(state, asStored(event, index));
      expectState(state, expected);
    },
  };
}
