import { checkContext, optionBesideContext, ownContext } from "../aggregate/context.ts";
import type { EventReader } from "../aggregate/event-reader.ts";
import type { CommandContext, CommandEnvelope } from "../aggregate/messages.ts";
import { milliseconds } from "../duration.ts";
import { EventfoldError } from "../errors.ts";
import type { StoredEvent } from "../event-store/event-store.ts";
import { stringifyPayload } from "../json.ts";
import type { Reaction, Scheduled } from "./process-manager.ts";
import { ignoreFailure, isDate, isObjectPrototype, isPromise, messageOf } from "../realm.ts";

/** A chain of events that contains a wait of this length is not taken for a loop. */
const NO_LOOP_MS = 1000;

/** A command that waits for its time. */
export interface ScheduledCommand {
  /** Identity: manager, event and place among the event's scheduled commands. */
  readonly id: string;
  readonly key?: string;
  /** Milliseconds since 1970. */
  readonly due: number;
  /** Milliseconds between two times, if it is sent again and again. Only programs schedule so, no process manager. */
  readonly every?: number;
  readonly envelope: CommandEnvelope;
  /** Missing if a program has scheduled it. */
  readonly cause?: Cause | undefined;
  /** Scheduled by a handler that catches up, while others were past the event. */
  readonly late?: true;
  /** Its payload and context went with the key of a forgotten person. Never stored. */
  readonly forgotten?: true;
}

/** The event that a command goes back to. */
export interface Cause {
  readonly aggregate: string;
  readonly id: string;
  readonly version: number;
  readonly position: number;
  readonly eventId: string;
  readonly correlationId?: string;
  /** The W3C trace context in the event's metadata. */
  readonly traceparent?: string;
  /** How many process managers' commands led to it, one after the other. */
  readonly depth: number;
}

export function causeOf({ stream, version, position, eventId, meta }: StoredEvent): Cause {
  const correlationId = meta?.["correlation_id"];
  const traceparent = meta?.["traceparent"];
  const dispatch = meta?.["dispatch"] as { readonly depth?: unknown } | undefined;
  return {
    aggregate: stream.type,
    id: stream.id,
    version,
    position,
    eventId: eventId ?? `${stream.type}/${stream.id}/${version}`,
    ...(typeof correlationId === "string" ? { correlationId } : {}),
    ...(typeof traceparent === "string" ? { traceparent } : {}),
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

/** What there is to carry out when a manager does not react. */
export const NO_OUTPUTS: Omit<Outputs, "state"> = { commands: [], schedule: [], cancel: [] };

/** The keys of scheduled commands that a reaction cancels or replaces. */
export function keysOf({ schedule, cancel }: Outputs): ReadonlySet<string> {
  const keys = new Set(cancel);
  for (const { key } of schedule) if (key !== undefined) keys.add(key);
  return keys;
}

type React = (state: unknown, event: unknown) => unknown;

/** The outputs of all reactions to a stored event, which readers may see as several events. */
export function outputsOfEvent(
  manager: string,
  { reader, handlers }: { readonly reader: EventReader; readonly handlers: ReadonlyMap<string, React> },
  event: StoredEvent,
  before: unknown,
): Outputs {
  const cause = causeOf(event);
  let all: Outputs = { ...NO_OUTPUTS, state: before };
  for (const [part, recorded] of reader.recorded(event).entries()) {
    const react = handlers.get(recorded.type);
    if (react === undefined) continue;
    const next = outputsOf(manager, react(all.state, recorded), all.state, cause, recorded.timestamp, part);
    const replaced = keysOf(next);
    all = {
      state: next.state,
      commands: [...all.commands, ...next.commands],
      schedule: [...all.schedule.filter(({ key }) => key === undefined || !replaced.has(key)), ...next.schedule],
      cancel: [...all.cancel, ...next.cancel],
    };
  }
  return all;
}

/** The error of a reaction that has thrown. */
export function failedReaction(manager: string, event: StoredEvent, cause: unknown): EventfoldError {
  const { type, stream, version, position } = event;
  return new EventfoldError(
    "PROCESS_MANAGER_FAILED",
    `process manager ${manager} failed on ${type} of ${stream.type} ${JSON.stringify(stream.id)}, version ${version}, position ${position}: ${messageOf(cause)}`,
    { cause },
  );
}

/** A misspelt key must not make commands vanish. */
const REACTION_KEYS = new Set(["state", "dispatch", "schedule", "cancel"]);
const ENVELOPE_KEYS = new Set(["aggregate", "id", "command", "context"]);
const SCHEDULED_KEYS = new Set(["dispatch", "key", "in", "at"]);

/**
 * Spells out what a reaction returned. Throws `INVALID_REACTION` for what cannot be one, and for a command the error that
 * `execute` throws for it: `INVALID_PAYLOAD` or `INVALID_CONTEXT`. It checks the values, and returns copies of them. `part` counts the
 * events that a stored event was split into.
 */
export function outputsOf(
  manager: string,
  result: unknown,
  before: unknown,
  cause: Cause,
  time: number,
  part = 0,
): Outputs {
  if (result === undefined || result === null) return { ...NO_OUTPUTS, state: before };
  if (isPromise(result)) {
    ignoreFailure(result);
    throw bad(manager, "it returned a promise; a reaction is made of the state and the event alone, at once");
  }
  if (typeof result !== "object") throw bad(manager, `it returned a ${typeof result}`);
  if (!isPlain(result)) throw bad(manager, `it returned ${shownObject(result)}; a reaction is a plain object`);
  if (Array.isArray(result) || ("aggregate" in result && "command" in result))
    return { ...NO_OUTPUTS, state: before, commands: listOf(result).map((item) => envelope(manager, item)) };
  checkKeys(manager, "a reaction", result, REACTION_KEYS);
  const { state, dispatch, schedule, cancel } = result as Reaction<unknown>;
  const commands = dispatch === undefined ? [] : listOf(dispatch);
  return {
    state: state === undefined ? before : state,
    commands: commands.map((item) => envelope(manager, item)),
    schedule: lastOfEachKey(
      array(manager, "schedule", schedule).map((item, index) =>
        scheduledCommand(manager, item, `${part === 0 ? "" : `${part}.`}s${index}`, cause, time),
      ),
    ),
    cancel: array(manager, "cancel", cancel).map((key) => text(manager, "a key in cancel", key)),
  };
}

/** An array counts: it is looked into on its own. */
function isPlain(value: object): boolean {
  if (Array.isArray(value)) return true;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || isObjectPrototype(prototype);
}

function shownObject(value: object): string {
  const { constructor: made } = value as { readonly constructor?: unknown };
  return typeof made === "function" && made.name !== "" && !isObjectPrototype(made.prototype)
    ? `an instance of ${made.name}`
    : "an object with another prototype";
}

/** One or several, without holes. */
function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? Array.from<unknown>(value) : [value];
}

function array(manager: string, name: string, value: unknown): readonly unknown[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw bad(manager, `${name} is an array, found a value of type ${typeof value}`);
  return listOf(value);
}

function text(manager: string, what: string, value: unknown): string {
  if (typeof value !== "string") throw bad(manager, `${what} is a string, not a ${typeof value}`);
  return value;
}

/** A command that is scheduled replaces those before it that have its key. */
function lastOfEachKey(schedule: readonly ScheduledCommand[]): readonly ScheduledCommand[] {
  const last = new Map<string, ScheduledCommand>();
  for (const command of schedule) if (command.key !== undefined) last.set(command.key, command);
  return schedule.filter((command) => command.key === undefined || last.get(command.key) === command);
}

function scheduledCommand(manager: string, item: unknown, place: string, cause: Cause, time: number): ScheduledCommand {
  if (typeof item !== "object" || item === null)
    throw bad(manager, "what it schedules is an object { dispatch, in or at, key? }");
  checkKeys(manager, "a scheduled command", item, SCHEDULED_KEYS);
  const { at, in: wait, key, dispatch } = item as Scheduled;
  if (at !== undefined && wait !== undefined) throw bad(manager, "a scheduled command has in or at, not both");
  const due = at === undefined ? time + milliseconds(wait, "in") : isDate(at) ? at.getTime() : at;
  if (!Number.isFinite(due)) throw bad(manager, "a scheduled command's time is not a time");
  const id = identityOf(manager, cause, place);
  // Something that comes again and again, each time after a while, is no runaway loop.
  const depth = due - time >= NO_LOOP_MS ? 0 : cause.depth;
  const scheduled = { id, due, envelope: envelope(manager, dispatch), cause: { ...cause, depth } };
  return key === undefined ? scheduled : { ...scheduled, key: text(manager, "the key of a scheduled command", key) };
}

/** A checked copy: what is kept for later, or as a dead letter, is JSON, and stays as it is. */
function envelope(manager: string, item: unknown): CommandEnvelope {
  return envelopeCopy(item, (why) => bad(manager, why));
}

/** A checked copy of an envelope. `bad` makes the error for something that is none. */
export function envelopeCopy(item: unknown, fault: (why: string) => EventfoldError): CommandEnvelope {
  const { aggregate, id, command, context } = (
    typeof item === "object" && item !== null ? item : {}
  ) as Partial<CommandEnvelope>;
  if (typeof aggregate !== "string" || typeof id !== "string" || typeof command?.type !== "string") {
    throw fault("a command is an envelope { aggregate, id, command }, as Aggregate.at(id).Command(…) makes it");
  }
  const unknown = unknownKey(item as object, ENVELOPE_KEYS);
  if (unknown !== undefined) throw fault(`an envelope has no ${JSON.stringify(unknown)}`);
  const { type, data } = command;
  const copy: CommandEnvelope = {
    aggregate,
    id,
    command:
      data === undefined
        ? { type }
        : { type, data: JSON.parse(stringifyPayload(data, `command ${type} of ${aggregate}`)) as unknown },
  };
  if (context === undefined) return copy;
  const excess = optionBesideContext(context);
  if (excess !== undefined) throw fault(`a context has no ${JSON.stringify(excess)}`);
  return { ...copy, context: contextCopy(context) };
}

function contextCopy(context: CommandContext): CommandContext {
  checkContext(context);
  const { dispatch: _, ...own } = ownContext(context) as CommandContext & { readonly dispatch?: unknown };
  return own;
}

function checkKeys(manager: string, what: string, value: object, known: ReadonlySet<string>): void {
  const unknown = unknownKey(value, known);
  if (unknown !== undefined) throw bad(manager, `${what} has no ${JSON.stringify(unknown)}`);
}

function unknownKey(value: object, known: ReadonlySet<string>): string | undefined {
  return Object.keys(value).find((key) => !known.has(key));
}

function bad(manager: string, why: string): EventfoldError {
  return new EventfoldError(
    "INVALID_REACTION",
    `a reaction of process manager ${manager} cannot be carried out: ${why}`,
  );
}
