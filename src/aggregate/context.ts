import { EventfoldError } from "../errors.ts";
import type { StoredEvent, StoredMeta } from "../event-store/event-store.ts";
import { isJsonValue, isWellFormed } from "../json.ts";
import type { CommandContext } from "./messages.ts";

/** The context of a process manager's command: says which, in reaction to which event, and how deep in a chain. */
export interface DispatchContext extends CommandContext {
  readonly dispatch?: object;
}

/**
 * Keys of stored metadata that users cannot set: the context's fields, of which the Rust crate writes the first two, and the encrypted
 * parts of the payload.
 */
const RESERVED = new Set([
  "correlation_id",
  "source_device",
  "causation_id",
  "idempotency_key",
  "dispatch",
  "personal",
]);

/** Throws `INVALID_CONTEXT` for anything in a context that cannot be stored as it is. */
export function checkContext(context: CommandContext): void {
  if (typeof context !== "object" || context === null) throw bad("a context is an object");
  const { actor, correlationId, causationId, sourceDevice, idempotencyKey } = context;
  if (!isOptionalText(actor)) throw bad("actor is not a string of Unicode text");
  if (!isOptionalText(correlationId)) throw bad("correlationId is not a string of Unicode text");
  if (!isOptionalText(causationId)) throw bad("causationId is not a string of Unicode text");
  if (!isOptionalText(sourceDevice)) throw bad("sourceDevice is not a string of Unicode text");
  if (!isOptionalText(idempotencyKey)) throw bad("idempotencyKey is not a string of Unicode text");
  if (context.idempotencyKey === "") throw bad("idempotencyKey is empty");
  const { metadata } = context;
  if (metadata === undefined) return;
  if (typeof metadata !== "object" || metadata === null || Array.isArray(metadata) || !isJsonValue(metadata))
    throw bad("metadata is not a plain JSON object");
  for (const key of RESERVED)
    if (Object.hasOwn(metadata, key)) throw bad(`metadata.${key} is reserved for the context's own field`);
}

/** Options of a command that stand beside its context. In it they are without effect. */
const BESIDE_CONTEXT = ["expectedVersion", "remember", "signal", "timeout"] as const;

/** The name of such an option that something has, which can have none. */
export function optionBesideContext(value: object | undefined): string | undefined {
  if (value === undefined || value === null) return undefined;
  return BESIDE_CONTEXT.find((name) => (value as Record<string, unknown>)[name] !== undefined);
}

/**
 * The fields of both contexts; a field that the second leaves undefined keeps its value. Of a command's options, those beside the
 * context are left out. Throws `INVALID_CONTEXT` for something that has no fields.
 */
export function mergedContext(first: CommandContext = {}, second: CommandContext = {}): CommandContext {
  for (const context of [first, second])
    if (typeof context !== "object" || context === null) throw bad("a context is an object");
  const {
    expectedVersion: _version,
    remember: _remember,
    signal: _signal,
    timeout: _timeout,
    ...fields
  } = second as Record<string, unknown>;
  return { ...first, ...Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) };
}

/** A copy: what the caller does to its object later must not reach a command that waits, nor the event that it is answered with. */
export function ownContext(context: CommandContext): CommandContext {
  const { metadata, actor, correlationId, causationId, sourceDevice, idempotencyKey, dispatch } =
    context as DispatchContext;
  const own: { -readonly [K in keyof DispatchContext]: DispatchContext[K] } = {};
  if (actor !== undefined) own.actor = actor;
  if (correlationId !== undefined) own.correlationId = correlationId;
  if (causationId !== undefined) own.causationId = causationId;
  if (sourceDevice !== undefined) own.sourceDevice = sourceDevice;
  if (idempotencyKey !== undefined) own.idempotencyKey = idempotencyKey;
  if (metadata !== undefined) own.metadata = JSON.parse(JSON.stringify(metadata)) as typeof metadata;
  if (dispatch !== undefined) own.dispatch = dispatch;
  return own;
}

/** The same command with more metadata, e.g. that of a tracer. */
export function withMetadata<C extends { readonly context?: CommandContext | undefined }>(
  command: C,
  extra: CommandContext["metadata"],
): C {
  if (extra === undefined) return command;
  return { ...command, context: { ...command.context, metadata: { ...command.context?.metadata, ...extra } } };
}

/** The stored form of a context, without the actor. */
export function metaOf(context: CommandContext): StoredMeta | undefined {
  const { metadata, correlationId, causationId, sourceDevice, idempotencyKey, dispatch } = context as DispatchContext;
  const meta: Record<string, unknown> = { ...metadata };
  if (correlationId !== undefined) meta["correlation_id"] = correlationId;
  if (sourceDevice !== undefined) meta["source_device"] = sourceDevice;
  if (causationId !== undefined) meta["causation_id"] = causationId;
  if (idempotencyKey !== undefined) meta["idempotency_key"] = idempotencyKey;
  if (dispatch !== undefined) meta["dispatch"] = dispatch;
  return Object.keys(meta).length === 0 ? undefined : meta;
}

/** The keys by which the command that made an event is known: its own, and its identity when a process manager sent it. */
export function idempotencyKeysOf({ meta }: StoredEvent): string[] {
  if (meta === undefined) return [];
  const dispatch = meta["dispatch"] as { readonly id?: unknown } | null | undefined;
  return [meta["idempotency_key"], dispatch?.id].filter((key) => typeof key === "string");
}

interface ContextOfEvent {
  readonly correlationId: string | undefined;
  readonly causationId: string | undefined;
  readonly sourceDevice: string | undefined;
  readonly metadata: Record<string, unknown>;
}

/** What an event's record shows of the metadata that is stored with it. */
export function contextOf(meta: StoredMeta | undefined): ContextOfEvent {
  let correlationId: string | undefined;
  let causationId: string | undefined;
  let sourceDevice: string | undefined;
  const metadata: Record<string, unknown> = {};
  for (const key in meta) {
    const value = meta[key];
    if (key === "correlation_id") correlationId = textOf(value);
    else if (key === "causation_id") causationId = textOf(value);
    else if (key === "source_device") sourceDevice = textOf(value);
    else if (key === "__proto__")
      Object.defineProperty(metadata, key, { value, enumerable: true, configurable: true, writable: true });
    else if (!RESERVED.has(key)) metadata[key] = value;
  }
  return { correlationId, causationId, sourceDevice, metadata };
}

function isOptionalText(value: unknown): boolean {
  return value === undefined || (typeof value === "string" && isWellFormed(value));
}

function textOf(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

function bad(message: string): EventfoldError {
  return new EventfoldError("INVALID_CONTEXT", `command context: ${message}`);
}
