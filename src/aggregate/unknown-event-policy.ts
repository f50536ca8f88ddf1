import { EventfoldError } from "../errors.ts";
import type { StoredEvent } from "../event-store/event-store.ts";
import { unknownEvents } from "../tracing/tracing.ts";
import { recordedEvent } from "./event-reader.ts";
import type { RecordedEvent } from "./messages.ts";

/**
 * What to do with an event of a registered aggregate whose type the contract does not declare: `"error"` (the default) fails
 * each reader that needs the aggregate's events, `"skip"` passes over it. A function decides for each event; nothing means `"skip"`.
 */
export type UnknownEventPolicy = "skip" | "error" | ((event: RecordedEvent) => "skip" | "error" | undefined | void);

/** What a policy says of an event. */
export function verdictOn(policy: UnknownEventPolicy, event: StoredEvent): "skip" | "error" {
  return (typeof policy === "function" ? policy(recordedEvent(event, event.data)) : policy) ?? "skip";
}

/** An instance has met an event that its contract does not declare. Throws `UNKNOWN_EVENT` if the policy refuses it. */
export function meetUnknown(event: StoredEvent, policy: UnknownEventPolicy): void {
  const { stream, type, version } = event;
  if (verdictOn(policy, event) === "error")
    throw new EventfoldError(
      "UNKNOWN_EVENT",
      `${stream.type} ${JSON.stringify(stream.id)} has an event ${JSON.stringify(type)} at version ${version}, which the contract does not declare`,
    );
  const { position } = event;
  unknownEvents.publish(() => ({
    aggregate: stream.type,
    id: stream.id,
    event: type,
    count: 1,
    position,
    skipped: true,
  }));
}
