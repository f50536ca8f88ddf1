import type { Lease } from "../aggregate/instance.ts";
import type { Command } from "../aggregate/model.ts";
import type { CommandContext } from "../aggregate/messages.ts";
import { CommandRejectedError, EventfoldError, isEventfoldError } from "../errors.ts";
import type { ConsumerAppend, EventStore, StreamName } from "../event-store/event-store.ts";
import { tracedCommit } from "../event-store/traced-commit.ts";
import { deadLetterWritten, dispatching, type DispatchTrace } from "../tracing/tracing.ts";
import { letterOf, type Undelivered } from "./dead-letter.ts";
import { isError, messageOf } from "../realm.ts";

/** A chain of commands and events deeper than this is taken for a loop. */
const MAX_DEPTH = 100;
const MAX_ATTEMPTS = 100;

/** What a process manager needs of the aggregates. */
export interface CommandTargets {
  prepare(stream: StreamName, command: unknown, context: CommandContext): Promise<Command>;
  lease(stream: StreamName): Promise<Lease>;
}

/**
 * One command of a process manager, on its way. Its identity is the same however often it is tried: manager, event, and
 * place among the event's commands.
 */
export type Delivery = Undelivered;

export interface DispatcherParts {
  readonly targets: CommandTargets;
  /** The aggregates that the manager may send commands to. */
  readonly allowed: ReadonlySet<string>;
  readonly events: EventStore;
  readonly now: () => number;
}

/** How a delivery ended. All but `"overtaken"` are in the log, together with the note. */
export type DeliveryResult =
  | { readonly kind: "dispatched"; readonly events: number; readonly position: number }
  | { readonly kind: "dead-letter"; readonly error: unknown }
  /** Another process has taken the step; nothing was written. */
  | { readonly kind: "overtaken" };

/** What is noted in the log in the same commit as the command's events. */
export type StepNote = Omit<ConsumerAppend, "deadLetters">;

/** What cannot succeed, however often it is tried; `error` says why. */
class Hopeless extends Error {
  readonly error: unknown;

  constructor(error: unknown) {
    super("hopeless");
    this.error = error;
  }
}

/**
 * Sends one command: its events and the manager's note are one commit, so that its effect and the
 * knowledge of it are never apart. A command that cannot succeed becomes a dead letter in that commit. What may pass (a
 * full disk, a conflict) is thrown: then nothing was written.
 */
export function deliver(
  parts: DispatcherParts,
  delivery: Delivery,
  note: StepNote,
  onFailure: "dead-letter" | "throw",
): Promise<DeliveryResult> {
  const { manager, envelope, cause } = delivery;
  const begin = (): DispatchTrace => ({
    processManager: manager,
    commands: [{ aggregate: envelope.aggregate, id: envelope.id, command: envelope.command.type }],
    cause: cause?.position,
  });
  return dispatching.promise(begin, async (trace) => {
    const result = await settle(parts, delivery, note, onFailure);
    if (trace === undefined) return result;
    if (result.kind === "dead-letter") trace.deadLetter = true;
    if (result.kind !== "dispatched") return result;
    trace.events = result.events;
    trace.position = result.position;
    return result;
  });
}

async function settle(
  parts: DispatcherParts,
  delivery: Delivery,
  note: StepNote,
  onFailure: "dead-letter" | "throw",
): Promise<DeliveryResult> {
  try {
    return await send(parts, delivery, note);
  } catch (thrown) {
    const error = thrown instanceof Hopeless ? thrown.error : thrown;
    if (onFailure === "throw" || (!(thrown instanceof Hopeless) && mayPass(error))) throw error;
    const deadLetters = [letterOf(delivery, contextOf(delivery), error, parts.now())];
    const { ok } = await tracedCommit(parts.events, { appends: [], consumer: { ...note, deadLetters } });
    if (!ok) return { kind: "overtaken" };
    const { manager, envelope, identity } = delivery;
    deadLetterWritten.publish(() => ({
      processManager: manager,
      key: identity,
      aggregate: envelope.aggregate,
      id: envelope.id,
      command: envelope.command.type,
      reason: messageOf(error),
    }));
    return { kind: "dead-letter", error };
  }
}

async function send(
  { targets, allowed, events }: DispatcherParts,
  delivery: Delivery,
  note: StepNote,
): Promise<DeliveryResult> {
  const { envelope, identity } = delivery;
  const stream = { type: envelope.aggregate, id: envelope.id };
  const command = await hopelessIfItFails(async () => {
    checkDelivery(delivery, allowed);
    return targets.prepare(stream, envelope.command, contextOf(delivery));
  });
  const lease = await targets.lease(stream);
  let next: "keep" | "reload" = "reload";
  try {
    for (let attempt = 1; ; attempt++) {
      const { idempotencyKey } = envelope.context ?? {};
      const before =
        (await lease.first(identity)) ?? (idempotencyKey === undefined ? undefined : await lease.first(idempotencyKey));
      const { state, version } = lease.situation();
      const decision =
        before === undefined
          ? await hopelessIfItFails(() => lease.decide({ id: stream.id, state, version }, command))
          : undefined;
      if (decision?.kind === "rejection")
        throw new Hopeless(new CommandRejectedError(stream.type, stream.id, command.type, decision.rejection));
      const drafts = decision?.drafts ?? [];
      const appends = drafts.length === 0 ? [] : [{ stream, expectedVersion: version, events: drafts }];
      const result = await tracedCommit(events, { appends, consumer: note });
      if (result.ok) {
        if (decision !== undefined && drafts.length > 0) {
          const to = version + drafts.length;
          const keys = idempotencyKey === undefined ? [identity] : [identity, idempotencyKey];
          const versions = { from: version + 1, to };
          lease.committed(decision.state, to, result.position, new Map(keys.map((key) => [key, versions])));
        }
        next = "keep";
        const { events: made, position } = before ?? { events: drafts, position: lease.outcome().position };
        return { kind: "dispatched", events: made.length, position };
      }
      if ("consumer" in result) {
        next = "keep";
        return { kind: "overtaken" };
      }
      if (attempt === MAX_ATTEMPTS)
        throw new EventfoldError("CONFLICT", `${stream.type} ${stream.id} changes too fast`);
      await lease.catchUp();
    }
  } catch (error) {
    // Rejected, or `handle` threw: the instance is as it was.
    if (error instanceof Hopeless) next = "keep";
    throw error;
  } finally {
    lease.release(next);
  }
}

/** Runs what depends on the command and the state alone. */
async function hopelessIfItFails<T>(decide: () => T | Promise<T>): Promise<T> {
  try {
    return await decide();
  } catch (error) {
    throw new Hopeless(error);
  }
}

function checkDelivery({ manager, envelope, cause }: Delivery, allowed: ReadonlySet<string>): void {
  if ((cause?.depth ?? 0) >= MAX_DEPTH) {
    throw new EventfoldError(
      "DISPATCH_LOOP",
      `${MAX_DEPTH} commands of process managers led to this one, one after the other: this looks like a loop`,
    );
  }
  if (!allowed.has(envelope.aggregate)) {
    throw new EventfoldError(
      "UNKNOWN_AGGREGATE",
      `process manager ${manager} sent a command to ${envelope.aggregate}, which is not in its dispatches`,
    );
  }
}

const PASSING = new Set([
  "CONFLICT",
  "DISK_FULL",
  "IO_ERROR",
  "STORE_BUSY",
  "STORE_CLOSED",
  "STREAM_LOCKED",
  "CORRUPT_LOG",
]);

/** Whether trying again later can help. */
function mayPass(error: unknown): boolean {
  if (isEventfoldError(error)) return PASSING.has(error.code);
  // A system error: EMFILE, EIO.
  return isError(error) && "code" in error && /^E[A-Z0-9]+$/.test(String(error.code));
}

function contextOf({ manager, identity, envelope, cause }: Delivery): CommandContext & { readonly dispatch: object } {
  const correlationId = envelope.context?.correlationId ?? cause?.correlationId ?? cause?.eventId;
  const key = envelope.context?.idempotencyKey;
  return {
    ...envelope.context,
    correlationId,
    causationId: envelope.context?.causationId ?? cause?.eventId,
    // A key of the manager's own counts as for any command; the delivery's identity stands beside it then.
    idempotencyKey: key ?? identity,
    dispatch: {
      manager,
      ...(key === undefined ? {} : { id: identity }),
      ...(cause === undefined ? {} : { event: cause.eventId }),
      depth: (cause?.depth ?? 0) + 1,
    },
  };
}
