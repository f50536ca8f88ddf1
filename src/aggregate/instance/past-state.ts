import { EventfoldError, isEventfoldError } from "../../errors.ts";
import { cutOfType } from "../../cut.ts";
import type { EventStore, StreamName } from "../../event-store/event-store.ts";
import { freeze } from "../freeze.ts";
import { type AggregateModel, type Environment } from "../model.ts";

/** A point in a stream's history: a version, a time in milliseconds since 1970, or the earlier of the two. */
export interface PointInTime {
  readonly version?: number;
  readonly time?: number;
}

export interface PastState {
  readonly state: unknown;
  readonly version: number;
  readonly position: number;
}

/** Folds a stream's events up to a point. Throws `VERSION_NOT_FOUND` for a version that the stream does not have yet. */
export async function stateAt(
  stream: StreamName,
  model: AggregateModel,
  store: EventStore,
  environment: Environment,
  until: PointInTime,
): Promise<PastState> {
  const lastVersion = Math.min(until.version ?? Infinity, await versionAt(stream, store, until.time));
  let state = model.initial();
  let version = 0;
  let position = 0;
  if (until.version !== 0) {
    read: for await (const batch of store.readStream(stream)) {
      for (const event of batch) {
        if (lastVersion < event.version && cutOfType(event.type) !== undefined)
          throw droppedVersions(stream, event.version, until);
        if (event.version > lastVersion) break read;
        try {
          state = model.fold(state, event, environment.onUnknownEvent);
        } catch (error) {
          throw await explained(error, stream, environment);
        }
        version = event.version;
        position = event.position;
      }
    }
  }
  if (until.version !== undefined && until.version > version && lastVersion >= until.version) {
    throw new EventfoldError(
      "VERSION_NOT_FOUND",
      `expected version ${until.version} of ${stream.type} ${JSON.stringify(stream.id)}, found ${version} events; ask for a version from 0 to ${version}`,
    );
  }
  model.checkState(state, stream.id);
  return { state: freeze(state), version, position };
}

/** The error of a fold. For an event that the contract does not declare, it says how many there are, and what can be done. */
export async function explained(error: unknown, { type }: StreamName, environment: Environment): Promise<unknown> {
  if (!isEventfoldError(error, "UNKNOWN_EVENT")) return error;
  return (await environment.unknownEvents?.errorOf(type, error)) ?? error;
}

function droppedVersions({ type, id }: StreamName, first: number, { version }: PointInTime): EventfoldError {
  const asked = version === undefined ? "a time" : `version ${version}`;
  return new EventfoldError(
    "VERSION_NOT_FOUND",
    `expected ${asked} of ${type} ${JSON.stringify(id)} to be at or after version ${first}; found that the events before were deleted or replaced by a compaction`,
  );
}

/**
 * Version of the last event that is not later than a time. All events before it count, also those with a later time: the clock
 * went back between them. `Infinity` if that is the stream's last event.
 */
async function versionAt(stream: StreamName, store: EventStore, time: number | undefined): Promise<number> {
  if (time === undefined) return Infinity;
  let version = 0;
  let last = 0;
  for await (const batch of store.readStream(stream)) {
    for (const event of batch) {
      last = event.version;
      if (event.timestamp <= time) version = last;
    }
  }
  return version === last ? Infinity : version;
}
