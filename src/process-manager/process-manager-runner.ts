import type { CommandEnvelope } from "../aggregate/messages.ts";
import { isEventfoldError } from "../errors.ts";
import type { ConsumerAppend, EventStore, StoredEvent } from "../event-store/event-store.ts";
import { refreshBeforeReading } from "../event-store/freshness.ts";
import { tracedCommit } from "../event-store/traced-commit.ts";
import { ChangedHistoryError } from "../projection/log-cursor.ts";
import { addressOf, openLetter } from "./dead-letter.ts";
import { type CommandTargets, deliver, type Delivery, type DeliveryResult, type StepNote } from "./dispatcher.ts";
import { ForgottenCommands } from "./forgotten-commands.ts";
import type { UnknownEvents } from "../projection/unknown-events.ts";
import { ProgressLoader } from "./progress-loader.ts";
import type { ProcessManagerDefinition } from "./process-manager.ts";
import type { Note } from "./note.ts";
import { applyNote, completeEvent, type Progress, reactTo, schedulingSteps } from "./progress.ts";
import { causeOf, failedReaction, identityOf, keysOf, type Outputs, type ScheduledCommand } from "./reaction.ts";
import { Reactions } from "./reactions.ts";

const SAVE_EVERY_EVENTS = 1000;
/** After so many events that caused nothing, a note says that they are handled. */
const NOTE_EVERY_EVENTS = 1000;

/** What one run did. */
export interface ProcessManagerReport {
  /** Commands that were delivered, scheduled ones included. */
  readonly dispatched: number;
  readonly deadLettered: number;
}

interface Counts {
  dispatched: number;
  deadLettered: number;
}

/**
 * Runs one process manager: reads events in order, lets the manager react, and carries out each output in a commit that also
 * notes it. The notes alone tell what is handled. What they have is never done again: the manager reacts to those events only
 * to find its state, and the outputs are discarded.
 */
export class ProcessManagerRunner {
  readonly name: string;
  readonly #definition: ProcessManagerDefinition;
  readonly #events: EventStore;
  readonly #targets: CommandTargets;
  readonly #now: () => number;
  readonly #unknown: UnknownEvents;
  readonly #reactions: Reactions;
  readonly #loader: ProgressLoader;
  #progress: Progress | undefined;
  /** Sequence of the note with the present handlers. */
  #handlersNote: number | undefined;
  #saved = 0;
  /** It has begun with the first event, and not come to the last one yet. */
  #isFresh = false;
  #turn: Promise<unknown> = Promise.resolve();
  readonly #unwatch: (() => void) | undefined;

  constructor(
    definition: ProcessManagerDefinition,
    events: EventStore,
    targets: CommandTargets,
    now: () => number,
    unknown: UnknownEvents,
  ) {
    this.#unknown = unknown;
    this.name = definition.name;
    this.#definition = definition;
    this.#events = events;
    this.#targets = targets;
    this.#now = now;
    this.#reactions = new Reactions(definition);
    this.#loader = new ProgressLoader(definition, events, this.#reactions);
    // Its state may say more than the events still do.
    this.#unwatch = events.watchEra?.(() => (this.#progress = undefined));
  }

  /** Time of the next scheduled command; `Infinity` if there is none. */
  get nextDue(): number {
    return this.#progress?.scheduled.nextDue ?? Infinity;
  }

  /** Position up to which this process knows that everything is handled; `undefined` before the first run and after a failed reaction. */
  get position(): number | undefined {
    const cursor = this.#progress?.cursor;
    return cursor?.isVerified === true ? cursor.position : undefined;
  }

  /** Whether events were handled that caused nothing and that no note has. */
  get hasUnnoted(): boolean {
    return this.#progress?.quiet !== undefined;
  }

  /** How far it is, with its scheduled commands: as far as this process knows, or else according to the log. */
  async status(): Promise<{ readonly position: number; readonly scheduled: readonly ScheduledCommand[] }> {
    const { cursor, handlers, scheduled } = this.#progress ?? (await this.#loader.peek());
    return { position: Math.max(cursor.position, handlers.handled), scheduled: scheduled.all };
  }

  /** Handles all events and due scheduled commands that there are. A failure that may pass is thrown; the next run continues there. */
  run(stopped: () => boolean): Promise<ProcessManagerReport> {
    return this.#exclusively(async () => {
      const report = { dispatched: 0, deadLettered: 0 };
      let finished = false;
      while (!finished && !stopped()) finished = await this.#runOnce(report, stopped);
      return report;
    });
  }

  /** Fixes in the log from where new handlers count, unless it is there. What stops the manager alone is left to its runs. */
  begin(): Promise<void> {
    return this.#exclusively(async () => {
      try {
        await this.#synchronised();
      } catch (error) {
        if (!isEventfoldError(error, "UNTRUSTED_CHECKPOINT")) throw error;
      }
    });
  }

  /** Notes that the events that caused nothing are handled, so that other code does not react to them. */
  noteHandled(): Promise<void> {
    return this.#exclusively(async () => {
      const progress = this.#progress;
      if (progress !== undefined && !(await this.#noteHandled())) await this.#superseded(progress);
    });
  }

  /** Sends the command of a dead letter once more, with the same identity. The commit of its events removes the letter. */
  replay(key: string): Promise<void> {
    return this.#exclusively(async () => {
      for (;;) {
        const { era } = this.#events;
        const { envelope, cause } = addressOf(await openLetter(this.#events, this.name, key));
        const delivery = { manager: this.name, identity: key, envelope, cause };
        const expectedSequence = await this.#sequence();
        const note = { name: this.name, expectedSequence, note: {}, settledLetters: [key], era };
        const result = await this.#send(delivery, note, "throw");
        if (await this.#isSettled(note, result.kind === "dispatched")) return;
      }
    });
  }

  /** Removes a dead letter without trying it. */
  drop(key: string): Promise<void> {
    return this.#exclusively(async () => {
      for (;;) {
        await openLetter(this.#events, this.name, key);
        const note = { name: this.name, expectedSequence: await this.#sequence(), note: {}, settledLetters: [key] };
        const { ok } = await tracedCommit(this.#events, { appends: [], consumer: note });
        if (await this.#isSettled(note, ok)) return;
      }
    });
  }

  /** Takes note of a settled letter. False when another process has come first. */
  async #isSettled({ expectedSequence, note }: StepNote, isWritten: boolean): Promise<boolean> {
    const progress = this.#progress;
    if (progress !== undefined && !isWritten) return this.#superseded(progress);
    if (progress?.sequence === expectedSequence) applyNote(progress, { sequence: expectedSequence + 1, note });
    return isWritten;
  }

  close(): Promise<void> {
    return this.#exclusively(async () => {
      try {
        await this.#noteHandled();
        await this.#saveCheckpoint();
      } catch {
        // The next opening reads more, and lets the code of that time react to what has no note.
      }
      this.#unwatch?.();
    });
  }

  /** One piece of work after the other: each relies on the sequence of the last note. */
  #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    return done;
  }

  /** True when there is nothing left to do. */
  async #runOnce(report: Counts, stopped: () => boolean): Promise<boolean> {
    const progress = await this.#synchronised();
    await this.#unknown.check(this.#reactions.wanted, await this.#events.head());
    try {
      for await (const batch of progress.cursor.read()) {
        for (const event of batch) {
          if (stopped()) return true;
          if (this.#events.era !== progress.era) return false;
          const outputs = this.#react(progress, event);
          progress.forgotten?.take(event, outputs);
          if (!(await this.#carryOut(progress, event, outputs, report))) return await this.#superseded(progress);
          completeEvent(progress, event, outputs.state);
          if ((progress.quiet?.count ?? 0) >= NOTE_EVERY_EVENTS && !(await this.#noteHandled()))
            return await this.#superseded(progress);
        }
        if (progress.cursor.position - this.#saved >= SAVE_EVERY_EVENTS) await this.#saveCheckpoint();
      }
    } catch (error) {
      if (!(error instanceof ChangedHistoryError)) throw error;
      // From the beginning on, the log says what the manager needs. If that is gone, nothing else can be done.
      if (error.reclaimed !== undefined && this.#isFresh) throw error.reclaimed;
      this.#discardCheckpoint();
      return false;
    }
    this.#isFresh = false;
    if (progress.forgotten !== undefined) {
      const { note, deadLetters } = progress.forgotten.restored(this.#now());
      if (!(await this.#commitNote(progress, note, undefined, { deadLetters }))) return this.#superseded(progress);
      progress.forgotten = undefined;
    }
    const due = progress.scheduled.due(this.#now());
    for (const command of due) {
      if (stopped()) return true;
      const { id, envelope, cause } = command;
      const delivery = { manager: this.name, identity: id, envelope, cause };
      if (!(await this.#deliver(progress, delivery, { fired: id }, report))) return this.#superseded(progress);
    }
    // The commands that were just dispatched may have caused more.
    return due.length === 0 && (await this.#events.head()) <= progress.cursor.position;
  }

  /** Carries out what is left of an event's outputs. False when another process has come first. */
  async #carryOut(progress: Progress, event: StoredEvent, outputs: Outputs, report: Counts): Promise<boolean> {
    const { position } = event;
    const done = progress.handlers.outputsDone(event);
    if (done === Infinity) return this.#cancelLate(progress, event, outputs);
    const { commands, schedule } = outputs;
    const steps = schedulingSteps(outputs);
    const noteOf = (count: number): Note => ({
      ...(count === steps + commands.length ? { handled: position } : { position, outputsDone: count }),
      ...this.#attribution,
    });
    // The schedule comes first: it must not be lost when a command cannot be delivered for a while.
    if (steps > 0 && done === 0) {
      const cancelled = progress.scheduled.withKeys(keysOf(outputs), position).map(({ id }) => id);
      const isLate = progress.handlers.isPast(position);
      const scheduled = isLate ? schedule.map((command) => ({ ...command, late: true as const })) : schedule;
      if (!(await this.#commitNote(progress, { ...noteOf(1), scheduled, cancelled }, causeOf(event).eventId)))
        return false;
    }
    for (let index = Math.max(0, done - steps); index < commands.length; index++) {
      const envelope = commands[index] as CommandEnvelope;
      const cause = causeOf(event);
      const delivery = { manager: this.name, identity: identityOf(this.name, cause, index), envelope, cause };
      if (!(await this.#deliver(progress, delivery, noteOf(steps + index + 1), report))) return false;
    }
    return true;
  }

  /**
   * A handler that is past an event has cancelled and replaced what was scheduled then. What a handler that catches up has scheduled
   * since, for an earlier event, was not there yet.
   */
  async #cancelLate(progress: Progress, { position }: StoredEvent, outputs: Outputs): Promise<boolean> {
    const late = progress.scheduled.withKeys(keysOf(outputs), position).filter((command) => command.late === true);
    return late.length === 0 || this.#commitNote(progress, { cancelled: late.map(({ id }) => id) });
  }

  async #deliver(progress: Progress, delivery: Delivery, note: Note, report: Counts): Promise<boolean> {
    if (progress.earlierDeadLetters.has(delivery.identity)) return this.#commitNote(progress, note);
    const consumer = { name: this.name, expectedSequence: progress.sequence, note, era: progress.era };
    const result = await this.#send(delivery, consumer, "dead-letter");
    if (result.kind === "superseded") return false;
    applyNote(progress, { sequence: consumer.expectedSequence + 1, note });
    if (result.kind === "dispatched") report.dispatched++;
    else report.deadLettered++;
    return true;
  }

  #send(delivery: Delivery, note: StepNote, onFailure: "dead-letter" | "throw"): Promise<DeliveryResult> {
    const { targets } = this.#definition;
    return deliver(
      { targets: this.#targets, allowed: targets, events: this.#events, now: this.#now },
      delivery,
      note,
      onFailure,
    );
  }

  /** False when another process has come first. */
  async #noteHandled(): Promise<boolean> {
    const progress = this.#progress;
    if (progress?.quiet === undefined) return true;
    const isNoted = progress.handlers.outputsDone(progress.quiet.event) === Infinity;
    const note = { handled: progress.cursor.position, ...this.#attribution };
    if (!isNoted && !(await this.#commitNote(progress, note))) return false;
    progress.quiet = undefined;
    return true;
  }

  get #attribution(): Pick<Note, "handlersNote"> {
    return this.#handlersNote === undefined ? {} : { handlersNote: this.#handlersNote };
  }

  /** Writes a note that has no command beside it. */
  async #commitNote(
    progress: Progress,
    note: Note,
    causeId?: string,
    letters: Pick<ConsumerAppend, "deadLetters"> = {},
  ): Promise<boolean> {
    const { sequence: expectedSequence, era } = progress;
    const consumer = { name: this.name, expectedSequence, note, ...letters, era };
    const { ok } = await tracedCommit(this.#events, { appends: [], consumer }, undefined, causeId);
    if (ok) applyNote(progress, { sequence: expectedSequence + 1, note });
    return ok;
  }

  /** Another process has made this progress: its notes are read before this one continues. */
  async #superseded(progress: Progress): Promise<false> {
    await refreshBeforeReading(this.#events);
    const notes = await this.#events.consumerNotes(this.name, progress.sequence);
    if (notes.length === 0) {
      // It was not another process: the checkpoint counts on notes that the log does not have.
      this.#discardCheckpoint();
    }
    return false;
  }

  #react(progress: Progress, event: StoredEvent): Outputs {
    try {
      return reactTo(this.name, this.#reactions, progress, event);
    } catch (error) {
      // It may have changed half of its state: the next run finds it again.
      this.#progress = undefined;
      throw failedReaction(this.name, event, error);
    }
  }

  /** Sequence of the last note, of any process. */
  async #sequence(): Promise<number> {
    await refreshBeforeReading(this.#events);
    try {
      return (await this.#noted()).sequence;
    } catch (error) {
      if (!isEventfoldError(error, "UNTRUSTED_CHECKPOINT")) throw error;
      return (await this.#events.consumerNotes(this.name, 0)).at(-1)?.sequence ?? 0;
    }
  }

  /** Progress with every note so far, of any process. */
  async #noted(): Promise<Progress> {
    for (;;) {
      const progress = (this.#progress ??= await this.#load());
      for (const note of await this.#events.consumerNotes(this.name, progress.sequence)) applyNote(progress, note);
      if (progress.era === this.#events.era) {
        // Those that are forgotten are made again from all events.
        if (progress.cursor.position === 0)
          progress.forgotten ??= await ForgottenCommands.find(this.#events, this.name, progress.scheduled);
        else if (progress.era !== undefined && progress.forgotten === undefined && progress.scheduled.hasForgotten)
          this.#discardCheckpoint();
        if (this.#progress === progress) return progress;
      }
      this.#progress = undefined;
    }
  }

  /** The same. The log has the manager's handlers. */
  async #synchronised(): Promise<Progress> {
    await refreshBeforeReading(this.#events);
    for (;;) {
      const progress = await this.#noted();
      const { names } = this.#reactions;
      this.#handlersNote = progress.handlers.noteWith(names);
      if (this.#handlersNote !== undefined || names.length === 0) {
        if (this.#handlersNote !== undefined) progress.cursor.begin(progress.handlers.horizonOf(this.#handlersNote));
        return progress;
      }
      const note = await this.#loader.handlersNote(progress, names);
      if (!(await this.#commitNote(progress, note))) await this.#superseded(progress);
    }
  }

  async #load(): Promise<Progress> {
    const { progress, saved } = await this.#loader.load();
    this.#saved = saved;
    return progress;
  }

  /** The checkpoint belongs to another history than the log. */
  #discardCheckpoint(): void {
    this.#isFresh = true;
    this.#progress = undefined;
    this.#loader.ignoreCheckpoint();
  }

  async #saveCheckpoint(): Promise<void> {
    const progress = this.#progress;
    if (progress === undefined || !progress.cursor.isVerified || progress.cursor.position === this.#saved) return;
    // A reaction that is not carried out yet may have changed the state.
    if (progress.reacted !== undefined) return;
    // The checkpoint promises that every note after `sequence` comes after this place in the log. So there must be no unknown note.
    if ((await this.#events.consumerNotes(this.name, progress.sequence)).length > 0) return;
    this.#saved = await this.#loader.save(progress);
  }
}
