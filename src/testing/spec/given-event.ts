import type { EventReader } from "../../aggregate/event-reader.ts";
import type { RecordedEvent } from "../../aggregate/messages.ts";
import { stringifyPayload } from "../../json.ts";
import type { StoredEvent } from "../../event-store/event-store.ts";
import type { EventSources } from "../../projection/event-sources.ts";

/** An event for a projection or process manager. Fields of the record that it leaves out get defaults. */
export type GivenEvent = {
  readonly aggregate: string;
  readonly id: string;
  readonly type: string;
  readonly data?: unknown;
} & Partial<RecordedEvent>;

/** A reaction to an event, as projections and process managers declare them. */
export type Handler = (state: unknown, event: unknown) => unknown;

/** The handler of an event, and the reader of its aggregate's events; `undefined` if there is none. */
export function handlerOf(
  sources: EventSources<Handler>,
  event: GivenEvent,
): { readonly handler: Handler; readonly reader: EventReader } | undefined {
  const source = sources.of(event.aggregate);
  const handler = source?.handlers.get(event.type);
  return source === undefined || handler === undefined ? undefined : { handler, reader: source.reader };
}

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
    // A given event has the newest payload type, so no upcaster applies to it.
    schemaVersion: Infinity,
    version: version ?? index + 1,
    position: position ?? index + 1,
    timestamp: timestamp ?? Date.UTC(2000, 0, 1) + index,
    eventId: eventId ?? `given-${index + 1}`,
    actor,
    meta: Object.keys(meta).length === 0 ? undefined : meta,
  };
}
