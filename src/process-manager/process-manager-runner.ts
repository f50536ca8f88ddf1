import type { CommandEnvelope } from "../aggregate/messages.ts";
import { EventfoldError } from "../errors.ts";
import type { ConsumerNote, EventStore, StoredDeadLetter, StoredEvent } from "../event-store/event-store.ts";
import { refreshBeforeReading } from "../event-store/freshness.ts";
import { tracedCommit } from "../event-store/traced-commit.ts";
import { reacting, type ReactTrace } from "../tracing/tracing.ts";
import { EventSources, initialOf } from "../projection/event-sources.ts";
import { ChangedHistoryError, LogCursor } from "../projection/log-cursor.ts";
import { adoptCheckpoint, findAdopted } from "./adopted-checkpoint.ts";
import { ScheduledCommands } from "./scheduled-commands.ts";
import { addressOf } from "./dead-letter.ts";
import { type CommandTargets, deliver, type Delivery, type DeliveryResult, type StepNote } from "./dispatcher.ts";
import type { ProcessManagerDefinition } from "./process-manager.ts";
import {
  completeEvent,
  type ManagerCheckpoint,
  type Note,
  schedulingSteps,
  type Progress,
  applyNote,
} from "./progress.ts";
import { causeOf, identityOf, type Outputs, outputsOf } from "./reaction.ts";
import { messageOf } from "../realm.ts";

const SAVE_EVERY_EVENTS = 1000;

type React = (state: unknown, event: unknown) => unknown;

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
 * Runs one process manager: reads events in order, lets the manager react, and carries out each output in a commit that
 * also notes it. A noted output is never carried out again. After a restart, the runner finds the state by reacting to the
 * events after the checkpoint once more and discarding the outputs.
 */
export class ProcessManagerRunner {
  readonly name: string;
  readonly #definition: ProcessManagerDefinition;
  readonly #events: EventStore;
  readonly #targets: CommandTargets;
  readonly #now: () => number;
  readonly #sources: EventSources<React>;
  #progress: Progress | undefined;
  #checkpointIsUsable = true;
  /** From the checkpoint of other code: events up to here are handled, whatever the present code would do with them. */
  #handled = 0;
  #saved = 0;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(definition: ProcessManagerDefinition, events: EventStore, targets: CommandTargets, now: () => number) {
    this.name = definition.name;
    this.#definition = definition;
    this.#events = events;
    this.#targets = targets;
    this.#now = now;
    this.#sources = new EventSources<React>(definition);
  }

  /** Time of the next scheduled command; `Infinity` if there is none. */
  get nextDue(): number {
    return this.#progress?.scheduled.nextDue ?? Infinity;
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

  /** Sends the command of a dead letter once more, with the same identity. The commit of its events removes the letter. */
  replay(key: string): Promise<void> {
    return this.#exclusively(async () => {
      for (;;) {
        const { envelope, cause } = addressOf(await this.#findLetter(key));
        const progress = await this.#synchronised();
        const delivery = { manager: this.name, identity: key, envelope, cause };
        const note = { name: this.name, expectedSequence: progress.sequence, note: {}, settledLetters: [key] };
        const result = await this.#send(delivery, note, "throw");
        if (result.kind === "dispatched") {
          progress.sequence = note.expectedSequence + 1;
          return;
        }
        await this.#superseded(progress);
      }
    });
  }

  /** Removes a dead letter without trying it. */
  drop(key: string): Promise<void> {
    return this.#exclusively(async () => {
      for (;;) {
        await this.#findLetter(key);
        const progress = await this.#synchronised();
        if (await this.#commitNote(progress, {}, [key])) return;
        await this.#superseded(progress);
      }
    });
  }

  close(): Promise<void> {
    return this.#exclusively(() =>
      this.#saveCheckpoint().catch(() => {
        // Only a cache: the next opening reads more.
      }),
    );
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
    try {
      for await (const batch of progress.cursor.read()) {
        for (const event of batch) {
          if (stopped()) return true;
          const outputs = this.#react(progress, event);
          if (!(await this.#carryOut(progress, event, outputs, report))) return await this.#superseded(progress);
          completeEvent(progress, event, outputs.state);
        }
        if (progress.cursor.position - this.#saved >= SAVE_EVERY_EVENTS) await this.#saveCheckpoint();
      }
    } catch (error) {
      if (!(error instanceof ChangedHistoryError)) throw error;
      this.#discardCheckpoint();
      return false;
    }
    const due = progress.scheduled.due(this.#now());
    for (const command of due) {
      if (stopped()) return true;
      const { id, envelope, cause } = command;
      const delivery = { manager: this.name, identity: id, envelope, cause };
      if (!(await this.#deliver(progress, delivery, { fired: id }, report))) return this.#superseded(progress);
      progress.scheduled.remove(id);
    }
    // What was just dispatched may have caused more.
    return due.length === 0 && (await this.#events.head()) <= progress.cursor.position;
  }

  /** Carries out what is left of an event's outputs. False when another process has come first. */
  async #carryOut(progress: Progress, event: StoredEvent, outputs: Outputs, report: Counts): Promise<boolean> {
    const { commands, schedule, cancel } = outputs;
    const { position } = event;
    const plans = schedulingSteps(outputs);
    // ScheduledCommands come first: they must not be lost when a command cannot be delivered for a while.
    if (plans > 0 && progress.done === 0) {
      const keys = new Set(cancel);
      for (const { key } of schedule) if (key !== undefined) keys.add(key);
      const note: Note = {
        position,
        outputsDone: 1,
        scheduled: schedule,
        cancelled: progress.scheduled.idsWithKeys(keys),
      };
      if (!(await this.#commitNote(progress, note))) return false;
    }
    for (let index = Math.max(0, progress.done - plans); index < commands.length; index++) {
      const envelope = commands[index] as CommandEnvelope;
      const cause = causeOf(event);
      const delivery = { manager: this.name, identity: identityOf(this.name, cause, index), envelope, cause };
      const note: Note = { position, outputsDone: plans + index + 1 };
      if (!(await this.#deliver(progress, delivery, note, report))) return false;
      progress.done = plans + index + 1;
    }
    return true;
  }

  async #deliver(progress: Progress, delivery: Delivery, note: Note, report: Counts): Promise<boolean> {
    const consumer = { name: this.name, expectedSequence: progress.sequence, note };
    const result = await this.#send(delivery, consumer, "dead-letter");
    if (result.kind === "superseded") return false;
    progress.sequence = consumer.expectedSequence + 1;
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

  /** Writes a note that has no command beside it. */
  async #commitNote(progress: Progress, note: Note, settledLetters?: readonly string[]): Promise<boolean> {
    const consumer = { name: this.name, expectedSequence: progress.sequence, note };
    const { ok } = await tracedCommit(this.#events, {
      appends: [],
      consumer: settledLetters === undefined ? consumer : { ...consumer, settledLetters },
    });
    if (ok) applyNote(progress, { sequence: consumer.expectedSequence + 1, note });
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
    const { stream, version, position } = event;
    if (progress.reacted?.position === position) return progress.reacted.outputs;
    const source = this.#sources.of(stream.type);
    const react = source?.handlers.get(event.type);
    if (
      source === undefined ||
      react === undefined ||
      version <= (progress.versions.get(`${stream.type}/${stream.id}`) ?? 0)
    )
      return { state: progress.state, commands: [], schedule: [], cancel: [] };
    const begin = (): ReactTrace => ({
      processManager: this.name,
      aggregate: stream.type,
      id: stream.id,
      event: event.type,
      position,
    });
    try {
      return reacting.sync(begin, (trace) => {
        const recorded = source.reader.recorded(event);
        const result = react(progress.state, recorded);
        const outputs = outputsOf(this.name, result, progress.state, causeOf(event), recorded.timestamp);
        progress.reacted = { position, outputs };
        if (trace !== undefined) trace.commands = outputs.commands.length + outputs.schedule.length;
        return outputs;
      });
    } catch (error) {
      // It may have changed half of its state: the next run finds it again.
      this.#progress = undefined;
      throw new EventfoldError(
        "PROCESS_MANAGER_FAILED",
        `process manager ${this.name} failed on ${event.type} of ${stream.type} ${JSON.stringify(stream.id)}, version ${version}, position ${position}: ${messageOf(error)}`,
        { cause: error },
      );
    }
  }

  /** Progress with every note so far, of any process. */
  async #synchronised(): Promise<Progress> {
    await refreshBeforeReading(this.#events);
    for (;;) {
      const progress = (this.#progress ??= await this.#load());
      const notes = await this.#events.consumerNotes(this.name, progress.sequence);
      try {
        if (notes.length > 0 || this.#handled > progress.cursor.position) await this.#replay(progress, notes);
        this.#handled = 0;
        return progress;
      } catch (error) {
        // The notes are applied, and the state is older than they are.
        this.#progress = undefined;
        if (!(error instanceof ChangedHistoryError)) throw error;
        this.#discardCheckpoint();
      }
    }
  }

  /** Reacts to the events up to where the notes are, without carrying anything out. */
  async #replay(progress: Progress, notes: readonly ConsumerNote[]): Promise<void> {
    let { position } = progress.cursor;
    let { done } = progress;
    const settled = Math.min(this.#handled, await this.#events.head());
    for (const note of notes) {
      const { position: at, outputsDone: count } = note.note as Note;
      if (at !== undefined && count !== undefined) [position, done] = [at, count];
      applyNote(progress, note);
    }
    if (settled >= position) [position, done] = [settled, Infinity];
    if (position <= progress.cursor.position) return;
    for await (const batch of progress.cursor.read()) {
      for (const event of batch) {
        if (event.position > position) return;
        const outputs = this.#react(progress, event);
        if (event.position === position && done < schedulingSteps(outputs) + outputs.commands.length) {
          progress.done = done;
          return;
        }
        completeEvent(progress, event, outputs.state);
      }
    }
  }

  /** The checkpoint belongs to another history than the log. */
  #discardCheckpoint(): void {
    this.#progress = undefined;
    this.#checkpointIsUsable = false;
  }

  async #load(): Promise<Progress> {
    const checkpoint = this.#checkpointIsUsable
      ? await this.#events.loadCheckpoint("process-manager", this.name)
      : undefined;
    this.#saved = 0;
    if (
      checkpoint !== undefined &&
      checkpoint.versions === undefined &&
      checkpoint.fingerprint === this.#sources.fingerprint
    ) {
      this.#saved = checkpoint.position;
      const { state, sequence, scheduled, adoptedVersions } = checkpoint.state as ManagerCheckpoint;
      return {
        state,
        cursor: new LogCursor(this.#events, checkpoint, this.#sources.wanted),
        sequence,
        done: 0,
        reacted: undefined,
        scheduled: new ScheduledCommands(scheduled),
        versions: new Map(adoptedVersions),
      };
    }
    if (checkpoint !== undefined && checkpoint.versions === undefined)
      this.#handled = (checkpoint.state as ManagerCheckpoint).handled;
    if (checkpoint?.versions !== undefined)
      await adoptCheckpoint(this.#events, this.name, { state: checkpoint.state, versions: [...checkpoint.versions] });
    const adopted = await findAdopted(this.#events, this.name);
    const { state, versions } = adopted ?? { state: initialOf(this.#definition.initial), versions: [] };
    return {
      state,
      cursor: new LogCursor(this.#events, 0, this.#sources.wanted),
      sequence: 0,
      done: 0,
      reacted: undefined,
      scheduled: new ScheduledCommands(),
      versions: new Map(versions),
    };
  }

  async #saveCheckpoint(): Promise<void> {
    const progress = this.#progress;
    if (progress === undefined || !progress.cursor.isVerified || progress.cursor.position === this.#saved) return;
    // A reaction that is not carried out yet may have changed the state.
    if (progress.done > 0 || progress.reacted !== undefined) return;
    // A checkpoint includes every note that is in the log when it is saved.
    if ((await this.#events.consumerNotes(this.name, progress.sequence)).length > 0) return;
    const { state, sequence, scheduled, versions } = progress;
    const kept: ManagerCheckpoint = {
      state,
      sequence,
      scheduled: scheduled.all,
      adoptedVersions: [...versions],
      handled: progress.cursor.position,
    };
    const mark = progress.cursor.mark();
    this.#saved = mark.position;
    this.#checkpointIsUsable = true;
    await this.#events.saveCheckpoint("process-manager", this.name, {
      state: kept,
      fingerprint: this.#sources.fingerprint,
      ...mark,
    });
  }

  async #findLetter(key: string): Promise<StoredDeadLetter> {
    await refreshBeforeReading(this.#events);
    const letter = (await this.#events.deadLetters(this.name)).find((candidate) => candidate.key === key);
    if (letter === undefined)
      throw new EventfoldError(
        "UNKNOWN_DEAD_LETTER",
        `process manager ${this.name} has no dead letter ${JSON.stringify(key)}`,
      );
    return letter;
  }
}
