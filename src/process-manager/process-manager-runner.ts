import { EventReader } from "../aggregate/event-reader.ts";
import type { CommandEnvelope, RecordedEvent } from "../aggregate/messages.ts";
import { EventfoldError } from "../errors.ts";
import type { Checkpoint, ConsumerNote, EventStore, StoredEvent } from "../event-store/event-store.ts";
import { fingerprint } from "../fingerprint.ts";
import { type CommandTargets, deliver, type Delivery } from "./dispatcher.ts";
import type { ProcessManagerDefinition } from "./process-manager.ts";
import { type Appointment, type Cause, type Outputs, outputsOf } from "./reaction.ts";

const SAVE_EVERY_EVENTS = 1000;

type React = (state: unknown, event: unknown) => unknown;

/** What one run did. */
export interface ProcessManagerReport {
  readonly dispatched: number;
  readonly deadLettered: number;
}

/**
 * What a manager notes in the log, beside the effects: it has carried out `done` of the outputs of the event at `position`,
 * has made and cancelled appointments, or has kept one.
 */
interface Note {
  readonly position?: number;
  readonly done?: number;
  readonly made?: readonly Appointment[];
  readonly cancelled?: readonly string[];
  readonly kept?: string;
}

/** State behind the last event that is dealt with completely. */
interface Progress {
  state: unknown;
  position: number;
  sequence: number;
  /** Outputs of the event behind `position` that are carried out already. */
  done: number;
  /** By identity. */
  readonly appointments: Map<string, Appointment>;
  readonly versions: ReadonlyMap<string, number> | undefined;
}

/**
 * Runs one process manager: reads events in order, lets the manager react, and carries out each output
 * in a commit that also notes it. What is noted is never done again; the state between is found again by
 * reacting anew and discarding the outputs.
 */
export class ProcessManagerRunner {
  readonly name: string;
  readonly #definition: ProcessManagerDefinition;
  readonly #events: EventStore;
  readonly #targets: CommandTargets;
  readonly #now: () => number;
  readonly #sources: ReadonlyMap<
    string,
    { readonly reader: EventReader; readonly handlers: ReadonlyMap<string, React> }
  >;
  readonly #fingerprint: string;
  #progress: Progress | undefined;
  #bookmark: unknown;
  #saved = 0;

  constructor(definition: ProcessManagerDefinition, events: EventStore, targets: CommandTargets, now: () => number) {
    this.name = definition.name;
    this.#definition = definition;
    this.#events = events;
    this.#targets = targets;
    this.#now = now;
    this.#sources = new Map(
      definition.sources.map(({ aggregate, handlers }) => {
        const named = Object.entries(handlers).filter(
          (entry): entry is [string, React] => typeof entry[1] === "function",
        );
        return [aggregate.type, { reader: new EventReader(aggregate), handlers: new Map(named) }];
      }),
    );
    const code = [...this.#sources].map(([type, { reader, handlers }]) => [
      type,
      reader.code,
      [...handlers].map(([event, react]) => [event, String(react)]),
    ]);
    this.#fingerprint = fingerprint(JSON.stringify([this.#initial(), code]));
  }

  /** Time of the next appointment; `Infinity` if there is none. */
  get nextDue(): number {
    return Math.min(Infinity, ...[...(this.#progress?.appointments.values() ?? [])].map(({ due }) => due));
  }

  /** Deals with all events and due appointments that there are. What may pass is thrown; the next run goes on there. */
  async run(stopped: () => boolean): Promise<ProcessManagerReport> {
    const report = { dispatched: 0, deadLettered: 0 };
    let finished = false;
    while (!finished && !stopped()) finished = await this.#runOnce(report, stopped);
    return report;
  }

  /** Tries a dead letter once more, with the same identity; it is settled in the same commit. */
  async replay(key: string): Promise<void> {
    const { envelope, cause } = await this.#letter(key);
    for (;;) {
      const progress = await this.#synchronised();
      const delivery = { manager: this.name, identity: key, envelope, cause };
      const note = { name: this.name, expectedSequence: progress.sequence, note: {}, droppedLetters: [key] };
      const result = await deliver(this.#targets, this.#events, delivery, note, this.#now, "throw");
      if (result.kind === "dispatched") {
        progress.sequence++;
        return;
      }
    }
  }

  /** Settles a dead letter without trying it. */
  async drop(key: string): Promise<void> {
    await this.#letter(key);
    for (;;) {
      const progress = await this.#synchronised();
      const consumer = { name: this.name, expectedSequence: progress.sequence, note: {}, droppedLetters: [key] };
      if ((await this.#events.commit({ appends: [], consumer })).ok) {
        progress.sequence++;
        return;
      }
    }
  }

  async close(): Promise<void> {
    await this.#save().catch(() => {
      // Only a cache: the next opening reads more.
    });
  }

  /** True when there is nothing left to do. */
  async #runOnce(report: { dispatched: number; deadLettered: number }, stopped: () => boolean): Promise<boolean> {
    const progress = await this.#synchronised();
    for await (const batch of this.#events.readAll({ from: progress.position + 1, bookmark: this.#bookmark })) {
      for (const event of batch) {
        if (stopped()) return true;
        const outputs = this.#react(progress, event);
        if (!(await this.#carryOut(progress, event, outputs, report))) return false;
        this.#complete(progress, event, outputs.state);
      }
      if (progress.position - this.#saved >= SAVE_EVERY_EVENTS) await this.#save();
    }
    const now = this.#now();
    const due = [...progress.appointments.values()]
      .filter((appointment) => appointment.due <= now)
      .sort((a, b) => a.due - b.due);
    for (const appointment of due) {
      if (stopped()) return true;
      const { id, envelope, cause } = appointment;
      const note: Note = { kept: id };
      if (!(await this.#deliver(progress, { manager: this.name, identity: id, envelope, cause }, note, report)))
        return false;
      progress.appointments.delete(id);
    }
    // What was just dispatched may have caused more.
    return due.length === 0 && (await this.#events.head()) <= progress.position;
  }

  /** Carries out what is left of an event's outputs. False when another process has come first. */
  async #carryOut(
    progress: Progress,
    event: StoredEvent,
    outputs: Outputs,
    report: { dispatched: number; deadLettered: number },
  ): Promise<boolean> {
    const { commands, schedule, cancel } = outputs;
    const { position } = event;
    const plans = schedule.length > 0 || cancel.length > 0 ? 1 : 0;
    // Appointments come first: they must not be lost when a command cannot be delivered for a while.
    if (plans > 0 && progress.done === 0) {
      const cancelled = [...progress.appointments.values()].filter(
        ({ key }) => key !== undefined && (cancel.includes(key) || schedule.some((made) => made.key === key)),
      );
      const note: Note = { position, done: 1, made: schedule, cancelled: cancelled.map(({ id }) => id) };
      const result = await this.#events.commit({
        appends: [],
        consumer: { name: this.name, expectedSequence: progress.sequence, note },
      });
      if (!result.ok) return this.#overtaken();
      this.#take(progress, { sequence: progress.sequence + 1, note });
    }
    for (let index = Math.max(0, progress.done - plans); index < commands.length; index++) {
      const envelope = commands[index] as CommandEnvelope;
      const cause = causeOf(event);
      const identity = `${this.name}:${cause.eventId}:${index}`;
      const note: Note = { position, done: plans + index + 1 };
      if (!(await this.#deliver(progress, { manager: this.name, identity, envelope, cause }, note, report)))
        return false;
      progress.done = plans + index + 1;
    }
    return true;
  }

  async #deliver(
    progress: Progress,
    delivery: Delivery,
    note: Note,
    report: { dispatched: number; deadLettered: number },
  ): Promise<boolean> {
    const { aggregate } = delivery.envelope;
    if (!this.#definition.targets.has(aggregate)) {
      throw new EventfoldError(
        "INVALID_REACTION",
        `process manager ${this.name} sent a command to ${aggregate}, which is not in its dispatches`,
      );
    }
    const consumer = { name: this.name, expectedSequence: progress.sequence, note };
    const result = await deliver(this.#targets, this.#events, delivery, consumer, this.#now, "dead-letter");
    if (result.kind === "overtaken") return this.#overtaken();
    progress.sequence++;
    if (result.kind === "dispatched") report.dispatched++;
    else report.deadLettered++;
    return true;
  }

  /** Another process has taken the step: what it noted is read before going on. */
  #overtaken(): false {
    return false;
  }

  #react(progress: Progress, event: StoredEvent): Outputs {
    const nothing: Outputs = { state: progress.state, commands: [], schedule: [], cancel: [] };
    const { stream, version } = event;
    const source = this.#sources.get(stream.type);
    const react = source?.handlers.get(event.type);
    if (
      source === undefined ||
      react === undefined ||
      version <= (progress.versions?.get(`${stream.type}/${stream.id}`) ?? 0)
    )
      return nothing;
    // A copy: a reaction is pure, and one that changes its argument must not make the next run another one.
    const before = structuredClone(progress.state);
    const recorded = source.reader.recorded(event);
    try {
      return outputsOf(this.name, react(before, recorded), before, causeOf(event, recorded), recorded.timestamp);
    } catch (cause) {
      throw new EventfoldError(
        "PROCESS_MANAGER_FAILED",
        `process manager ${this.name} failed on ${event.type} of ${stream.type} ${JSON.stringify(stream.id)}, version ${version}, position ${event.position}: ${cause instanceof Error ? cause.message : String(cause)}`,
        { cause },
      );
    }
  }

  #complete(progress: Progress, event: StoredEvent, state: unknown): void {
    progress.state = state;
    progress.position = event.position;
    progress.done = 0;
  }

  /** Progress with everything that was noted so far, by whatever process. */
  async #synchronised(): Promise<Progress> {
    const progress = (this.#progress ??= await this.#load());
    const notes = await this.#events.consumerNotes(this.name, progress.sequence, this.#bookmark);
    if (notes.length === 0) return progress;
    try {
      await this.#follow(progress, notes);
    } catch (error) {
      this.#progress = undefined;
      throw error;
    }
    return progress;
  }

  /** Moves on to where notes say that the manager was, reacting without carrying anything out. */
  async #follow(progress: Progress, notes: readonly ConsumerNote[]): Promise<void> {
    let position = progress.position;
    let done = progress.done;
    for (const note of notes) {
      const { position: at, done: count } = note.note as Note;
      if (at !== undefined && count !== undefined) [position, done] = [at, count];
      this.#take(progress, note);
    }
    if (position <= progress.position) return;
    for await (const batch of this.#events.readAll({ from: progress.position + 1, bookmark: this.#bookmark })) {
      for (const event of batch) {
        if (event.position > position) return;
        const outputs = this.#react(progress, event);
        const total = outputs.commands.length + (outputs.schedule.length > 0 || outputs.cancel.length > 0 ? 1 : 0);
        if (event.position === position && done < total) {
          progress.done = done;
          return;
        }
        this.#complete(progress, event, outputs.state);
      }
    }
  }

  #take(progress: Progress, { sequence, note }: ConsumerNote): void {
    const { made = [], cancelled = [], kept, done } = note as Note;
    for (const id of cancelled) progress.appointments.delete(id);
    for (const appointment of made) progress.appointments.set(appointment.id, appointment);
    if (kept !== undefined) progress.appointments.delete(kept);
    if (done !== undefined) progress.done = done;
    progress.sequence = sequence;
  }

  async #load(): Promise<Progress> {
    const checkpoint = await this.#events.loadCheckpoint("process-manager", this.name);
    const nothing: Progress = {
      state: this.#initial(),
      position: 0,
      sequence: 0,
      done: 0,
      appointments: new Map(),
      versions: undefined,
    };
    if (checkpoint === undefined) return nothing;
    if (checkpoint.versions !== undefined)
      return { ...nothing, state: checkpoint.state, versions: checkpoint.versions };
    if (!(await this.#fits(checkpoint))) return nothing;
    const { state, appointments, sequence, versions } = checkpoint.state as Kept;
    this.#bookmark = checkpoint.bookmark;
    this.#saved = checkpoint.position;
    return {
      state,
      position: checkpoint.position,
      sequence,
      done: 0,
      appointments: new Map(appointments.map((appointment) => [appointment.id, appointment])),
      versions: versions === undefined ? undefined : new Map(versions),
    };
  }

  async #fits({ fingerprint: made, position }: Checkpoint): Promise<boolean> {
    return made === this.#fingerprint && position <= (await this.#events.head());
  }

  async #save(): Promise<void> {
    const progress = this.#progress;
    if (progress === undefined || progress.done > 0 || progress.position === this.#saved) return;
    const { state, position, sequence, appointments, versions } = progress;
    const kept: Kept = {
      state,
      sequence,
      appointments: [...appointments.values()],
      ...(versions === undefined ? {} : { versions: [...versions] }),
    };
    const bookmark = this.#events.bookmark(position);
    this.#saved = position;
    await this.#events.saveCheckpoint("process-manager", this.name, {
      state: kept,
      position,
      fingerprint: this.#fingerprint,
      bookmark,
    });
  }

  async #letter(key: string): Promise<{ readonly envelope: CommandEnvelope; readonly cause: Cause }> {
    const letter = (await this.#events.deadLetters(this.name)).find((candidate) => candidate.key === key);
    if (letter === undefined)
      throw new EventfoldError(
        "UNKNOWN_DEAD_LETTER",
        `process manager ${this.name} has no dead letter ${JSON.stringify(key)}`,
      );
    return addressed(letter.letter);
  }

  #initial(): unknown {
    const { initial } = this.#definition;
    return typeof initial === "function" ? (initial as () => unknown)() : structuredClone(initial);
  }
}

/** What a checkpoint keeps. */
interface Kept {
  readonly state: unknown;
  readonly sequence: number;
  readonly appointments: readonly Appointment[];
  readonly versions?: readonly [string, number][];
}

function causeOf(event: StoredEvent, recorded?: RecordedEvent): Cause {
  const { stream, version, position } = event;
  const eventId = recorded?.eventId ?? event.eventId ?? `${stream.type}/${stream.id}/${version}`;
  const correlationId = event.meta?.["correlation_id"];
  const dispatch = event.meta?.["dispatch"] as { readonly depth?: unknown } | undefined;
  const depth = typeof dispatch?.depth === "number" ? dispatch.depth : 0;
  return {
    aggregate: stream.type,
    id: stream.id,
    version,
    position,
    eventId,
    ...(typeof correlationId === "string" ? { correlationId } : {}),
    depth,
  };
}

/** Envelope and cause of a dead letter, also of one that the original wrote. */
function addressed(letter: Readonly<Record<string, unknown>>): {
  readonly envelope: CommandEnvelope;
  readonly cause: Cause;
} {
  const envelope = letter["envelope"] as {
    readonly aggregate_type: string;
    readonly instance_id: string;
    readonly command: unknown;
    readonly context?: {
      readonly actor?: string | null;
      readonly correlation_id?: string | null;
      readonly metadata?: Record<string, unknown> | null;
      readonly source_device?: string;
    };
  };
  const { actor, correlation_id, metadata, source_device } = envelope.context ?? {};
  const context = {
    ...(actor === undefined || actor === null ? {} : { actor }),
    ...(correlation_id === undefined || correlation_id === null ? {} : { correlationId: correlation_id }),
    ...(metadata === undefined || metadata === null ? {} : { metadata }),
    ...(source_device === undefined ? {} : { sourceDevice: source_device }),
  };
  const cause = (letter["cause"] as Cause | undefined) ?? {
    aggregate: "",
    id: "",
    version: 0,
    position: 0,
    eventId: "",
    depth: 0,
  };
  return {
    envelope: {
      aggregate: envelope.aggregate_type,
      id: envelope.instance_id,
      command: commandOf(envelope.command),
      context,
    },
    cause,
  };
}

/** The original writes `"Name"` or `{"Name": payload}`. */
function commandOf(command: unknown): { readonly type: string; readonly data?: unknown } {
  if (typeof command === "string") return { type: command };
  const [[type, data] = ["", undefined], ...rest] = Object.entries((command ?? {}) as Record<string, unknown>);
  if (Object.hasOwn((command ?? {}) as object, "type") || rest.length > 0) return command as { readonly type: string };
  return { type, data };
}
