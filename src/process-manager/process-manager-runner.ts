import type { CommandEnvelope } from "../aggregate/messages.ts";
import { isEventfoldError } from "../errors.ts";
import type { EventStore, StoredDeadLetter, StoredEvent } from "../event-store/event-store.ts";
import { tracedCommit } from "../event-store/traced-commit.ts";
import { ChangedHistoryError } from "../projection/log-cursor.ts";
import { addressOf, openLetter, type ReplayOptions, replayOf, unreadableLetter } from "./dead-letter.ts";
import { type CommandTargets, deliver, type Delivery, type StepNote, waitingLetter } from "./dispatcher.ts";
import { deliverByPolicy, type RunnerParts } from "./deliver-by-policy.ts";
import { KeptProgress } from "./kept-progress.ts";
import type { UnknownEvents } from "../projection/unknown-events.ts";
import type { ProcessManagerDefinition } from "./process-manager.ts";
import type { Note } from "./note.ts";
import {
  applyNote,
  completeEvent,
  lateCancellation,
  type Progress,
  reactTo,
  schedulingNote,
  schedulingSteps,
} from "./progress.ts";
import { causeOf, failedReaction, identityOf, type Outputs, type ScheduledCommand } from "./reaction.ts";
import { reactByPolicy } from "./react-by-policy.ts";
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

type Counts = { -readonly [K in keyof ProcessManagerReport]: number };

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
  readonly #parts: RunnerParts;
  readonly #unknown: UnknownEvents;
  readonly #reactions: Reactions;
  readonly #kept: KeptProgress;
  #turn: Promise<unknown> = Promise.resolve();
  readonly #unwatch: (() => void) | undefined;

  constructor(
    definition: ProcessManagerDefinition,
    events: EventStore,
    targets: CommandTargets,
    parts: RunnerParts,
    unknown: UnknownEvents,
  ) {
    this.#unknown = unknown;
    this.name = definition.name;
    this.#definition = definition;
    this.#events = events;
    this.#targets = targets;
    this.#parts = parts;
    this.#reactions = new Reactions(definition);
    this.#kept = new KeptProgress(definition, events, this.#reactions);
    // Its state may say more than the events still do.
    this.#unwatch = events.watchEra?.(() => this.#kept.forget());
  }

  /** Time of the next scheduled command; `Infinity` if there is none. */
  get nextDue(): number {
    return this.#kept.current?.scheduled.nextDue ?? Infinity;
  }

  /** Position up to which this process knows that everything is handled; `undefined` before the first run and after a failed reaction. */
  get position(): number | undefined {
    const cursor = this.#kept.current?.cursor;
    return cursor?.isVerified === true ? cursor.position : undefined;
  }

  /** Whether events were handled that caused nothing and that no note has. */
  get hasUnnoted(): boolean {
    return this.#kept.current?.quiet !== undefined;
  }

  /** How far it is, with its scheduled commands: as far as this process knows, or else according to the log. */
  async status(): Promise<{ readonly position: number; readonly scheduled: readonly ScheduledCommand[] }> {
    const { cursor, handlers, scheduled } = this.#kept.current ?? (await this.#kept.loader.peek());
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
        await this.#kept.synchronised();
      } catch (error) {
        if (!isEventfoldError(error, "UNTRUSTED_CHECKPOINT")) throw error;
      }
    });
  }

  /** Notes that the events that caused nothing are handled, so that other code does not react to them; with `always`, also if there are none. */
  noteHandled(always = false): Promise<void> {
    return this.#exclusively(async () => {
      const progress = this.#kept.current;
      if (progress !== undefined && !(await this.#noteHandled(always))) await this.#kept.superseded(progress);
    });
  }

  /**
   * Sends the command of a dead letter once more, with the same identity. The commit of its events removes the letter. With order, the
   * commands that wait for it follow.
   */
  replay(key: string, options: ReplayOptions = {}): Promise<void> {
    return this.#settle(key, async (letter, note) => {
      await this.#kept.letters?.checkFirst(key, note.expectedSequence);
      const delivery = { manager: this.name, identity: key, ...replayOf(letter, options) };
      const { targets: allowed } = this.#definition;
      const parts = { targets: this.#targets, allowed, events: this.#events, now: this.#parts.now };
      return (await deliver(parts, delivery, note, "throw")).kind === "dispatched";
    });
  }

  /** Removes a dead letter without trying it. */
  drop(key: string): Promise<void> {
    return this.#settle(key, async (_, note) => (await tracedCommit(this.#events, { appends: [], consumer: note })).ok);
  }

  /** Settles a letter by work that commits a note; again if another process has come first. */
  #settle(key: string, work: (letter: StoredDeadLetter, note: StepNote) => Promise<boolean>): Promise<void> {
    return this.#exclusively(async () => {
      for (let isSettled = false; !isSettled;) {
        const { era } = this.#events;
        const letter = await openLetter(this.#events, this.name, key);
        const expectedSequence = await this.#kept.sequence();
        isSettled = await work(letter, { name: this.name, expectedSequence, note: {}, settledLetters: [key], era });
        const progress = this.#kept.current;
        if (!isSettled && progress !== undefined) await this.#kept.superseded(progress);
        if (!isSettled || progress?.sequence !== expectedSequence) continue;
        applyNote(progress, { sequence: expectedSequence + 1, note: {} });
        this.#kept.letters?.noted(expectedSequence + 1, key);
      }
      if (this.#kept.letters === undefined) return;
      try {
        const report = { dispatched: 0, deadLettered: 0 };
        while (!(await this.#sendWaiting(await this.#kept.noted(), report, () => false)));
      } catch (error) {
        // The letter itself is settled. The next run goes on with what waited for it.
        this.#parts.onError(error);
      }
    });
  }

  close(): Promise<void> {
    return this.#exclusively(async () => {
      try {
        await this.#noteHandled();
        if (this.#kept.current !== undefined) await this.#kept.loader.save(this.#kept.current);
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
    const progress = await this.#kept.synchronised();
    if (!(await this.#sendWaiting(progress, report, stopped))) return this.#kept.superseded(progress);
    await this.#unknown.check(this.#reactions.wanted, await this.#events.head());
    try {
      for await (const batch of progress.cursor.read()) {
        for (const event of batch) {
          if (stopped()) return true;
          if (this.#events.era !== progress.era) return false;
          const outputs = this.#isGuarded ? await this.#reactGuarded(progress, event) : this.#react(progress, event);
          if (outputs === "skipped" || outputs === "spoilt") {
            if (!(await this.#skip(progress, event, outputs))) return await this.#kept.superseded(progress);
            if (outputs === "spoilt") return false;
            continue;
          }
          progress.forgotten?.take(event, outputs);
          if (!(await this.#carryOut(progress, event, outputs, report))) return await this.#kept.superseded(progress);
          completeEvent(progress, event, outputs.state);
          if ((progress.quiet?.count ?? 0) >= NOTE_EVERY_EVENTS && !(await this.#noteHandled()))
            return await this.#kept.superseded(progress);
        }
        if (progress.cursor.position - this.#kept.loader.saved >= SAVE_EVERY_EVENTS)
          await this.#kept.loader.save(progress);
      }
    } catch (error) {
      if (!(error instanceof ChangedHistoryError)) throw error;
      // From the beginning on, the log says what the manager needs. If that is gone, nothing else can be done.
      if (error.reclaimed !== undefined && this.#kept.isFresh) throw error.reclaimed;
      this.#kept.discardCheckpoint();
      return false;
    }
    this.#kept.isFresh = false;
    if (progress.forgotten !== undefined) {
      const { note, deadLetters } = progress.forgotten.restored(this.#parts.now());
      if (!(await this.#kept.commitNote(progress, note, undefined, deadLetters)))
        return this.#kept.superseded(progress);
      progress.forgotten = undefined;
    }
    const due = progress.scheduled.due(this.#parts.now());
    for (const command of due) {
      if (stopped()) return true;
      const { id, envelope, cause } = command;
      const delivery = { manager: this.name, identity: id, envelope, cause };
      if (!(await this.#deliver(progress, delivery, { fired: id }, report))) return this.#kept.superseded(progress);
    }
    // The commands that were just dispatched may have caused more.
    return due.length === 0 && (await this.#events.head()) <= progress.cursor.position;
  }

  /** Carries out what is left of an event's outputs. False when another process has come first. */
  async #carryOut(progress: Progress, event: StoredEvent, outputs: Outputs, report: Counts): Promise<boolean> {
    const { position } = event;
    const done = progress.handlers.outputsDone(event);
    if (done === Infinity) {
      const late = lateCancellation(progress, event, outputs);
      return late === undefined || this.#kept.commitNote(progress, late);
    }
    const { commands } = outputs;
    const steps = schedulingSteps(outputs);
    const noteOf = (count: number): Note => ({
      ...(count === steps + commands.length ? { handled: position } : { position, outputsDone: count }),
      ...this.#kept.attribution,
    });
    // The schedule comes first: it must not be lost when a command cannot be delivered for a while.
    if (steps > 0 && done === 0) {
      const note = { ...noteOf(1), ...schedulingNote(progress, event, outputs) };
      if (!(await this.#kept.commitNote(progress, note, causeOf(event).eventId))) return false;
    }
    for (let index = Math.max(0, done - steps); index < commands.length; index++) {
      const envelope = commands[index] as CommandEnvelope;
      const cause = causeOf(event);
      const delivery = { manager: this.name, identity: identityOf(this.name, cause, index), envelope, cause };
      if (!(await this.#deliver(progress, delivery, noteOf(steps + index + 1), report))) return false;
    }
    return true;
  }

  async #deliver(progress: Progress, delivery: Delivery, note: Note, report: Counts): Promise<boolean> {
    if (progress.earlierDeadLetters.has(delivery.identity)) return this.#kept.commitNote(progress, note);
    const before = await this.#kept.letters?.before(delivery.cause, progress.sequence);
    const place = this.#kept.letters && progress.sequence + 1;
    if (before === undefined) return this.#carry(progress, { ...delivery, place }, { note }, report);
    const waiting: Delivery = { ...delivery, place, waits: true };
    const letter = waitingLetter(waiting, before, this.#parts.now());
    if (!(await this.#kept.commitNote(progress, note, delivery.cause?.eventId, [letter]))) return false;
    this.#kept.letters?.noted(progress.sequence, undefined, waiting);
    report.deadLettered++;
    return true;
  }

  /** Sends the commands that waited for a dead letter which is gone. False when another process has come first. */
  async #sendWaiting(progress: Progress, report: Counts, stopped: () => boolean): Promise<boolean> {
    while (!stopped()) {
      const next = await this.#kept.letters?.next(progress.sequence);
      if (next === undefined) return true;
      const { key, place } = next;
      const letter = await this.#events.deadLetter(this.name, key);
      if (letter === undefined) return false;
      const unreadable = unreadableLetter(letter);
      if (unreadable !== undefined) {
        if (!(await this.#kept.commitNote(progress, {}, undefined, [unreadable]))) return false;
        continue;
      }
      const delivery = { manager: this.name, identity: key, place, ...addressOf(letter) };
      if (!(await this.#carry(progress, delivery, { note: {}, settledLetters: [key] }, report))) return false;
    }
    return true;
  }

  /** Sends a command as the policy says. False when another process has come first. */
  async #carry(
    progress: Progress,
    delivery: Delivery,
    note: Pick<StepNote, "note" | "settledLetters">,
    report: Counts,
  ): Promise<boolean> {
    const { sequence: expectedSequence, era } = progress;
    const consumer = { name: this.name, expectedSequence, ...note, era };
    const { targets: allowed, onCommandError } = this.#definition;
    const parts = { ...this.#parts, targets: this.#targets, allowed, events: this.#events };
    const result = await deliverByPolicy(parts, delivery, consumer, onCommandError);
    if (result.kind === "superseded") return false;
    const sequence = consumer.expectedSequence + 1;
    applyNote(progress, { sequence, note: note.note });
    this.#kept.letters?.noted(sequence, note.settledLetters?.[0], result.kind === "dead-letter" ? delivery : undefined);
    if (result.kind === "dispatched") report.dispatched++;
    else if (result.kind === "dead-letter") report.deadLettered++;
    return true;
  }

  /** False when another process has come first. */
  async #noteHandled(always = false): Promise<boolean> {
    const progress = this.#kept.current;
    const reached = always ? this.position : progress?.quiet && progress.cursor.position;
    if (progress === undefined || reached === undefined) return true;
    const { handlers, quiet } = progress;
    const { handlersNote } = this.#kept.attribution;
    const isNoted =
      always || quiet === undefined
        ? handlersNote === undefined || handlers.horizonOf(handlersNote) >= reached
        : handlers.outputsDone(quiet.event) === Infinity;
    const note = { handled: reached, ...this.#kept.attribution };
    if (!isNoted && !(await this.#kept.commitNote(progress, note))) return false;
    progress.quiet = undefined;
    return true;
  }

  /** Whether a reaction that fails does not stop the manager at once. */
  get #isGuarded(): boolean {
    const { attempts, end } = this.#definition.onReactionError;
    return attempts > 1 || end !== "stop";
  }

  async #reactGuarded(progress: Progress, event: StoredEvent): Promise<Outputs | "skipped" | "spoilt"> {
    const react = (): Outputs => this.#react(progress, event);
    // Most events are none that it reacts to.
    if (!this.#reactions.has(event)) return react();
    try {
      return await reactByPolicy(progress, this.#definition.onReactionError, react, this.#parts);
    } catch (error) {
      this.#kept.forget();
      throw error;
    }
  }

  /** Passes an event whose reaction fails. False when another process has come first. */
  async #skip(progress: Progress, event: StoredEvent, how: "skipped" | "spoilt"): Promise<boolean> {
    const { position } = event;
    // What other code has handled stays so; this code makes no state of it.
    const isHandled = progress.handlers.outputsDone(event) === Infinity;
    const note = { handled: position, skipped: position, ...this.#kept.attribution };
    if (how === "spoilt" || !isHandled)
      if (!(await this.#kept.commitNote(progress, note, causeOf(event).eventId))) return false;
    if (how === "spoilt") this.#kept.forget();
    else completeEvent(progress, event, progress.state);
    return true;
  }

  #react(progress: Progress, event: StoredEvent): Outputs {
    try {
      return reactTo(this.name, this.#reactions, progress, event);
    } catch (error) {
      // It may have changed half of its state: the next run finds it again.
      if (!this.#isGuarded) this.#kept.forget();
      throw failedReaction(this.name, event, error);
    }
  }
}
