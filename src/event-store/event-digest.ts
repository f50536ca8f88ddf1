import { fingerprint } from "../fingerprint.ts";
import type { StoredEvent } from "./event-store.ts";

/** What identifies an event in every store that has it. */
export type EventIdentity = Pick<StoredEvent, "stream" | "version" | "type" | "eventId" | "timestamp">;

/** Tells whether the event at a position is the one that was there before. */
export function eventDigest({ stream, version, type, eventId, timestamp }: EventIdentity): string {
  return fingerprint(JSON.stringify([stream.type, stream.id, version, type, eventId, timestamp]));
}
