import type { ScheduledCommand } from "./reaction.ts";

/** What tells a handler: the types of its aggregate and of its event. */
export interface HandlerName {
  readonly aggregate: string;
  readonly event: string;
}

export interface NamedHandler extends HandlerName {
  /** For a handler that no earlier note has: it does not count the events up to this position. */
  readonly from?: number;
}

/**
 * What a process manager notes in the log, in the same commit as the effects. These keys are part of the format on disk: see
 * docs/format.md.
 */
export interface Note {
  /** The event whose outputs are being carried out. */
  readonly position?: number;
  /** So many outputs of that event are carried out, not all; scheduling and cancelling together count as the first one. */
  readonly outputsDone?: number;
  /** Every event up to this position is handled, with all its outputs. */
  readonly handled?: number;
  /** Position of an event whose reaction has failed. It counts as handled, and no process reacts to it. */
  readonly skipped?: number;
  /** Sequence of the note with the handlers that `position` or `handled` speaks of. */
  readonly handlersNote?: number;
  /** All handlers of one version of the manager, written when this version first runs. */
  readonly handlers?: readonly NamedHandler[];
  /** Beside `handlers`: compactions up to this position count for them. Later ones count once all of the handlers are past them. */
  readonly horizon?: number;
  /** Commands that were scheduled. */
  readonly scheduled?: readonly ScheduledCommand[];
  /** Identities of scheduled commands that were cancelled or replaced. */
  readonly cancelled?: readonly string[];
  /** Identity of the scheduled command that was sent. */
  readonly fired?: string;
  /** In the manager's first note: keys of dead letters that were there before it. Their commands are not sent again. */
  readonly deadLetters?: readonly string[];
  /** The checkpoint of the Rust crate from which the manager continues. */
  readonly adopted?: AdoptedCheckpoint;
}

/** A checkpoint of the Rust crate. It is kept in the log, because the log alone tells what is handled. */
export interface AdoptedCheckpoint {
  readonly state: unknown;
  /** How many events of each stream it has reacted to. */
  readonly versions: readonly (readonly [stream: string, version: number])[];
}
