import { type Command, type CommandOutcome, type Lease } from "../aggregate/instance.ts";
import type { CommandContext, CommandEnvelope } from "../aggregate/messages.ts";
import { CommandRejected, EventfoldError, isEventfoldError } from "../errors.ts";
import type { ConsumerAppend, EventStore, StoredDeadLetter, StreamName } from "../event-store/event-store.ts";
import type { Cause } from "./reaction.ts";

/** A chain of commands and events deeper than this is taken for a loop. */
const MAX_DEPTH = 100;
const MAX_ATTEMPTS = 100;

/** What a process manager needs of the aggregates. */
export interface CommandTargets {
  prepare(stream: StreamName, command: unknown, context: CommandContext): Promise<Command>;
  lease(stream: StreamName): Promise<Lease>;
}

/** One command of a process manager, on its way. */
export interface Delivery {
  readonly manager: string;
  /** The same however often it is tried: manager, event, and place among the event's commands. */
  readonly identity: string;
  readonly envelope: CommandEnvelope;
  readonly cause: Cause;
}

/** How a delivery ended. All but `"overtaken"` are in the log, together with the note. */
export type DeliveryResult =
  | { readonly kind: "dispatched"; readonly outcome: CommandOutcome | undefined }
  | { readonly kind: "dead-letter"; readonly error: Error }
  /** Another process has taken the step; nothing was written. */
  | { readonly kind: "overtaken" };

/** What is noted in the log in the same commit as the command's events. */
export type StepNote = Omit<ConsumerAppend, "deadLetters">;

/**
 * Sends one command: its events and the manager's note are one commit, so that its effect and the
 * knowledge of it are never apart. A command that cannot succeed becomes a dead letter in that commit. What may pass (a
 * full disk, a conflict) is thrown: then nothing was written.
 */
export async function deliver(
  targets: CommandTargets,
  events: EventStore,
  delivery: Delivery,
  note: StepNote,
  now: () => number,
  onFailure: "dead-letter" | "throw",
): Promise<DeliveryResult> {
  const { envelope, cause, identity } = delivery;
  const stream = { type: envelope.aggregate, id: envelope.id };
  try {
    if (cause.depth >= MAX_DEPTH) {
      throw new EventfoldError(
        "DISPATCH_LOOP",
        `${MAX_DEPTH} commands of process managers led to this one, one after the other: this looks like a loop`,
      );
    }
    const command = await targets.prepare(stream, envelope.command, contextOf(delivery));
    const lease = await targets.lease(stream);
    let next: "keep" | "reload" = "reload";
    try {
      for (let attempt = 1; ; attempt++) {
        const before = await lease.first(identity);
        const { state, version } = lease.situation();
        const decision = before === undefined ? lease.decide({ id: stream.id, state, version }, command) : undefined;
        if (decision?.kind === "rejection") {
          next = "keep";
          throw new CommandRejected(stream.type, stream.id, command.type, decision.rejection);
        }
        const drafts = decision?.drafts ?? [];
        const appends = drafts.length === 0 ? [] : [{ stream, expectedVersion: version, events: drafts }];
        const result = await events.commit({ appends, consumer: note });
        if (result.ok) {
          if (decision !== undefined && drafts.length > 0) {
            const to = version + drafts.length;
            lease.committed(decision.state, to, result.position, new Map([[identity, { from: version + 1, to }]]));
          }
          next = "keep";
          return { kind: "dispatched", outcome: before ?? lease.outcome() };
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
      // `handle` threw or refused: the instance is as it was.
      if (!mayPass(error)) next = "keep";
      throw error;
    } finally {
      lease.release(next);
    }
  } catch (error) {
    if (mayPass(error) || onFailure === "throw") throw error;
    const deadLetters = [letterOf(delivery, error, now())];
    const result = await events.commit({ appends: [], consumer: { ...note, deadLetters } });
    return result.ok
      ? { kind: "dead-letter", error: error instanceof Error ? error : new Error(String(error)) }
      : { kind: "overtaken" };
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
export function mayPass(error: unknown): boolean {
  return isEventfoldError(error) && PASSING.has(error.code);
}

function contextOf({ manager, identity, envelope, cause }: Delivery): CommandContext & { readonly dispatch: object } {
  return {
    correlationId: cause.correlationId ?? cause.eventId,
    causationId: cause.eventId,
    ...envelope.context,
    idempotencyKey: identity,
    dispatch: { manager, event: cause.eventId, depth: cause.depth + 1 },
  };
}

/** A dead letter in the original's form, with what we know beyond it. */
function letterOf(delivery: Delivery, error: unknown, time: number): StoredDeadLetter {
  const { manager, identity, envelope, cause } = delivery;
  const context = contextOf(delivery);
  const message = error instanceof Error ? error.message : String(error);
  const code = isEventfoldError(error) ? error.code : undefined;
  const prefix =
    code === "UNKNOWN_AGGREGATE"
      ? "unknown aggregate type: "
      : code === "UNKNOWN_COMMAND" || code === "INVALID_COMMAND" || code === "INVALID_PAYLOAD"
        ? "command deserialization failed: "
        : "command execution failed: ";
  return {
    key: identity,
    letter: {
      envelope: {
        aggregate_type: envelope.aggregate,
        instance_id: envelope.id,
        command: envelope.command,
        context: {
          actor: context.actor ?? null,
          correlation_id: context.correlationId ?? null,
          metadata: context.metadata ?? null,
          ...(context.sourceDevice === undefined ? {} : { source_device: context.sourceDevice }),
        },
      },
      error: code === "UNKNOWN_AGGREGATE" ? `${prefix}${envelope.aggregate}` : `${prefix}${message}`,
      ts: Math.floor(time / 1000),
      ms: time % 1000,
      manager,
      code: code ?? null,
      rejection: error instanceof CommandRejected ? error.rejection : null,
      cause,
    },
  };
}
