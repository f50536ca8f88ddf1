import { atPositions, type CommandOutcome } from "../aggregate/instance/command-outcome.ts";
import { withMetadata } from "../aggregate/context.ts";
import type { Lease } from "../aggregate/instance/lease.ts";
import { type Lessor, type Proposal, withLeases } from "../aggregate/instance/with-leases.ts";
import type { Command, Decision } from "../aggregate/model.ts";
import type { CommandContext, CommandEnvelope } from "../aggregate/messages.ts";
import { CommandRejectedError, EventfoldError, isEventfoldError } from "../errors.ts";
import type { ConsumerAppend, EventStore, StoredDeadLetter, StreamName } from "../event-store/event-store.ts";
import { tracedCommit } from "../event-store/traced-commit.ts";
import { deadLetterWritten, dispatching, type DispatchTrace } from "../tracing/tracing.ts";
import { letterOf, type Undelivered } from "./dead-letter.ts";
import { isError, messageOf } from "../realm.ts";

/** A chain of commands and events deeper than this is taken for a loop. */
const MAX_DEPTH = 100;

/** What a process manager needs of the aggregates. */
export interface CommandTargets extends Lessor {
  /** What commands pass on their way to an instance. */
  readonly middleware: {
    readonly isEmpty: boolean;
    pass(
      envelope: CommandEnvelope,
      execute: (envelope: CommandEnvelope) => Promise<CommandOutcome>,
    ): Promise<CommandOutcome>;
  };
  /** Whether an aggregate is registered. */
  knows(type: string): boolean;
  prepare(stream: StreamName, command: unknown, context: CommandContext): Command;
}

/**
 * One command of a process manager, on its way. Its identity is the same however often it is tried: manager, event, and
 * place among the event's commands.
 */
export type Delivery = Undelivered;

export interface DispatcherParts {
  readonly targets: CommandTargets;
  /** The aggregates that the manager may send commands to; all if left out. */
  readonly allowed: ReadonlySet<string> | undefined;
  readonly events: EventStore;
  readonly now: () => number;
}

/** How a delivery ended. Unless it was superseded, the end is in the log, together with the note. */
export type DeliveryResult =
  | {
      readonly kind: "dispatched";
      readonly outcome: () => CommandOutcome;
      readonly events: number;
      readonly position: number;
    }
  | { readonly kind: "dead-letter"; readonly error: unknown }
  /** It was given up. */
  | { readonly kind: "skipped"; readonly error: unknown }
  /** Another process has made this progress; nothing was written. */
  | { readonly kind: "superseded" };

/** The manager's progress, written in the same commit as the command's events. */
export type StepNote = Omit<ConsumerAppend, "deadLetters">;

/** What to do with a command that cannot succeed: write a dead letter, give it up, or throw and write nothing. */
export type OnFailure = "dead-letter" | "skip" | "throw";

/**
 * Sends one command. Its events and the manager's progress are one commit, so neither is ever written without the other. A
 * command that cannot succeed becomes a dead letter in such a commit. A failure that may pass (a full disk, a conflict)
 * is thrown: then nothing was written, or, after `COMMIT_UNKNOWN`, the manager's notes tell whether it was.
 */
export function deliver(
  parts: DispatcherParts,
  delivery: Delivery,
  note: StepNote,
  onFailure: OnFailure,
): Promise<DeliveryResult> {
  const { manager, envelope, cause } = delivery;
  const begin = (): DispatchTrace => ({
    processManager: manager,
    commands: [{ aggregate: envelope.aggregate, id: envelope.id, command: envelope.command.type }],
    cause: cause?.position,
    causeId: cause?.eventId,
    causeTraceparent: cause?.traceparent,
  });
  return dispatching.promise(begin, async (trace) => {
    const extra = trace?.extraMetadata;
    const sent = extra === undefined ? delivery : { ...delivery, envelope: withMetadata(envelope, extra) };
    const result = await sendOrBury(parts, sent, note, onFailure);
    if (result.kind === "dead-letter") publishDeadLetter(delivery, result.error);
    if (trace === undefined) return result;
    if (result.kind === "skipped") Object.assign(trace, { failure: result.error });
    if (result.kind === "dead-letter") Object.assign(trace, { deadLetter: true, failure: result.error });
    if (result.kind !== "dispatched") return result;
    trace.events = result.events;
    trace.position = result.position;
    return result;
  });
}

async function sendOrBury(
  parts: DispatcherParts,
  delivery: Delivery,
  note: StepNote,
  onFailure: OnFailure,
): Promise<DeliveryResult> {
  try {
    if (!parts.targets.middleware.isEmpty) return await sendThroughMiddleware(parts, delivery, note);
    const command = prepare(parts, delivery);
    return await send(parts, delivery, command, note, onFailure);
  } catch (thrown) {
    // The command itself is wrong, whatever the state of its instance.
    const isUnsendable = thrown instanceof UnsendableError;
    const error = isUnsendable ? thrown.cause : thrown;
    if (onFailure === "throw" || (!isUnsendable && mayPass(error))) throw error;
    const { ok } = await tracedCommit(parts.events, {
      appends: [],
      consumer: failureNote(delivery, note, error, onFailure, parts.now()),
    });
    return ok ? { kind: endOf(onFailure), error } : { kind: "superseded" };
  }
}

/** The note of a command that cannot succeed. A letter whose command fails again stays, with the new error. */
function failureNote(
  delivery: Delivery,
  note: StepNote,
  error: unknown,
  onFailure: OnFailure,
  time: number,
): ConsumerAppend {
  if (onFailure === "skip") return note;
  const { settledLetters: _, ...rest } = note;
  return { ...rest, deadLetters: [letterOf(delivery, contextOf(delivery), error, time)] };
}

function endOf(onFailure: OnFailure): "dead-letter" | "skipped" {
  return onFailure === "skip" ? "skipped" : "dead-letter";
}

/** The dead letter of a command that is not tried, because it has to wait for another one. */
export function waitingLetter(delivery: Delivery, before: string, time: number): StoredDeadLetter {
  const error = new Error(`waits for the dead letter ${before}`);
  return letterOf(delivery, contextOf(delivery), error, time);
}

/** The envelope that middleware passes on is sent. A failure is thrown through the middleware before it becomes a dead letter. */
async function sendThroughMiddleware(
  parts: DispatcherParts,
  delivery: Delivery,
  note: StepNote,
): Promise<DeliveryResult> {
  let result: DeliveryResult | undefined;
  const { dispatch: _, ...context } = contextOf(delivery);
  await parts.targets.middleware.pass({ ...delivery.envelope, context }, async (envelope) => {
    if (result !== undefined)
      throw new EventfoldError(
        "INVALID_ARGUMENT",
        `middleware called next again for a command of ${delivery.manager} that was sent; it is sent once`,
      );
    const passed = { ...delivery, envelope };
    let command: Command;
    try {
      command = prepare(parts, passed);
    } catch (error) {
      throw error instanceof UnsendableError ? error.cause : error;
    }
    const sent = await send(parts, passed, command, note, "throw");
    result = sent;
    return sent.kind === "dispatched" ? sent.outcome() : NO_OUTCOME;
  });
  if (result !== undefined) return result;
  // Middleware has answered by itself: there is only progress to write.
  const { ok } = await tracedCommit(parts.events, { appends: [], consumer: note });
  return ok
    ? { kind: "dispatched", outcome: () => NO_OUTCOME, events: 0, position: NO_OUTCOME.position }
    : { kind: "superseded" };
}

/** Of a command that another process has sent, or that was not sent. */
const NO_OUTCOME: CommandOutcome = { events: [], state: undefined, version: 0, position: 0 };

/** A command that no instance can accept; `cause` says why. */
class UnsendableError extends Error {
  override readonly name = "UnsendableError";
}

function prepare({ targets, allowed }: DispatcherParts, delivery: Delivery): Command {
  const { envelope } = delivery;
  try {
    checkDelivery(delivery, allowed);
    const stream = { type: envelope.aggregate, id: envelope.id };
    return targets.prepare(stream, envelope.command, contextOf(delivery));
  } catch (cause) {
    throw new UnsendableError("the command cannot be sent", { cause });
  }
}

function send(
  { targets, events, now }: DispatcherParts,
  delivery: Delivery,
  command: Command,
  note: StepNote,
  onFailure: OnFailure,
): Promise<DeliveryResult> {
  const { envelope, identity } = delivery;
  const { idempotencyKey = identity } = envelope.context ?? {};
  const keys = [...new Set([identity, idempotencyKey])];
  const stream = { type: envelope.aggregate, id: envelope.id };
  return withLeases(targets, events, [stream], async (leases): Promise<Proposal<DeliveryResult>> => {
    const lease = leases.of(stream);
    const superseded = (): DeliveryResult => ({ kind: "superseded" });
    const earlier = await earlierOutcome(lease, keys);
    if (earlier !== undefined && earlier.kind !== "failure") {
      const { events: made, position } = earlier.outcome;
      const outcome = (): CommandOutcome => earlier.outcome;
      const written = (): DeliveryResult => ({ kind: "dispatched", outcome, events: made.length, position });
      return { kind: "commit", commit: { appends: [], consumer: note }, written, superseded };
    }
    const { version } = lease;
    const decision = earlier ?? decide(lease, command);
    if (decision.kind === "failure") {
      const { error } = decision;
      if (onFailure === "throw") return { kind: "verdict", answer: () => throwError(error) };
      const consumer = failureNote(delivery, note, error, onFailure, now());
      // The stream stands here without events so that the store checks that the refusal rests on its newest version.
      const appends = [{ stream, expectedVersion: version, events: [] }];
      const written = (): DeliveryResult => ({ kind: endOf(onFailure), error });
      return { kind: "commit", commit: { appends, consumer }, written, superseded };
    }
    const { drafts, events: decided, state } = decision;
    return {
      kind: "commit",
      commit: { appends: [{ stream, expectedVersion: version, events: drafts }], consumer: note },
      written: (position) => {
        if (drafts.length === 0) {
          const { outcome } = lease;
          return { kind: "dispatched", outcome: () => outcome, events: 0, position: outcome.position };
        }
        const versions = { from: version + 1, to: version + drafts.length };
        lease.advance(
          state,
          versions.to,
          position,
          keys.map((key) => [key, versions]),
        );
        const outcome = (): CommandOutcome => ({
          events: atPositions(decided, position),
          state,
          version: versions.to,
          position,
        });
        return { kind: "dispatched", outcome, events: drafts.length, position };
      },
      superseded,
    };
  });
}

type Failure = { readonly kind: "failure"; readonly error: unknown };
type Verdict = Extract<Decision, { readonly kind: "events" }> | Failure;

/** How an earlier command with one of the keys ended. A rejection that is remembered is a failure, as a new one is. */
async function earlierOutcome(
  lease: Lease,
  keys: readonly string[],
): Promise<{ readonly kind: "earlier"; readonly outcome: CommandOutcome } | Failure | undefined> {
  for (const key of keys) {
    try {
      const outcome = await lease.earlierOutcome(key);
      if (outcome !== undefined) return { kind: "earlier", outcome };
    } catch (error) {
      if (!isEventfoldError(error, "COMMAND_REJECTED")) throw error;
      return { kind: "failure", error };
    }
  }
  return undefined;
}

/** Decides a command. A rejection and an error of `handle` are failures alike: both rest on the state. */
function decide(lease: Lease, command: Command): Verdict {
  try {
    const decision = lease.decide(lease.situation, command);
    if (decision.kind === "events") return decision;
    const { type, id } = lease.stream;
    return { kind: "failure", error: new CommandRejectedError(type, id, command.type, decision.rejection) };
  } catch (error) {
    return { kind: "failure", error };
  }
}

function publishDeadLetter({ manager, envelope, identity }: Delivery, error: unknown): void {
  deadLetterWritten.publish(() => ({
    processManager: manager,
    key: identity,
    aggregate: envelope.aggregate,
    id: envelope.id,
    command: envelope.command.type,
    reason: messageOf(error),
  }));
}

function throwError(error: unknown): never {
  throw error;
}

function checkDelivery({ manager, envelope, cause }: Delivery, allowed: ReadonlySet<string> | undefined): void {
  if ((cause?.depth ?? 0) >= MAX_DEPTH) {
    throw new EventfoldError(
      "DISPATCH_LOOP",
      `${MAX_DEPTH} commands of process managers led to this one, one after the other: this looks like a loop`,
    );
  }
  if (allowed?.has(envelope.aggregate) === false) {
    throw new EventfoldError(
      "UNKNOWN_AGGREGATE",
      `process manager ${manager} sent a command to ${envelope.aggregate}, which is not in its dispatches`,
    );
  }
}

const PASSING = new Set([
  "COMMIT_UNKNOWN",
  "CONFLICT",
  "DISK_FULL",
  "IO_ERROR",
  "STORE_BUSY",
  "STORE_CLOSED",
  "STORE_REPLACED",
  "STORE_UNAVAILABLE",
  "STREAM_LOCKED",
  "CORRUPT_LOG",
]);

/** Whether trying again later can help. */
export function mayPass(error: unknown): boolean {
  if (isEventfoldError(error)) return PASSING.has(error.code);
  // A system error: EMFILE, EIO.
  return isError(error) && "code" in error && /^E[A-Z0-9]+$/.test(String(error.code));
}

function contextOf({ manager, identity, envelope, cause }: Delivery): CommandContext & { readonly dispatch: object } {
  const correlationId = envelope.context?.correlationId ?? cause?.correlationId ?? cause?.eventId;
  const given = envelope.context?.idempotencyKey;
  // Middleware has seen the identity as the key of a command without one.
  const key = given === identity ? undefined : given;
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
