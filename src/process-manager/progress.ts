import type { FoldSamples } from "../aggregate/fold-samples.ts";
import type { ConsumerNote, StoredEvent } from "../event-store/event-store.ts";
import type { LogCursor } from "../projection/log-cursor.ts";
import type { AdoptedCheckpoint, Note } from "./note.ts";
import type { ForgottenCommands } from "./forgotten-commands.ts";
import type { HandlerProgress, SavedHandlers } from "./handler-progress.ts";
import { applySchedule, type ScheduledCommands } from "./scheduled-commands.ts";
import { causeOf, keysOf, NO_OUTPUTS, type Outputs, type ScheduledCommand } from "./reaction.ts";
import type { Reactions } from "./reactions.ts";
import { reacting, type ReactTrace } from "../tracing/tracing.ts";

/** The state of a checkpoint. All of it can be made again from the log. */
export interface ManagerCheckpoint extends SavedHandlers {
  readonly state: unknown;
  readonly sequence: number;
  readonly scheduled: readonly ScheduledCommand[];
  /** `versions` of the adopted checkpoint. */
  readonly adoptedVersions: AdoptedCheckpoint["versions"];
  /** As in the manager's first note. */
  readonly deadLetters?: readonly string[];
}

/** A manager after the last event that it has passed. */
export interface Progress {
  state: unknown;
  readonly cursor: LogCursor;
  /** Sequence of the last note that is applied. */
  sequence: number;
  /** What the notes say of the handlers. */
  readonly handlers: HandlerProgress;
  /** What the manager made of the next event: it is asked once, since it may change its state. */
  reacted: { readonly position: number; readonly outputs: Outputs } | undefined;
  readonly scheduled: ScheduledCommands;
  /** Positions of events to which the manager does not react, because that has failed. */
  readonly skipped: Set<number>;
  /** From the adopted checkpoint. */
  readonly versions: ReadonlyMap<string, number>;
  /** How some events were reacted to, to notice changed code. */
  readonly samples: FoldSamples;
  /** Identities of commands that became dead letters before the log lost the notes of it. */
  readonly earlierDeadLetters: Set<string>;
  /** The store's era in which its events were read. */
  readonly era: number | undefined;
  /** What cannot be read any more of what it keeps, if it reacts to all events again. */
  forgotten?: ForgottenCommands | undefined;
  /** The last event that was handled and caused nothing, so that no note has it, and how many there were since the last note. */
  quiet: { readonly event: StoredEvent; readonly count: number } | undefined;
}

/** Scheduling and cancelling together are one step, which is carried out first: 1 if there is something to schedule or cancel, else 0. */
export function schedulingSteps({ schedule, cancel }: Outputs): number {
  return schedule.length > 0 || cancel.length > 0 ? 1 : 0;
}

/** What an event schedules and cancels, in the form of a note. */
export function schedulingNote(progress: Progress, { position }: StoredEvent, outputs: Outputs): Note {
  const cancelled = progress.scheduled.withKeys(keysOf(outputs), position).map(({ id }) => id);
  const { schedule } = outputs;
  const isLate = progress.handlers.isPast(position);
  return { scheduled: isLate ? schedule.map((command) => ({ ...command, late: true as const })) : schedule, cancelled };
}

/**
 * A handler that is past an event has cancelled and replaced what was scheduled then. What a handler that catches up has scheduled
 * since, for an earlier event, was not there yet.
 */
export function lateCancellation(progress: Progress, { position }: StoredEvent, outputs: Outputs): Note | undefined {
  const late = progress.scheduled.withKeys(keysOf(outputs), position).filter((command) => command.late === true);
  return late.length === 0 ? undefined : { cancelled: late.map(({ id }) => id) };
}

/** Moves on after an event whose outputs are all carried out. */
export function completeEvent(progress: Progress, event: StoredEvent, state: unknown): void {
  progress.state = state;
  progress.cursor.pass(event);
  progress.reacted = undefined;
  progress.quiet =
    progress.handlers.outputsDone(event) === Infinity ? undefined : { event, count: (progress.quiet?.count ?? 0) + 1 };
}

/** Applies a note that is in the log. */
export function applyNote(progress: Progress, { sequence, note }: ConsumerNote): void {
  for (const key of (note as Note).deadLetters ?? []) progress.earlierDeadLetters.add(key);
  const { skipped } = note as Note;
  if (skipped !== undefined) progress.skipped.add(skipped);
  applySchedule(progress.scheduled, note as Note);
  progress.handlers.apply(sequence, note as Note);
  progress.sequence = sequence;
}

/** What a manager makes of an event. It is asked once for each event: it may change its state. */
export function reactTo(manager: string, reactions: Reactions, progress: Progress, event: StoredEvent): Outputs {
  const { type, stream, version, position } = event;
  const { type: aggregate, id } = stream;
  if (progress.reacted?.position === position) return progress.reacted.outputs;
  if (
    !reactions.has(event) ||
    progress.skipped.has(position) ||
    version <= (progress.versions.get(`${aggregate}/${id}`) ?? 0) ||
    !progress.handlers.counts(event)
  )
    return { ...NO_OUTPUTS, state: progress.state };
  const begin = (): ReactTrace => ({
    ...{ processManager: manager, aggregate, id, event: type, position },
    eventId: causeOf(event).eventId,
    metadata: event.meta,
    isReplay: progress.handlers.outputsDone(event) === Infinity,
  });
  return reacting.sync(begin, (trace) => {
    const outputs = reactions.outputs(progress.state, event, progress.samples);
    progress.reacted = { position, outputs };
    if (trace !== undefined) trace.commands = outputs.commands.length + outputs.schedule.length;
    return outputs;
  });
}
