import type { CommandContext, CommandEnvelope } from "../aggregate/messages.ts";
import { EventfoldError, InvalidCommandError, isCommandRejected, isEventfoldError } from "../errors.ts";
import type { EventStore, StoredDeadLetter } from "../event-store/event-store.ts";
import { refreshBeforeReading } from "../event-store/freshness.ts";
import { subscriptionOf } from "../subscription/subscription-letters.ts";
import type { Cause } from "./reaction.ts";
import { stringifyPayload } from "../json.ts";
import { messageOf } from "../realm.ts";

/** A command of a process manager or a schedule that could not be delivered, or an event that a subscription could not handle. */
export interface DeadLetter {
  /** For `replayDeadLetter` and `dropDeadLetter`. */
  readonly key: string;
  /** The process manager that sent it. */
  readonly processManager?: string;
  /** The key of the schedule that sent it. */
  readonly schedule?: string;
  /** The subscription whose handler failed. Then `cause` is the event, `aggregate` and `id` are its instance, and there is no command. */
  readonly subscription?: string;
  readonly aggregate: string;
  readonly id: string;
  readonly command: unknown;
  /** What went wrong, in the words of the Rust crate. */
  readonly error: string;
  /** Milliseconds since 1970. */
  readonly timestamp: number;
  /** Its payload went with the key of a forgotten person. It cannot be replayed; drop it. */
  readonly forgotten?: true;
  /** It has not failed: with order, it waits for a dead letter of the same instance, and follows it. */
  readonly waiting?: true;
  /** The event that caused it; missing for a letter of the Rust crate. */
  readonly cause?: {
    readonly aggregate: string;
    readonly id: string;
    readonly version: number;
    readonly position: number;
    readonly eventId: string;
  };
}

/** A command to deliver, and its cause. */
export interface Undelivered {
  readonly manager: string;
  /** The key of the schedule, if a program has scheduled it. */
  readonly schedule?: string | undefined;
  readonly identity: string;
  readonly envelope: CommandEnvelope;
  readonly cause: Cause | undefined;
  /** Its place among the letters of a manager with order. */
  readonly place?: number | undefined;
  /** It waits for another letter. */
  readonly waits?: true;
}

/** A dead letter in the form of the Rust crate, with our own fields beside it. */
export function letterOf(
  { manager, schedule, identity, envelope, cause, place, waits }: Undelivered,
  context: CommandContext,
  error: unknown,
  time: number,
): StoredDeadLetter {
  return {
    key: identity,
    letter: {
      envelope: storedEnvelope(envelope, context, identity),
      error: errorText(envelope, error),
      ts: Math.floor(time / 1000),
      ms: time % 1000,
      manager,
      ...(schedule === undefined ? {} : { schedule }),
      code: isEventfoldError(error) ? error.code : null,
      rejection: isCommandRejected(error) ? asJson(error.rejection) : null,
      ...(cause === undefined ? {} : { cause }),
      ...(place === undefined ? {} : { place }),
      ...(waits === true ? { waits } : {}),
    },
  };
}

/** A letter that has lost its command, with the command that was made again. */
export function withCommand({ key, letter }: StoredDeadLetter, envelope: CommandEnvelope): StoredDeadLetter {
  const { context = {} } = envelope;
  return { key, letter: { ...letter, forgotten: undefined, envelope: storedEnvelope(envelope, context, key) } };
}

function storedEnvelope(envelope: CommandEnvelope, context: CommandContext, identity: string): object {
  return {
    aggregate_type: envelope.aggregate,
    instance_id: envelope.id,
    command: envelope.command,
    context: {
      actor: context.actor ?? null,
      correlation_id: context.correlationId ?? null,
      metadata: context.metadata ?? null,
      ...(context.sourceDevice === undefined ? {} : { source_device: context.sourceDevice }),
      ...ownKeys(envelope, identity),
    },
  };
}

/** What the reaction gave the command beside what a delivery has by itself. */
function ownKeys({ context = {} }: CommandEnvelope, identity: string): object {
  const { causationId, idempotencyKey } = context;
  return {
    ...(causationId === undefined ? {} : { causation_id: causationId }),
    ...(idempotencyKey === undefined || idempotencyKey === identity ? {} : { idempotency_key: idempotencyKey }),
  };
}

/** The words of the Rust crate, by which its tools tell the kinds apart. */
function errorText({ aggregate }: CommandEnvelope, error: unknown): string {
  const message = messageOf(error);
  switch (isEventfoldError(error) ? error.code : undefined) {
    case "UNKNOWN_AGGREGATE":
      return `unknown aggregate type: ${aggregate}`;
    case "UNKNOWN_COMMAND":
    case "INVALID_COMMAND":
    case "INVALID_PAYLOAD":
      return `command deserialization failed: ${message}`;
    default:
      return `command execution failed: ${message}`;
  }
}

/** What JSON can hold of a value; a letter that cannot be written would stop its process manager. */
function asJson(value: unknown): unknown {
  try {
    return JSON.parse(JSON.stringify(value)) as unknown;
  } catch {
    return null;
  }
}

interface StoredEnvelope {
  readonly aggregate_type: string;
  readonly instance_id: string;
  readonly command: unknown;
  readonly context?: {
    readonly actor?: string | null;
    readonly correlation_id?: string | null;
    readonly metadata?: Record<string, unknown> | null;
    readonly source_device?: string | null;
    readonly causation_id?: string | null;
    readonly idempotency_key?: string | null;
  } | null;
}

/** How a dead letter is sent once more. */
export interface ReplayOptions {
  /** Another payload for its command. If the command fails again, the letter stays as it was. */
  readonly data?: unknown;
}

/** What a replay sends. Throws `INVALID_PAYLOAD` for a payload that JSON would change. */
export function replayOf(letter: StoredDeadLetter, { data }: ReplayOptions): Pick<Undelivered, "envelope" | "cause"> {
  const { envelope, cause } = addressOf(letter);
  if (data === undefined) return { envelope, cause };
  const { type } = envelope.command;
  const text = stringifyPayload(data, `command ${type} of ${envelope.aggregate}`);
  return { envelope: { ...envelope, command: { type, data: JSON.parse(text) as unknown } }, cause };
}

/** The error for a payload that a dead letter without a command cannot have. */
export function withoutCommand(key: string): EventfoldError {
  return new EventfoldError(
    "INVALID_ARGUMENT",
    `replayDeadLetter expected no data for ${JSON.stringify(key)}, because it has an event and no command`,
  );
}

/** Envelope and cause of a dead letter, also of one that the Rust crate wrote. */
export function addressOf({ key, letter }: StoredDeadLetter): Pick<Undelivered, "envelope" | "cause"> {
  const { aggregate_type, instance_id, command, context } = (letter["envelope"] ?? {}) as Partial<StoredEnvelope>;
  if (letter["forgotten"] === true)
    throw new InvalidCommandError(
      `the dead letter ${JSON.stringify(key)} has lost its command, because a person whose data it had was forgotten; drop it`,
    );
  if (typeof aggregate_type !== "string" || typeof instance_id !== "string" || command === undefined) {
    throw new InvalidCommandError(
      `the dead letter ${JSON.stringify(key)} cannot be read, so it cannot be sent again; it can be dropped`,
    );
  }
  const { actor, correlation_id, metadata, source_device, causation_id, idempotency_key } = context ?? {};
  return {
    envelope: {
      aggregate: aggregate_type,
      id: instance_id,
      command: commandOf(command),
      context: {
        actor: actor ?? undefined,
        correlationId: correlation_id ?? undefined,
        metadata: metadata ?? undefined,
        sourceDevice: source_device ?? undefined,
        causationId: causation_id ?? undefined,
        idempotencyKey: idempotency_key ?? undefined,
      },
    },
    cause: letter["cause"] as Cause | undefined,
  };
}

/** A letter that waits, as one that has failed, if its command cannot be read. */
export function unreadableLetter(stored: StoredDeadLetter): StoredDeadLetter | undefined {
  try {
    addressOf(stored);
    return undefined;
  } catch (error) {
    const { waits: _, ...letter } = stored.letter;
    return { key: stored.key, letter: { ...letter, error: messageOf(error) } };
  }
}

/** The Rust crate writes `"Name"` or `{"Name": payload}`. */
function commandOf(command: unknown): { readonly type: string; readonly data?: unknown } {
  if (typeof command === "string") return { type: command };
  const entries = typeof command === "object" && command !== null ? Object.entries(command) : [];
  const [only] = entries;
  if (only === undefined || entries.length > 1 || only[0] === "type") return command as { readonly type: string };
  return { type: only[0], data: only[1] as unknown };
}

function shownEvent(subscription: string, { key, letter }: StoredDeadLetter): DeadLetter {
  const event = letter["event"] as NonNullable<DeadLetter["cause"]>;
  const { ts, ms, error } = letter as { readonly ts: number; readonly ms: number; readonly error: string };
  const { aggregate, id, version, position, eventId } = event;
  const cause = { aggregate, id, version, position, eventId };
  const time = { timestamp: ts * 1000 + ms, ...forgottenIn(letter) };
  return { key, subscription, aggregate, id, command: undefined, error, ...time, cause };
}

function forgottenIn(letter: StoredDeadLetter["letter"]): Pick<DeadLetter, "forgotten"> {
  return letter["forgotten"] === true ? { forgotten: true } : {};
}

/** A dead letter as users see it. */
export function shownLetter(processManager: string, { key, letter }: StoredDeadLetter): DeadLetter {
  const envelope = (letter["envelope"] ?? {}) as Partial<StoredEnvelope>;
  const seconds = typeof letter["ts"] === "number" ? letter["ts"] : 0;
  const cause = letter["cause"] as DeadLetter["cause"];
  const subscription = subscriptionOf(processManager);
  if (subscription !== undefined) return shownEvent(subscription, { key, letter });
  const schedule = letter["schedule"];
  return {
    key,
    ...(typeof schedule === "string" ? { schedule } : { processManager }),
    aggregate: envelope.aggregate_type ?? "",
    id: envelope.instance_id ?? "",
    command: envelope.command,
    error: typeof letter["error"] === "string" ? letter["error"] : "this line of dead_letters.jsonl cannot be read",
    timestamp: seconds * 1000 + (typeof letter["ms"] === "number" ? letter["ms"] : 0),
    ...forgottenIn(letter),
    ...(letter["waits"] === true ? { waiting: true as const } : {}),
    ...(cause === undefined ? {} : { cause }),
  };
}

/** Finds the dead letter of a process manager by its key. Throws `UNKNOWN_DEAD_LETTER` if no letter has the key. */
export async function openLetter(
  events: EventStore,
  consumer: string,
  key: string,
  what: string = `process manager ${consumer}`,
): Promise<StoredDeadLetter> {
  await refreshBeforeReading(events);
  const letter = await events.deadLetter(consumer, key);
  if (letter !== undefined) return letter;
  throw new EventfoldError("UNKNOWN_DEAD_LETTER", `${what} has no dead letter ${JSON.stringify(key)}`);
}
