import { cutOfType } from "../../cut.ts";
import type { EventDraft, EventStore, StoredEvent, StreamAppend, StreamName } from "../../event-store/event-store.ts";
import { EventfoldError } from "../../errors.ts";
import { stringifyPayload } from "../../json.ts";
import { outcomesOf } from "../../stream-names.ts";
import { idempotencyKeysOf, metaOf } from "../context.ts";
import { freeze } from "../freeze.ts";
import type { Command, Environment } from "../model.ts";

/** How a command ended that led to no event. */
export interface RememberedOutcome {
  /** Type of the command. */
  readonly command: string;
  /** Version of the instance on which it was decided. */
  readonly version: number;
  /** Left out if there was nothing to do. */
  readonly rejection?: { readonly type: string; readonly data?: unknown };
}

/** A command that was decided and leads to no event. */
export interface DecidedOutcome {
  readonly command: Command;
  readonly outcome: RememberedOutcome;
}

const REJECTED = "Rejected";
const UNCHANGED = "Unchanged";

/**
 * The outcomes without events that one instance remembers, by idempotency key. They are in a stream of their own, so that neither the
 * instance's version nor any reader of its events notices them. Who adds one also checks the version of the instance, and who adds an
 * event with a key also checks the version of this stream: so two processes never give two answers to one key.
 */
export class RememberedOutcomes {
  readonly stream: StreamName;
  readonly #byKey = new Map<string, RememberedOutcome & { readonly place: number }>();
  /** Version of the stream with all that were decided. */
  #version = 0;
  /** The same with those that are committed. */
  #committed = 0;

  /** Knows none before `readNew`. */
  constructor(instance: StreamName) {
    this.stream = outcomesOf(instance);
  }

  /** Reads those that are not known yet. Only while none is in flight. */
  async readNew(store: EventStore): Promise<void> {
    for await (const batch of store.readStream(this.stream, { from: this.#committed + 1 }))
      for (const event of batch) this.#add(event);
  }

  #add(event: StoredEvent): void {
    this.#version = this.#committed = event.version;
    if (cutOfType(event.type) !== undefined) this.#byKey.clear();
    else
      for (const key of idempotencyKeysOf(event))
        if (!this.#byKey.has(key))
          this.#byKey.set(key, freeze({ ...(event.data as RememberedOutcome), place: event.version }));
  }

  get isEmpty(): boolean {
    return this.#byKey.size === 0;
  }

  /** Version of their stream. */
  get version(): number {
    return this.#version;
  }

  find(key: string): RememberedOutcome | undefined {
    return this.#byKey.get(key);
  }

  /** What a commit needs that must not come after an outcome that is not known here. */
  get check(): StreamAppend {
    return { stream: this.stream, expectedVersion: this.#version, events: [] };
  }

  /**
   * The append that remembers how commands with keys ended. Throws `INVALID_PAYLOAD` if JSON would change the data of a rejection, and
   * `INVALID_ARGUMENT` if a command has no key.
   */
  append(decided: readonly DecidedOutcome[], environment: Environment): StreamAppend {
    return { ...this.check, events: decided.map((each) => draftOf(each, environment)) };
  }

  /** Takes down what an append remembers: it is decided from now on. */
  record(decided: readonly DecidedOutcome[]): void {
    for (const { command, outcome } of decided)
      this.#byKey.set(keyToRemember(command), { ...outcome, place: ++this.#version });
  }

  /** The next ones that were decided are committed. */
  commit(count: number): void {
    this.#committed += count;
  }

  /** Forgets those that were decided and not committed. */
  undo(): void {
    this.#version = this.#committed;
    for (const [key, { place }] of this.#byKey) if (place > this.#committed) this.#byKey.delete(key);
  }
}

/** The key of a command whose outcome is remembered. Throws `INVALID_ARGUMENT` for a command without a key. */
export function keyToRemember({ type, context }: Command): string {
  if (context.idempotencyKey !== undefined) return context.idempotencyKey;
  throw new EventfoldError(
    "INVALID_ARGUMENT",
    `remember: "all" expected ${type} to have an idempotencyKey, found none; pass one beside it`,
  );
}

/** How a command ended that was decided at a version. */
export function decidedOutcome(
  command: Command,
  version: number,
  rejection?: RememberedOutcome["rejection"],
): DecidedOutcome {
  const { type } = command;
  return { command, outcome: { command: type, version, ...(rejection === undefined ? {} : { rejection }) } };
}

function draftOf({ command, outcome }: DecidedOutcome, { now, nextId }: Environment): EventDraft {
  const { context } = command;
  keyToRemember(command);
  return {
    type: outcome.rejection === undefined ? UNCHANGED : REJECTED,
    data: stringifyPayload(outcome, `the rejection of ${outcome.command}`),
    schemaVersion: 0,
    timestamp: now(),
    eventId: nextId(),
    actor: context.actor,
    meta: metaOf(context),
  };
}
