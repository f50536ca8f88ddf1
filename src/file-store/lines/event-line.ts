import type { EventDraft } from "../../event-store/event-store.ts";
import { quoted } from "./line-scanner.ts";

/**
 * One event as one line of `app.jsonl`: the Rust crate's keys `type, data, ts, id, actor, meta` in its
 * order, then ours `ms, pos` and, for a type with upcasters, `v` (how many steps the payload has been
 * through). Lines that we wrote are read by looking for these keys; any other line that the Rust crate
 * would accept goes through `JSON.parse`, with the same result.
 */

/** The JSON of an event's metadata. */
export function metaText({ meta }: EventDraft): string | undefined {
  return meta === undefined ? undefined : JSON.stringify(meta);
}

/** An event's line, with its LF. */
export function lineOf(event: EventDraft, meta: string | undefined, position: number): string {
  const { type, data, timestamp, eventId, actor, schemaVersion } = event;
  const seconds = Math.floor(timestamp / 1000);
  const id = eventId === undefined ? "" : `,"id":${JSON.stringify(eventId)}`;
  const by = actor === undefined ? "" : `,"actor":${JSON.stringify(actor)}`;
  const more = meta === undefined ? "" : `,"meta":${meta}`;
  const shape = schemaVersion === 0 ? "" : `,"v":${schemaVersion}`;
  const ms = timestamp - seconds * 1000;
  return `{"type":${quoted(type)},"data":${data},"ts":${seconds}${id}${by}${more},"ms":${ms},"pos":${position}${shape}}\n`;
}
