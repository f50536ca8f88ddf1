import { checkContext, metaOf } from "../aggregate/context.ts";
import type { Lease } from "../aggregate/instance.ts";
import type { EventRecord } from "../aggregate/messages.ts";
import type { Environment } from "../aggregate/model.ts";
import { ConflictError, EventfoldError } from "../errors.ts";
import type { EventDraft, EventStore } from "../event-store/event-store.ts";
import { tracedCommit } from "../event-store/traced-commit.ts";
import { isWellFormed, stringifyPayload } from "../json.ts";

const MAX_ATTEMPTS = 100;

/** An event that was made elsewhere: a recorded event of another store fits. What is left out is filled in. */
export type InjectedEvent<Event = { readonly type: string; readonly data?: unknown }> = Event &
  Partial<
    Pick<EventRecord, "eventId" | "timestamp" | "actor" | "correlationId" | "causationId" | "sourceDevice" | "metadata">
  >;

export interface InjectOptions {
  /** Lets the process managers deal with everything there is before the injection resolves; no if left out, as in the original. */
  readonly runProcessManagers?: boolean;
}

export interface InjectResult {
  /** False when the instance had an event with this id already: then nothing was written. */
  readonly injected: boolean;
  /** Version of the instance afterwards. */
  readonly version: number;
  /** Position of the instance's last event afterwards. */
  readonly position: number;
}

/** Appends an event as it is, unless the instance has it already. The instance is held only for an event that is in order. */
export async function injectEvent(
  takeLease: () => Promise<Lease>,
  eventStore: EventStore,
  event: InjectedEvent,
  schemaVersion: (type: string) => number,
  environment: Environment,
): Promise<InjectResult> {
  const draft = draftOf(event, schemaVersion, environment);
  const lease = await takeLease();
  let next: "keep" | "catch-up" | "reload" = "reload";
  try {
    for (let attempt = 1; ; attempt++) {
      if (draft.eventId !== undefined && (await lease.hasEvent(draft.eventId))) {
        next = "keep";
        const { version, position } = lease.outcome();
        return { injected: false, version, position };
      }
      const { version } = lease.situation();
      const result = await tracedCommit(eventStore, {
        appends: [{ stream: lease.stream, expectedVersion: version, events: [draft] }],
      });
      if (result.ok) {
        next = "catch-up";
        return { injected: true, version: version + 1, position: result.position };
      }
      if (attempt === MAX_ATTEMPTS && "stream" in result)
        throw new ConflictError(lease.stream.type, lease.stream.id, version, result.actualVersion);
      await lease.catchUp();
    }
  } finally {
    lease.release(next);
  }
}

function draftOf(event: InjectedEvent, schemaVersion: (type: string) => number, environment: Environment): EventDraft {
  if (typeof event !== "object" || event === null || !isText(event.type)) {
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      "an injected event is an object { type, data?, eventId?, timestamp?, … }",
    );
  }
  const { type, eventId, timestamp, actor, correlationId, causationId, sourceDevice, metadata } = event;
  const context = { actor, correlationId, causationId, sourceDevice, metadata };
  checkContext(context);
  if (eventId !== undefined && !isText(eventId))
    throw new EventfoldError("INVALID_ARGUMENT", "eventId is not a string of Unicode text with something in it");
  if (timestamp !== undefined && !(Number.isSafeInteger(timestamp) && timestamp >= 0)) {
    throw new EventfoldError("INVALID_ARGUMENT", "timestamp is not a whole number of milliseconds since 1970");
  }
  return {
    type,
    data: stringifyPayload(event.data, `injected event ${type}`),
    schemaVersion: schemaVersion(type),
    timestamp: timestamp ?? environment.now(),
    eventId: eventId ?? environment.nextId(),
    actor,
    meta: metaOf(context),
  };
}

function isText(value: unknown): value is string {
  return typeof value === "string" && value !== "" && isWellFormed(value);
}
