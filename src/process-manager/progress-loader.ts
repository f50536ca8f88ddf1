import { type FoldSample, FoldSamples } from "../aggregate/fold-samples.ts";
import { EventfoldError } from "../errors.ts";
import { cacheProblem } from "../json.ts";
import type { Checkpoint, EventStore, UntrustedCheckpoint } from "../event-store/event-store.ts";
import { LogCursor } from "../projection/log-cursor.ts";
import { adoptCheckpoint, findAdopted } from "./adopted-checkpoint.ts";
import { HandlerProgress } from "./handler-progress.ts";
import type { ProcessManagerDefinition } from "./process-manager.ts";
import type { AdoptedCheckpoint, HandlerName, Note } from "./note.ts";
import { applyNote, type ManagerCheckpoint, type Progress } from "./progress.ts";
import { staleCache, uncachedState, untrustedProgress } from "../tracing/tracing.ts";
import type { Reactions } from "./reactions.ts";
import { ScheduledCommands } from "./scheduled-commands.ts";

/** Where a process manager continues: from its checkpoint, from one of the Rust crate, or from the first event. */
export class ProgressLoader {
  readonly #definition: ProcessManagerDefinition;
  readonly #events: EventStore;
  readonly #reactions: Reactions;
  #checkpointIsUsable = true;
  #isReported = false;
  #saved = 0;

  constructor(definition: ProcessManagerDefinition, events: EventStore, reactions: Reactions) {
    this.#definition = definition;
    this.#events = events;
    this.#reactions = reactions;
  }

  /** The progress according to the checkpoint, if there is one, and the notes that came after it. Writes nothing. */
  async peek(): Promise<Progress> {
    const { name } = this.#definition;
    const checkpoint = await this.#events.loadCheckpoint("process-manager", name);
    const kept = checkpoint === undefined ? undefined : this.#ofCheckpoint(checkpoint);
    const progress = kept ?? this.#beginning({ state: this.#reactions.initial, versions: [] });
    for (const note of await this.#events.consumerNotes(name, progress.sequence)) applyNote(progress, note);
    return progress;
  }

  /** Position of the last checkpoint that was loaded or saved; 0 for none. */
  get saved(): number {
    return this.#saved;
  }

  /** The progress before the notes that came after it. */
  async load(): Promise<Progress> {
    const { name } = this.#definition;
    const checkpoint = this.#checkpointIsUsable
      ? await this.#events.loadCheckpoint("process-manager", name)
      : undefined;
    const kept = checkpoint === undefined ? undefined : this.#ofCheckpoint(checkpoint);
    if (checkpoint !== undefined && kept !== undefined && this.#isMadeByThisCode(kept)) {
      this.#saved = checkpoint.position;
      return kept;
    }
    this.#saved = 0;
    const adopted = await this.#adopted(checkpoint);
    return this.#beginning(adopted ?? { state: this.#reactions.initial, versions: [] });
  }

  #beginning({ state, versions }: AdoptedCheckpoint): Progress {
    return {
      state,
      cursor: new LogCursor(this.#events, 0, this.#reactions.wanted),
      sequence: 0,
      handlers: new HandlerProgress(),
      reacted: undefined,
      scheduled: new ScheduledCommands(),
      skipped: new Set(),
      versions: new Map(versions),
      samples: new FoldSamples(),
      earlierDeadLetters: new Set(),
      quiet: undefined,
      era: this.#events.era,
    };
  }

  /**
   * Whether the reactions still make of some events the states that they made when the checkpoint was saved. If not, all events are
   * reacted to again, and the outputs of handled ones are discarded.
   */
  #isMadeByThisCode({ samples }: Progress): boolean {
    const found = this.#reactions.differing(samples.all);
    if (found === undefined) return true;
    this.#checkpointIsUsable = false;
    const { event, isRepeatable } = found;
    staleCache.publish(() => ({
      kind: "process-manager",
      name: this.#definition.name,
      event: `${event.stream.type}.${event.type}`,
      isRepeatable,
    }));
    return false;
  }

  /** Where the Rust crate's manager was. `checkpoint` is the crate's, if the crate has run since ours was made. */
  async #adopted(checkpoint: Checkpoint | undefined): Promise<AdoptedCheckpoint | undefined> {
    const { name } = this.#definition;
    const adopted = await findAdopted(this.#events, name);
    const isCrates = checkpoint?.untrusted !== undefined || checkpoint?.versions !== undefined;
    if (!isCrates && adopted !== undefined) return adopted;
    // Without a note of it, it may not have been taken over yet, or the log has lost the note.
    const { state, versions, untrusted } =
      (isCrates ? checkpoint : await this.#events.loadForeignCheckpoint?.("process-manager", name)) ?? {};
    if (untrusted !== undefined) await this.#refuse(untrusted);
    if (versions === undefined) return adopted;
    await adoptCheckpoint(this.#events, name, { state, versions: [...versions] });
    return findAdopted(this.#events, name);
  }

  /** `undefined` for a checkpoint of other code, or of the Rust crate. */
  #ofCheckpoint(checkpoint: Checkpoint): Progress | undefined {
    const { fingerprint, wanted } = this.#reactions;
    const { versions, untrusted } = checkpoint;
    if (versions !== undefined || untrusted !== undefined || checkpoint.fingerprint !== fingerprint) return undefined;
    const kept = checkpoint.state as ManagerCheckpoint;
    return {
      state: kept.state,
      cursor: new LogCursor(this.#events, checkpoint, wanted),
      sequence: kept.sequence,
      handlers: new HandlerProgress(kept),
      reacted: undefined,
      scheduled: new ScheduledCommands(kept.scheduled),
      skipped: new Set(),
      versions: new Map(kept.adoptedVersions),
      samples: new FoldSamples((checkpoint.samples ?? []) as readonly FoldSample[]),
      earlierDeadLetters: new Set(kept.deadLetters),
      quiet: undefined,
      era: this.#events.era,
    };
  }

  /** The note that names handlers of which the log does not know all. */
  async handlersNote({ handlers, versions }: Progress, names: readonly HandlerName[]): Promise<Note> {
    // The Rust crate's manager had handlers, and its checkpoint says what they have handled.
    const isAdopted = handlers.isEmpty && [...versions.values()].some((version) => version > 0);
    const from = this.#definition.startFrom === "now" && !isAdopted ? await this.#events.head() : 0;
    const named = names.map((name) => (handlers.has(name) ? name : { ...name, from }));
    const horizon = handlers.horizonFor(names) ?? (isAdopted ? 0 : await this.#events.head());
    const deadLetters = handlers.isEmpty ? await this.#earlierDeadLetters(isAdopted) : [];
    return { handlers: named, horizon, ...(deadLetters.length === 0 ? {} : { deadLetters }) };
  }

  /**
   * The dead letters of a manager that has no note. They say that it is not new: the log has lost its notes, or the Rust crate has
   * lost its checkpoint. Throws `UNTRUSTED_CHECKPOINT` if the crate may have handled events of which nothing tells.
   */
  async #earlierDeadLetters(isAdopted: boolean): Promise<string[]> {
    const { name, startFrom } = this.#definition;
    const letters = await this.#events.deadLetters(name);
    const ours = letters.filter(({ letter }) => letter["manager"] === name);
    if (ours.length < letters.length && !isAdopted && startFrom !== "now")
      throw new EventfoldError(
        "UNTRUSTED_CHECKPOINT",
        `process manager ${name}: expected a checkpoint of the Rust crate that says what it has handled, found only its dead letters; no command is sent. Restore process_managers/${name}/checkpoint.json from a backup. Or set startFrom: "now", so that the manager begins with the next event. Or delete process_managers/${name}, so that it reacts to every event again`,
      );
    if (ours.length > 0)
      untrustedProgress.publish(() => ({
        kind: "process-manager",
        name,
        problem: `the log has no notes of the manager, but there are ${ours.length} of its dead letters; it reacts to all events again, and sends no command that an event or a dead letter is known to come from`,
      }));
    return ours.map(({ key }) => key);
  }

  /** Nothing is sent as long as it is unknown what the Rust crate has sent. */
  async #refuse({ file, problem }: UntrustedCheckpoint): Promise<never> {
    const { name } = this.#definition;
    const notes = await this.#events.consumerNotes(name, 0);
    const isNoted = notes.some(({ note }) => (note as Note).handlers !== undefined);
    const remedy = isNoted
      ? "delete it, so that the manager continues after the events that it has handled itself"
      : 'delete it and set startFrom: "now", so that the manager begins with the next event; without startFrom, it reacts to every event again';
    throw new EventfoldError(
      "UNTRUSTED_CHECKPOINT",
      `process manager ${name}: expected a checkpoint of the Rust crate in ${file}, found one that cannot be trusted: ${problem}. It is unknown which events the crate has handled, so no command is sent. Restore the file from a backup. Or ${remedy}`,
    );
  }

  /** Says once why the state is not cached. */
  #report(problem: string): void {
    const { name } = this.#definition;
    if (!this.#isReported) uncachedState.publish(() => ({ kind: "process-manager", name, problem }));
    this.#isReported = true;
  }

  /** Saves a checkpoint, if it would be a newer one that can be trusted. */
  async save(progress: Progress): Promise<void> {
    const { cursor, reacted, sequence, skipped } = progress;
    if (!cursor.isVerified || cursor.position === this.#saved) return;
    // A checkpoint has only the notes of events that it has passed.
    for (const position of skipped) if (position > cursor.position) return;
    // A reaction that is not carried out yet may have changed the state.
    if (reacted !== undefined) return;
    // The checkpoint promises that every note after `sequence` comes after this place in the log. So there must be no unknown note.
    if ((await this.#events.consumerNotes(this.#definition.name, sequence)).length > 0) return;
    this.#saved = await this.#save(progress);
  }

  /** Returns the position of the checkpoint. */
  async #save(progress: Progress): Promise<number> {
    const { state, sequence, scheduled, handlers, versions, earlierDeadLetters, samples, cursor } = progress;
    const mark = cursor.mark();
    const problem = cacheProblem(state, "changing");
    if (problem !== undefined) {
      this.#report(problem);
      return mark.position;
    }
    const kept: ManagerCheckpoint = {
      state,
      sequence,
      scheduled: scheduled.all,
      ...handlers.save(),
      adoptedVersions: [...versions],
      ...(earlierDeadLetters.size === 0 ? {} : { deadLetters: [...earlierDeadLetters] }),
    };
    this.#checkpointIsUsable = true;
    const { fingerprint } = this.#reactions;
    await this.#events.saveCheckpoint("process-manager", this.#definition.name, {
      state: kept,
      fingerprint,
      samples: samples.all,
      ...mark,
      era: progress.era,
    });
    return mark.position;
  }

  /** The checkpoint belongs to another history than the log. */
  ignoreCheckpoint(): void {
    this.#checkpointIsUsable = false;
  }
}
