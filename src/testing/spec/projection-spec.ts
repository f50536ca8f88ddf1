import { EventSources, initialOf } from "../../projection/event-sources.ts";
import { type AnyProjection, definitionOf, type ProjectionState } from "../../projection/projection.ts";
import { type Expected, expectState } from "./expect-same.ts";
import { asStored, type GivenEvent, type Handler, handlerOf } from "./given-event.ts";

export interface ProjectionSpec<P extends AnyProjection> {
  /** Events to fold, after those of earlier calls. */
  given(...events: readonly GivenEvent[]): ProjectionSpec<P>;
  /** Expects this state after the given events. */
  thenState(expected: Expected<ProjectionState<P>>): void;
}

export function projectionSpec(projection: AnyProjection, given: readonly GivenEvent[]): ProjectionSpec<AnyProjection> {
  const definition = definitionOf(projection);
  const sources = new EventSources<Handler>(definition);
  return {
    given: (...events) => projectionSpec(projection, [...given, ...events]),
    thenState(expected) {
      let state = initialOf(definition.initial);
      for (const [index, event] of given.entries()) {
        const found = handlerOf(sources, event);
        const result = found?.handler(state, found.reader.recorded(asStored(event, index)));
        if (result !== undefined) state = result;
      }
      expectState(state, expected);
    },
  };
}
