import { checkContext, metaOf } from "../aggregate/context.ts";
import { type Lessor, type Proposal, withLeases } from "../aggregate/instance/with-leases.ts";
import type { GivenEvent } from "../aggregate/messages.ts";
import type { AggregateModel, Environment } from "../aggregate/model.ts";
import { EventfoldError } from "../errors.ts";
import type { EventDraft, EventStore, StreamName } from "../event-store/event-store.ts";
import { isWellFormed } from "../json.ts";

/** An event that was made elsewhere: a recorded event of another store fits. The store fills in missing fields. */
export type InjectedEvent<Event = { readonly type: string; readonly data?: unknown }> = GivenEvent<Event>;

export interface InjectOptions {
  /** Lets the process managers handle every event there is before the injection resolves. Default: false, as in the Rust crate. */
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

/** Appends an event, unless the instance has one with the same id. */
export function injectEvent(
  lessor: Lessor,
  store: EventStore,
  stream: StreamName,
  draft: EventDraft,
): Promise<InjectResult> {
  return withLeases(lessor, store, [stream], async (leases): Promise<Proposal<InjectResult>> => {
    const lease = leases.of(stream);
    const { version, position } = lease.outcome;
    lease.checkMayLive();
    if (draft.eventId !== undefined && (await lease.hasEvent(draft.eventId)))
      return { kind: "fact", answer: () => ({ injected: false, version, position }) };
    return {
      kind: "commit",
      commit: { appends: [{ stream, expectedVersion: version, events: [draft] }] },
      written: (last) => {
        lease.markOutdated();
        return { injected: true, version: version + 1, position: last };
      },
    };
  });
}

/** Checks an injected event and fills in what it leaves out. */
export function draftOf(
  event: InjectedEvent,
  model: Pick<AggregateModel, "schemaVersion" | "validateEvent">,
  environment: Environment,
): EventDraft {
  if (typeof event !== "object" || event === null || !isText(event.type)) {
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `expected an injected event { type, data?, eventId?, timestamp?, … }, found ${shown(event)}`,
    );
  }
  const { type, eventId, timestamp, actor, correlationId, causationId, sourceDevice, metadata } = event;
  const context = { actor, correlationId, causationId, sourceDevice, metadata };
  checkContext(context);
  if (eventId !== undefined && !isText(eventId))
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `expected eventId to be a non-empty string of Unicode text, found ${shown(eventId)}`,
    );
  if (timestamp !== undefined && !(Number.isSafeInteger(timestamp) && timestamp >= 0)) {
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `expected timestamp to be a whole number of milliseconds since 1970, found ${shown(timestamp)}`,
    );
  }
  return {
    type,
    data: model.validateEvent(type, event.data),
    schemaVersion: model.schemaVersion(type),
    timestamp: timestamp ?? environment.now(),
    eventId: eventId ?? environment.nextId(),
    actor,
    meta: metaOf(context),
  };
}

function isText(value: unknown): value is string {
  return typeof value === "string" && value !== "" && isWellFormed(value);
}

function shown(value: unknown): string {
  return typeof value === "object"
    ? value === null
      ? "null"
      : "an object without a type"
    : String(JSON.stringify(value));
}
