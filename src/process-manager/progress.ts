import type { ConsumerNote, StoredEvent } from "../event-store/event-store.ts";
import type { LogCursor } from "../projection/log-cursor.ts";
import type { ScheduledCommands } from "./scheduled-commands.ts";
import type { ScheduledCommand, Outputs } from "./reaction.ts";

/**
 * What a process manager notes in the log, in the same commit as the effects. These keys are part of the format on disk: see
 * docs/format.md.
 */
export interface Note {
  /** The event whose outputs are being carried out. */
  readonly position?: number;
  /** So many outputs of that event are carried out; scheduling and cancelling together count as the first one. */
  readonly outputsDone?: number;
  /** Commands that were scheduled. */
  readonly scheduled?: readonly ScheduledCommand[];
  /** Identities of scheduled commands that were cancelled or replaced. */
  readonly cancelled?: readonly string[];
  /** Identity of the scheduled command that was sent. */
  readonly fired?: string;
  /** The checkpoint of the Rust crate from which the manager continues. */
  readonly adopted?: AdoptedCheckpoint;
}

/** A checkpoint of the Rust crate. It is kept in the log, because our checkpoint replaces its file. */
export interface AdoptedCheckpoint {
  readonly state: unknown;
  /** How many events of each stream it has reacted to. */
  readonly versions: readonly (readonly [stream: string, version: number])[];
}

/** The state of a checkpoint. */
export interface ManagerCheckpoint {
  readonly state: unknown;
  readonly sequence: number;
  readonly scheduled: readonly ScheduledCommand[];
  /** `versions` of the adopted checkpoint. */
  readonly adoptedVersions: AdoptedCheckpoint["versions"];
  /** Every event up to this position is handled, including those without a handler at that time. */
  readonly handled: number;
}

/** A manager after the last event that is handled completely. */
export interface Progress {
  state: unknown;
  readonly cursor: LogCursor;
  /** Sequence of the last note that is applied. */
  sequence: number;
  /** How many outputs of the next event are carried out already. */
  done: number;
  /** What the manager made of that event: it is asked once, since it may change its state. */
  reacted: { readonly position: number; readonly outputs: Outputs } | undefined;
  readonly scheduled: ScheduledCommands;
  readonly versions: ReadonlyMap<string, number>;
}

/** Scheduling and cancelling together are one step, which is carried out first: 1 if there is something to schedule or cancel, else 0. */
export function schedulingSteps({ schedule, cancel }: Outputs): number {
  return schedule.length > 0 || cancel.length > 0 ? 1 : 0;
}

/** Moves on after an event whose outputs are all carried out. */
export function completeEvent(progress: Progress, event: StoredEvent, state: unknown): void {
  progress.state = state;
  progress.cursor.pass(event);
  progress.done = 0;
  progress.reacted = undefined;
}

/** Applies a note that is in the log. */
export function applyNote(progress: Progress, { sequence, note }: ConsumerNote): void {
  const { scheduled = [], cancelled = [], fired, outputsDone } = note as Note;
  for (const id of cancelled) progress.scheduled.remove(id);
  for (const command of scheduled) progress.scheduled.schedule(command);
  if (fired !== undefined) progress.scheduled.remove(fired);
  if (outputsDone !== undefined) progress.done = outputsDone;
  progress.sequence = sequence;
}
