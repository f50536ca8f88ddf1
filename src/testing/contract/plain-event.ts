import type { EventDraft, StoredEvent } from "../../event-store/event-store.ts";
import { ADA } from "./store-calls.ts";

/** An event as `type@version:position`. */
export function placed({ type, version, position }: StoredEvent): string {
  return `${type}@${version}:${position}`;
}

/** All fields of an event, read, as a plain object. */
export function plain(event: StoredEvent): StoredEvent {
  const { stream: name, type, data, schemaVersion, version, position, timestamp, eventId, actor, meta } = event;
  return { stream: name, type, data, schemaVersion, version, position, timestamp, eventId, actor, meta };
}

/** How a draft that was committed to `ADA`, in a store with no other stream, must come back. */
export function stored(event: EventDraft, version: number): StoredEvent {
  const { type, data, schemaVersion, timestamp, eventId, actor, meta } = event;
  return {
    ...{ stream: ADA, type, data: JSON.parse(data) as unknown, schemaVersion, version, position: version },
    ...{ timestamp, eventId, actor, meta },
  };
}
