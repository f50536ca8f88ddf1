import type { CommandEnvelope } from "../aggregate/messages.ts";
import { milliseconds } from "../duration.ts";
import { EventfoldError } from "../errors.ts";
import type { StoredEvent } from "../event-store/event-store.ts";
import { isJsonValue } from "../json.ts";
import type { Reaction, Scheduled } from "./process-manager.ts";
import { isDate, isPromise } from "../realm.ts";

/** A chain of events that contains a wait of this length is not taken for a loop. */
const NO_LOOP_MS = 1000;

/** A command that waits for its time. */
export interface ScheduledCommand {
  /** Identity: manager, event and place among the event's scheduled commands. */
  readonly id: string;
  readonly key?: string;
  /** Milliseconds since 1970. */
  readonly due: number;
  readonly envelope: CommandEnvelope;
  readonly cause: Cause;
}

/** The event that a command goes back to. */
export interface Cause {
  readonly aggregate: string;
  readonly id: string;
  readonly version: number;
  readonly position: number;
  readonly eventId: string;
  readonly correlationId?: string;
  /** How many process managers' commands led to it, one after the other. */
  readonly depth: number;
}

export function causeOf({ stream, version, position, eventId, meta }: StoredEvent): Cause {
  const correlationId = meta?.["correlation_id"];
  const dispatch = meta?.["dispatch"] as { readonly depth?: unknown } | undefined;
  return {
    aggregate: stream.type,
    id: stream.id,
    version,
    position,
    eventId: eventId ?? `${stream.type}/${stream.id}/${version}`,
    ...(typeof correlationId === "string" ? { correlationId } : {}),
    depth: typeof dispatch?.depth === "number" ? dispatch.depth : 0,
  };
}

/**
 * The identity of an output, the same however often it is made: manager, event, and place among the event's outputs. The event is
 * named by its stream and version, for two streams may have been given events with the same id.
 */
export function identityOf(manager: string, { aggregate, id, version }: Cause, place: number | string): string {
  return `${manager}:${aggregate}/${id}/${version}:${place}`;
}

/** A reaction, spelled out. */
export interface Outputs {
  readonly state: unknown;
  readonly commands: readonly CommandEnvelope[];
  readonly schedule: readonly ScheduledCommand[];
  readonly cancel: readonly string[];
}

/** A misspelt key must not make commands vanish. */
const REACTION_KEYS = new Set(["state", "dispatch", "schedule", "cancel"]);

/** Spells out what a reaction returned. Throws `INVALID_REACTION` for what cannot be one. */
export function outputsOf(manager: string, result: unknown, before: unknown, cause: Cause, time: number): Outputs {
  if (result === undefined || result === null) return { state: before, commands: [], schedule: [], cancel: [] };
  if (typeof result !== "object" || isPromise(result))
    throw bad(manager, `it returned ${isPromise(result) ? "a promise" : `a ${typeof result}`}`);
  if (Array.isArray(result))
    return { state: before, commands: result.map((item) => envelope(manager, item)), schedule: [], cancel: [] };
  if ("aggregate" in result && "command" in result)
    return { state: before, commands: [envelope(manager, result)], schedule: [], cancel: [] };
  const unknown = Object.keys(result).find((key) => !REACTION_KEYS.has(key));
  if (unknown !== undefined) throw bad(manager, `a reaction has no ${JSON.stringify(unknown)}`);
  const { state, dispatch, schedule = [], cancel = [] } = result as Reaction<unknown>;
  const commands =
    dispatch === undefined ? [] : Array.isArray(dispatch) ? (dispatch as readonly unknown[]) : [dispatch];
  return {
    state: state === undefined ? before : state,
    commands: commands.map((item) => envelope(manager, item)),
    schedule: schedule.map((item, index) => scheduledCommand(manager, item, index, cause, time)),
    cancel,
  };
}

function scheduledCommand(
  manager: string,
  item: Scheduled,
  index: number,
  cause: Cause,
  time: number,
): ScheduledCommand {
  const due =
    item.at === undefined ? time + milliseconds(item.in, "in") : isDate(item.at) ? item.at.getTime() : item.at;
  if (!Number.isFinite(due)) throw bad(manager, "a scheduled command's time is not a time");
  const id = identityOf(manager, cause, `s${index}`);
  // Something that comes again and again, each time after a while, is no runaway loop.
  const depth = due - time >= NO_LOOP_MS ? 0 : cause.depth;
  const scheduled = { id, due, envelope: envelope(manager, item.dispatch), cause: { ...cause, depth } };
  return item.key === undefined ? scheduled : { ...scheduled, key: item.key };
}

function envelope(manager: string, item: unknown): CommandEnvelope {
  const { aggregate, id, command } = (
    typeof item === "object" && item !== null ? item : {}
  ) as Partial<CommandEnvelope>;
  if (typeof aggregate !== "string" || typeof id !== "string" || typeof command?.type !== "string") {
    throw bad(manager, "a command is an envelope { aggregate, id, command }, as Aggregate.at(id).Command(…) makes it");
  }
  // What is kept for later, or as a dead letter, has to be JSON; `undefined` properties are left out.
  const copy = JSON.parse(JSON.stringify(item)) as CommandEnvelope;
  if (!isJsonValue(copy)) throw bad(manager, "an envelope is plain JSON");
  return copy;
}

function bad(manager: string, why: string): EventfoldError {
  return new EventfoldError(
    "INVALID_REACTION",
    `a reaction of process manager ${manager} cannot be carried out: ${why}`,
  );
}
