import { EventfoldError } from "../errors.ts";
import type { EventStore } from "../event-store/event-store.ts";
import { refreshBeforeReading } from "../event-store/freshness.ts";
import { failedFold, ProjectionFold } from "./projection-fold.ts";
import type { ProjectionDefinition } from "./projection.ts";
import type { UnknownEvents } from "./unknown-events.ts";

/** A projection's state after the event at a position, folded from the first event. Throws `VERSION_NOT_FOUND` for a later position than the head. */
export async function projectionAt(
  definition: ProjectionDefinition,
  events: EventStore,
  unknown: UnknownEvents,
  position: number,
): Promise<unknown> {
  if (!Number.isSafeInteger(position) || position < 0)
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `projectionAt expected a position, 0 or more, found ${String(position)}`,
    );
  await refreshBeforeReading(events);
  const head = await events.head();
  if (position > head)
    throw new EventfoldError(
      "VERSION_NOT_FOUND",
      `projectionAt expected a position from 0 to ${head}, the last one of the store, found ${position}`,
    );
  const fold = new ProjectionFold(definition);
  await unknown.check(fold.wanted, head);
  let state = fold.initial;
  for await (const batch of events.readAll({ to: position, wanted: fold.wanted, horizon: position })) {
    for (const event of batch) {
      try {
        state = fold.next(state, event);
      } catch (cause) {
        throw failedFold(definition.name, event, cause);
      }
    }
  }
  return state;
}
