import type { ConsumerNote, StoredEvent } from "../event-store/event-store.ts";
import type { LogCursor } from "../projection/log-cursor.ts";
import type { Appointments } from "./appointments.ts";
import type { Appointment, Outputs } from "./reaction.ts";

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
  readonly scheduled?: readonly Appointment[];
  /** Identities of scheduled commands that were cancelled or replaced. */
  readonly cancelled?: readonly string[];
  /** Identity of the scheduled command that was sent. */
  readonly fired?: string;
  /** The checkpoint of the Rust crate from which the manager continues. */
  readonly adopted?: Continued;
}

/** What the original has left: it must outlive its checkpoint, which ours replaces. */
export interface Continued {
  readonly state: unknown;
  /** How many events of each stream it has reacted to. */
  readonly versions: readonly (readonly [stream: string, version: number])[];
}

/** What a checkpoint keeps. */
export interface Kept {
  readonly state: unknown;
  readonly sequence: number;
  readonly scheduled: readonly Appointment[];
  /** `versions` of the adopted checkpoint. */
  readonly adoptedVersions: Continued["versions"];
  /** Every event up to this position is handled, including those without a handler at that time. */
  readonly handled: number;
}

/** State behind the last event that is dealt with completely. */
export interface Progress {
  state: unknown;
  readonly cursor: LogCursor;
  /** Of the last note that it takes into account. */
  sequence: number;
  /** Outputs of the event behind the cursor that are carried out already. */
  done: number;
  /** What the manager made of that event: it is asked once, since it may change its state. */
  reacted: { readonly position: number; readonly outputs: Outputs } | undefined;
  readonly appointments: Appointments;
  readonly versions: ReadonlyMap<string, number>;
}

/** Whether there are appointments to make or cancel: one step, carried out first. */
export function plansOf({ schedule, cancel }: Outputs): number {
  return schedule.length > 0 || cancel.length > 0 ? 1 : 0;
}

export function complete(progress: Progress, event: StoredEvent, state: unknown): void {
  progress.state = state;
  progress.cursor.pass(event);
  progress.done = 0;
  progress.reacted = undefined;
}

export function take(progress: Progress, { sequence, note }: ConsumerNote): void {
  const { scheduled = [], cancelled = [], fired, outputsDone } = note as Note;
  for (const id of cancelled) progress.appointments.delete(id);
  for (const appointment of scheduled) progress.appointments.add(appointment);
  if (fired !== undefined) progress.appointments.delete(fired);
  if (outputsDone !== undefined) progress.done = outputsDone;
  progress.sequence = sequence;
}
