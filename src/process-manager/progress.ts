import type { ConsumerNote, StoredEvent } from "../event-store/event-store.ts";
import type { LogCursor } from "../projection/log-cursor.ts";
import type { Appointments } from "./appointments.ts";
import type { Appointment, Outputs } from "./reaction.ts";

/**
 * What a manager notes in the log, beside the effects: it has carried out `done` of the outputs of the event at `position`,
 * has made and cancelled appointments, has kept one, or goes on from a checkpoint of the original.
 */
export interface Note {
  readonly position?: number;
  readonly done?: number;
  readonly made?: readonly Appointment[];
  readonly cancelled?: readonly string[];
  readonly kept?: string;
  readonly continued?: Continued;
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
  readonly appointments: readonly Appointment[];
  readonly versions: Continued["versions"];
  /** Position up to which everything was dealt with, events included that the code of then did not react to. */
  readonly dealtWith: number;
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
  const { made = [], cancelled = [], kept, done } = note as Note;
  for (const id of cancelled) progress.appointments.delete(id);
  for (const appointment of made) progress.appointments.add(appointment);
  if (kept !== undefined) progress.appointments.delete(kept);
  if (done !== undefined) progress.done = done;
  progress.sequence = sequence;
}
