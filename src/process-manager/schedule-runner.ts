import type { CommandEnvelope } from "../aggregate/messages.ts";
import { type Duration, milliseconds } from "../duration.ts";
import { EventfoldError } from "../errors.ts";
import type { EventStore, StoredDeadLetter } from "../event-store/event-store.ts";
import { refreshBeforeReading } from "../event-store/freshness.ts";
import { tracedCommit } from "../event-store/traced-commit.ts";
import { ChangedHistoryError, LogCursor } from "../projection/log-cursor.ts";
import { isDate } from "../realm.ts";
import { openLetter, type ReplayOptions, replayOf } from "./dead-letter.ts";
import { type CommandTargets, deliver, type DeliveryResult } from "./dispatcher.ts";
import type { Note } from "./note.ts";
import { envelopeCopy, type ScheduledCommand } from "./reaction.ts";
import { applySchedule, ScheduledCommands } from "./scheduled-commands.ts";

/** The consumer whose notes say what was scheduled, sent and cancelled. No process manager can have this name. */
export const SCHEDULES = "store:schedules";
/** How often something is tried again because another commit came first. */
const MAX_ATTEMPTS = 100;
/** A checkpoint is saved after this many notes, and on close. */
const SAVE_EVERY_NOTES = 1000;

/** When a command is sent, and under which key. */
export type ScheduleOptions = {
  /** Names the schedule: one with the same key is replaced. A new id if left out. */
  readonly key?: string | undefined;
  /** Sends the command again and again, at this distance: milliseconds or a text like `"1h"`. The first time is that of `at` or `in`, else one distance from now. */
  readonly every?: number | Duration | undefined;
} & (
  | { /** Milliseconds since 1970, or a date. */ readonly at: number | Date; readonly in?: undefined }
  | { /** From now, by the store's clock. */ readonly in: number | Duration; readonly at?: undefined }
  | { readonly at?: undefined; readonly in?: undefined; readonly every: number | Duration }
);

/** A command that waits for its time. */
export interface Schedule {
  readonly key: string;
  /** When it is sent next, in milliseconds since 1970. */
  readonly due: number;
  /** Milliseconds between two times, if it is sent again and again. */
  readonly every?: number;
  readonly envelope: CommandEnvelope;
}

interface Progress {
  readonly scheduled: ScheduledCommands;
  /** Sequence of the last note that is applied. */
  sequence: number;
  /** The store's era in which the notes were read. */
  readonly era: number | undefined;
}

/** What one run did. */
interface Counts {
  dispatched: number;
  deadLettered: number;
}

/** The state of a checkpoint. All of it can be made again from the log. */
interface ScheduleCheckpoint {
  readonly sequence: number;
  readonly scheduled: readonly ScheduledCommand[];
}

/**
 * Sends the commands that a program has scheduled. Each is sent in a commit that also notes it, so it is sent once for each time that is
 * due, however many processes try. The notes in the log alone say what is still to be sent.
 */
export class ScheduleRunner {
  readonly name: string = SCHEDULES;
  readonly #events: EventStore;
  readonly #targets: CommandTargets;
  readonly #now: () => number;
  readonly #nextId: () => string;
  readonly #unwatch: (() => void) | undefined;
  #progress: Progress | undefined;
  #checkpointIsUsable = true;
  #loading: Promise<Progress> | undefined;
  #saved = 0;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(events: EventStore, targets: CommandTargets, now: () => number, nextId: () => string) {
    this.#events = events;
    this.#targets = targets;
    this.#now = now;
    this.#nextId = nextId;
    // Its commands may say more than the log still does.
    this.#unwatch = events.watchEra?.(() => (this.#progress = undefined));
  }

  /** Time of the next command; `Infinity` if there is none. */
  get nextDue(): number {
    return this.#progress?.scheduled.nextDue ?? Infinity;
  }

  /** Schedules a command, and removes one with the same key in the same commit. Does not wait for a run, which may wait for the caller. */
  async schedule(envelope: CommandEnvelope, options: ScheduleOptions): Promise<Schedule> {
    const now = this.#now();
    const { key = this.#nextId(), every } = options;
    const due = firstDue(options, now);
    if (every !== undefined && envelope.context?.idempotencyKey !== undefined)
      throw bad("expected no idempotencyKey beside every: with it, only the first command would take effect");
    const command: ScheduledCommand = {
      id: `${SCHEDULES}:${this.#nextId()}/${due}`,
      key,
      due,
      ...(every === undefined ? {} : { every: milliseconds(every, "every") }),
      envelope: envelopeCopy(envelope, (why) => new EventfoldError("INVALID_COMMAND", why)),
    };
    await this.#note(({ scheduled }) => ({ scheduled: [command], cancelled: idsOf(scheduled, key) }));
    return shown(command);
  }

  /** Removes the schedule with a key. False if there is none. */
  cancel(key: string): Promise<boolean> {
    return this.#note(({ scheduled }) => {
      const cancelled = idsOf(scheduled, key);
      return cancelled.length === 0 ? undefined : { cancelled };
    });
  }

  /** The schedules of all processes, the next one first. */
  async list(): Promise<readonly Schedule[]> {
    const { scheduled } = await this.#synchronised();
    const kept = scheduled.all.filter(({ forgotten }) => forgotten !== true);
    return kept.map(shown).sort((a, b) => a.due - b.due);
  }

  /** Sends every command that is due. A failure that may pass is thrown; the next run continues there. */
  run(stopped: () => boolean): Promise<Counts> {
    return this.#exclusively(async () => {
      const report = { dispatched: 0, deadLettered: 0 };
      let attempts = 0;
      for (let result = ""; result !== "done" && !stopped();) {
        result = await this.#runOnce(report, stopped);
        if (result !== "superseded") attempts = 0;
        else if (this.#progress !== undefined) await this.#superseded(this.#progress, ++attempts);
      }
      return report;
    });
  }

  /** Sends the command of a dead letter once more. */
  replay(key: string, options: ReplayOptions = {}): Promise<void> {
    return this.#exclusively(async () => {
      for (let attempt = 1; ; attempt++) {
        const { envelope } = replayOf(await this.#findLetter(key), options);
        const progress = await this.#synchronised();
        const { sequence: expectedSequence, era } = progress;
        const note = { name: SCHEDULES, expectedSequence, note: {}, settledLetters: [key], era };
        const delivery = { manager: SCHEDULES, identity: key, envelope, cause: undefined };
        const { kind } = await deliver(this.#delivering, delivery, note, "throw");
        if (kind === "dispatched") return apply(progress, note.expectedSequence + 1, {});
        await this.#superseded(progress, attempt);
      }
    });
  }

  /** Removes a dead letter without trying it. */
  drop(key: string): Promise<void> {
    return this.#exclusively(async () => {
      await this.#findLetter(key);
      await this.#note(() => ({}), [key]);
    });
  }

  close(): Promise<void> {
    return this.#exclusively(async () => {
      try {
        await this.#saveCheckpoint();
      } catch {
        // The next opening reads more.
      }
      this.#unwatch?.();
    });
  }

  get #delivering() {
    return { targets: this.#targets, allowed: undefined, events: this.#events, now: this.#now };
  }

  /** One piece of work after the other: each relies on the sequence of the last note. */
  #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    return done;
  }

  /** Sends what is due; `"done"` when nothing is. */
  async #runOnce(report: Counts, stopped: () => boolean): Promise<"done" | "sent" | "superseded"> {
    const progress = await this.#synchronised();
    // Commands for a forgotten person are given up.
    if (this.#events.era !== undefined && progress.scheduled.hasForgotten)
      await this.#note(({ scheduled }) => ({ cancelled: scheduled.forgotten.map(({ id }) => id) }));
    const due = progress.scheduled.due(this.#now());
    for (const command of due) {
      if (stopped()) return "done";
      const { id, envelope } = command;
      const next = nextTime(command, this.#now());
      const note: Note = next === undefined ? { fired: id } : { fired: id, scheduled: [next] };
      const { sequence: expectedSequence, era } = progress;
      const consumer = { name: SCHEDULES, expectedSequence, note, era };
      const delivery = { manager: SCHEDULES, schedule: command.key, identity: id, envelope, cause: undefined };
      const { kind }: DeliveryResult = await deliver(this.#delivering, delivery, consumer, "dead-letter");
      if (kind === "superseded") return kind;
      apply(progress, consumer.expectedSequence + 1, note);
      if (kind === "dispatched") report.dispatched++;
      else report.deadLettered++;
    }
    if (progress.sequence - this.#saved >= SAVE_EVERY_NOTES) await this.#saveCheckpoint();
    return due.length === 0 ? "done" : "sent";
  }

  /** Commits a note that is made of the newest progress; nothing if there is nothing to note. */
  async #note(make: (progress: Progress) => Note | undefined, settledLetters?: readonly string[]): Promise<boolean> {
    for (let attempt = 1; ; attempt++) {
      const progress = await this.#synchronised();
      const note = make(progress);
      if (note === undefined) return false;
      const { sequence: expectedSequence, era } = progress;
      const consumer = { name: SCHEDULES, expectedSequence, note, era };
      const commit = { appends: [], consumer: settledLetters ? { ...consumer, settledLetters } : consumer };
      if ((await tracedCommit(this.#events, commit)).ok) {
        apply(progress, consumer.expectedSequence + 1, note);
        return true;
      }
      await this.#superseded(progress, attempt);
    }
  }

  /** Another process came first: its notes are read before this one continues. */
  async #superseded({ sequence }: Progress, attempt: number): Promise<void> {
    if (attempt >= MAX_ATTEMPTS)
      throw new EventfoldError(
        "CONFLICT",
        `other commits of schedules came first ${MAX_ATTEMPTS} times; try the call again`,
      );
    await refreshBeforeReading(this.#events);
    if ((await this.#events.consumerNotes(SCHEDULES, sequence)).length > 0) return;
    // It was not another process: the checkpoint counts on notes that the log does not have.
    if (this.#progress?.sequence !== sequence) return;
    this.#progress = undefined;
    this.#checkpointIsUsable = false;
  }

  /** Progress with every note so far, of any process. */
  async #synchronised(): Promise<Progress> {
    await refreshBeforeReading(this.#events);
    for (;;) {
      const progress = this.#progress ?? (await (this.#loading ??= this.#load()));
      for (const { sequence, note } of await this.#events.consumerNotes(SCHEDULES, progress.sequence))
        apply(progress, sequence, note as Note);
      if (progress.era === this.#events.era) return progress;
      this.#progress = undefined;
    }
  }

  async #load(): Promise<Progress> {
    try {
      return (this.#progress = await this.#read());
    } finally {
      this.#loading = undefined;
    }
  }

  async #read(): Promise<Progress> {
    const { era } = this.#events;
    const isSendable = (aggregate: string): boolean => this.#targets.knows(aggregate);
    const checkpoint = this.#checkpointIsUsable
      ? await this.#events.loadCheckpoint("process-manager", SCHEDULES)
      : undefined;
    if (checkpoint === undefined || !(await this.#hasHistory(new LogCursor(this.#events, checkpoint))))
      return { scheduled: new ScheduledCommands([], isSendable), sequence: 0, era };
    const { sequence, scheduled } = checkpoint.state as ScheduleCheckpoint;
    this.#saved = sequence;
    return { scheduled: new ScheduledCommands(scheduled, isSendable), sequence, era };
  }

  /** Whether the store still has the event at the checkpoint, so that its notes are those of the log. */
  async #hasHistory(cursor: LogCursor): Promise<boolean> {
    try {
      for await (const _ of cursor.read()) if (cursor.isVerified) return true;
      return cursor.isVerified;
    } catch (error) {
      if (error instanceof ChangedHistoryError) return false;
      throw error;
    }
  }

  async #saveCheckpoint(): Promise<void> {
    const progress = this.#progress;
    if (progress === undefined || progress.sequence === this.#saved) return;
    const cursor = new LogCursor(this.#events, Math.max((await this.#events.head()) - 1, 0));
    for await (const batch of cursor.read()) for (const event of batch) cursor.pass(event);
    // The checkpoint promises that every note after `sequence` comes after this place in the log. So there must be no unknown note.
    if ((await this.#events.consumerNotes(SCHEDULES, progress.sequence)).length > 0) return;
    const { sequence, scheduled, era } = progress;
    const state: ScheduleCheckpoint = { sequence, scheduled: scheduled.all };
    await this.#events.saveCheckpoint("process-manager", SCHEDULES, { state, ...cursor.mark(), era });
    this.#saved = sequence;
  }

  #findLetter(key: string): Promise<StoredDeadLetter> {
    return openLetter(this.#events, SCHEDULES, key, "store.schedule");
  }
}

/** Applies the next note. Two that read the notes at the same time both find it. */
function apply(progress: Progress, sequence: number, note: Note): void {
  if (sequence <= progress.sequence) return;
  applySchedule(progress.scheduled, note);
  progress.sequence = sequence;
}

function idsOf(scheduled: ScheduledCommands, key: string): string[] {
  return scheduled.withKeys([key]).map(({ id }) => id);
}

function shown({ key = "", due, every, envelope }: ScheduledCommand): Schedule {
  return { key, due, ...(every === undefined ? {} : { every }), envelope };
}

/** The next time of a command that is sent again and again: the first one that is not past, however many were missed. */
function nextTime(command: ScheduledCommand, now: number): ScheduledCommand | undefined {
  const { id, due, every } = command;
  if (every === undefined) return undefined;
  const next = due + every * (Math.floor(Math.max(now - due, 0) / every) + 1);
  return { ...command, id: `${id.slice(0, id.lastIndexOf("/"))}/${next}`, due: next };
}

const OPTIONS = new Set(["key", "at", "in", "every"]);

function firstDue(options: ScheduleOptions, now: number): number {
  const unknown = Object.keys(options).find((name) => !OPTIONS.has(name));
  if (unknown !== undefined) throw bad(`has no option ${JSON.stringify(unknown)}`);
  const { key, at, in: wait, every } = options;
  if (key !== undefined && (typeof key !== "string" || key === "")) throw bad("expected key to be a non-empty string");
  const interval = every === undefined ? undefined : milliseconds(every, "every");
  if (interval !== undefined && !(interval >= 1 && interval < Infinity))
    throw bad(`expected every to be 1 ms or more, found ${JSON.stringify(every)}`);
  if (at !== undefined && wait !== undefined) throw bad("expected at or in, found both");
  if (at === undefined && wait === undefined && interval === undefined) throw bad("expected at, in or every");
  const due = at === undefined ? now + milliseconds(wait ?? every ?? NaN, "in") : isDate(at) ? at.getTime() : at;
  if (typeof due !== "number" || !Number.isFinite(due)) throw bad(`expected a time, found ${String(at ?? wait)}`);
  return due;
}

function bad(why: string): EventfoldError {
  return new EventfoldError("INVALID_ARGUMENT", `schedule(envelope, { at, in, every, key }) ${why}`);
}
