import type { AppliedEvent } from "../aggregate.ts";
import type { RecordedEvent } from "../messages.ts";

/** The result of one command. */
export interface CommandOutcome {
  readonly events: readonly RecordedEvent[];
  readonly state: unknown;
  /** Version of the instance after the command. */
  readonly version: number;
  /** Position of the instance's last event after the command; 0 if it has no events. */
  readonly position: number;
}

/** Adds positions to newly committed events; `last` is the position of the last one. */
export function atPositions(events: readonly AppliedEvent<string, unknown>[], last: number): RecordedEvent[] {
  let position = last - events.length;
  return events.map((event) => {
    position++;
    // `apply` has seen this object without a position, and the state may hold it: the position goes into a copy.
    if (!("position" in event)) return { ...event, position };
    event.position = position;
    return event as RecordedEvent;
  });
}
