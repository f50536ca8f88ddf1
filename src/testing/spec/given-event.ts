import type { RecordedEvent } from "../../aggregate/messages.ts";
import { stringifyPayload } from "../../json.ts";
import type { StoredEvent } from "../../event-store/event-store.ts";

/** An event for a projection or process manager. Fields of the record that it leaves out get defaults. */
export type GivenEvent = {
  readonly aggregate: string;
  readonly id: string;
  readonly type: string;
  readonly data?: unknown;
  /**
   * How many steps the payload has been through, for an event as earlier code has written it, perhaps under an earlier name. If it is
   * left out, the payload has its newest shape.
   */
  readonly step?: number;
} & Partial<RecordedEvent>;

/** A reaction to an event, as projections and process managers declare them. */
export type Handler = (state: unknown, event: unknown) => unknown;

/** A given event as a store would return it. */
export function asStored(event: GivenEvent, index: number): StoredEvent {
  const {
    aggregate,
    id,
    type,
    data,
    eventId,
    version,
    position,
    timestamp,
    actor,
    correlationId,
    causationId,
    metadata,
    step,
  } = event;
  const meta = {
    ...metadata,
    ...(correlationId === undefined ? {} : { correlation_id: correlationId }),
    ...(causationId === undefined ? {} : { causation_id: causationId }),
  };
  return {
    stream: { type: aggregate, id },
    type,
    data: JSON.parse(stringifyPayload(data, `event ${type} of ${aggregate}`)) as unknown,
    schemaVersion: step ?? Infinity,
    version: version ?? index + 1,
    position: position ?? index + 1,
    timestamp: timestamp ?? Date.UTC(2000, 0, 1) + index,
    eventId: eventId ?? `given-${index + 1}`,
    actor,
    meta: Object.keys(meta).length === 0 ? undefined : meta,
  };
}
