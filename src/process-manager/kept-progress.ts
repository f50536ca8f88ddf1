import { isEventfoldError } from "../errors.ts";
import type { EventStore, StoredDeadLetter } from "../event-store/event-store.ts";
import { refreshBeforeReading } from "../event-store/freshness.ts";
import { tracedCommit } from "../event-store/traced-commit.ts";
import { ForgottenCommands } from "./forgotten-commands.ts";
import { ManagerLetters } from "./manager-letters.ts";
import type { Note } from "./note.ts";
import type { ProcessManagerDefinition } from "./process-manager.ts";
import { applyNote, type Progress } from "./progress.ts";
import { ProgressLoader } from "./progress-loader.ts";
import type { Reactions } from "./reactions.ts";

/** The progress of one process manager in memory, which follows its notes in the log, of any process. */
export class KeptProgress {
  readonly loader: ProgressLoader;
  /** Only with order. */
  readonly letters: ManagerLetters | undefined;
  readonly #name: string;
  readonly #events: EventStore;
  readonly #reactions: Reactions;
  #progress: Progress | undefined;
  /** Sequence of the note with the present handlers. */
  #handlersNote: number | undefined;
  /** It has begun with the first event, and not come to the last one yet. */
  isFresh = false;

  constructor(definition: ProcessManagerDefinition, events: EventStore, reactions: Reactions) {
    this.#name = definition.name;
    this.#events = events;
    this.#reactions = reactions;
    this.loader = new ProgressLoader(definition, events, reactions);
    this.letters = definition.isOrdered ? new ManagerLetters(events, definition.name) : undefined;
  }

  /** As far as this process knows; `undefined` before the first run, and after `forget`. */
  get current(): Progress | undefined {
    return this.#progress;
  }

  /** What the notes of events have in common. */
  get attribution(): Pick<Note, "handlersNote"> {
    return this.#handlersNote === undefined ? {} : { handlersNote: this.#handlersNote };
  }

  /** The next use loads it again. */
  forget(): void {
    this.#progress = undefined;
  }

  /** The checkpoint belongs to another history than the log. */
  discardCheckpoint(): void {
    this.isFresh = true;
    this.#progress = undefined;
    this.loader.ignoreCheckpoint();
  }

  /** Writes a note that has no command beside it. False when another process has come first. */
  async commitNote(
    progress: Progress,
    note: Note,
    causeId?: string,
    deadLetters?: readonly StoredDeadLetter[],
  ): Promise<boolean> {
    const { sequence: expectedSequence, era } = progress;
    const consumer = { name: this.#name, expectedSequence, note, ...(deadLetters && { deadLetters }), era };
    const { ok } = await tracedCommit(this.#events, { appends: [], consumer }, undefined, causeId);
    if (!ok) return false;
    applyNote(progress, { sequence: expectedSequence + 1, note });
    if (deadLetters === undefined) this.letters?.noted(expectedSequence + 1);
    return true;
  }

  /** Another process has made this progress: its notes are read before this one continues. */
  async superseded(progress: Progress): Promise<false> {
    await refreshBeforeReading(this.#events);
    const notes = await this.#events.consumerNotes(this.#name, progress.sequence);
    if (notes.length === 0) {
      // It was not another process: the checkpoint counts on notes that the log does not have.
      this.discardCheckpoint();
    }
    return false;
  }

  /** Sequence of the last note, of any process. */
  async sequence(): Promise<number> {
    await refreshBeforeReading(this.#events);
    try {
      return (await this.noted()).sequence;
    } catch (error) {
      if (!isEventfoldError(error, "UNTRUSTED_CHECKPOINT")) throw error;
      return (await this.#events.consumerNotes(this.#name, 0)).at(-1)?.sequence ?? 0;
    }
  }

  /** Progress with every note so far, of any process. */
  async noted(): Promise<Progress> {
    for (;;) {
      const progress = (this.#progress ??= await this.loader.load());
      for (const note of await this.#events.consumerNotes(this.#name, progress.sequence)) applyNote(progress, note);
      if (progress.era === this.#events.era) {
        // Those that are forgotten are made again from all events.
        if (progress.cursor.position === 0)
          progress.forgotten ??= await ForgottenCommands.find(this.#events, this.#name, progress.scheduled);
        else if (progress.era !== undefined && progress.forgotten === undefined && progress.scheduled.hasForgotten)
          this.discardCheckpoint();
        if (this.#progress === progress) return progress;
      }
      this.#progress = undefined;
    }
  }

  /** The same. The log has the manager's handlers. */
  async synchronised(): Promise<Progress> {
    await refreshBeforeReading(this.#events);
    for (;;) {
      const progress = await this.noted();
      const { names } = this.#reactions;
      this.#handlersNote = progress.handlers.noteWith(names);
      if (this.#handlersNote !== undefined) progress.cursor.begin(progress.handlers.horizonOf(this.#handlersNote));
      if (this.#handlersNote !== undefined || names.length === 0) return progress;
      const note = await this.loader.handlersNote(progress, names);
      if (!(await this.commitNote(progress, note))) await this.superseded(progress);
    }
  }
}
