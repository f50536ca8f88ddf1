import { initialOf } from "../aggregate/initial-state.ts";
import type { Checkpoint, EventStore } from "../event-store/event-store.ts";
import type { EventSources } from "../projection/event-sources.ts";
import { LogCursor } from "../projection/log-cursor.ts";
import { adoptCheckpoint, findAdopted } from "./adopted-checkpoint.ts";
import { HandlerProgress } from "./handler-progress.ts";
import type { ProcessManagerDefinition } from "./process-manager.ts";
import type { HandlerName, NamedHandler } from "./note.ts";
import { applyNote, type ManagerCheckpoint, type Progress } from "./progress.ts";
import { ScheduledCommands } from "./scheduled-commands.ts";

/** Where a process manager continues: from its checkpoint, from one of the Rust crate, or from the first event. */
export class ProgressLoader {
  readonly #definition: ProcessManagerDefinition;
  readonly #events: EventStore;
  readonly #sources: EventSources<unknown>;
  #checkpointIsUsable = true;

  constructor(definition: ProcessManagerDefinition, events: EventStore, sources: EventSources<unknown>) {
    this.#definition = definition;
    this.#events = events;
    this.#sources = sources;
  }

  /** The progress of the checkpoint with the notes that came after it. Writes nothing. */
  async peek(): Promise<Progress | undefined> {
    const { name } = this.#definition;
    const checkpoint = await this.#events.loadCheckpoint("process-manager", name);
    const progress = checkpoint === undefined ? undefined : this.#ofCheckpoint(checkpoint);
    if (progress === undefined) return undefined;
    for (const note of await this.#events.consumerNotes(name, progress.sequence)) applyNote(progress, note);
    return progress;
  }

  /** The progress before the notes that came after it, and the position of the checkpoint that it is from, 0 for none. */
  async load(): Promise<{ readonly progress: Progress; readonly saved: number }> {
    const { name, initial } = this.#definition;
    const checkpoint = this.#checkpointIsUsable
      ? await this.#events.loadCheckpoint("process-manager", name)
      : undefined;
    const kept = checkpoint === undefined ? undefined : this.#ofCheckpoint(checkpoint);
    if (checkpoint !== undefined && kept !== undefined) return { progress: kept, saved: checkpoint.position };
    if (checkpoint?.versions !== undefined)
      await adoptCheckpoint(this.#events, name, { state: checkpoint.state, versions: [...checkpoint.versions] });
    const adopted = await findAdopted(this.#events, name);
    const { state, versions } = adopted ?? { state: initialOf(initial), versions: [] };
    const progress: Progress = {
      state,
      cursor: new LogCursor(this.#events, 0, this.#sources.wanted),
      sequence: 0,
      handlers: new HandlerProgress(),
      reacted: undefined,
      scheduled: new ScheduledCommands(),
      versions: new Map(versions),
      quiet: undefined,
    };
    return { progress, saved: 0 };
  }

  /** `undefined` for a checkpoint of other code, or of the Rust crate. */
  #ofCheckpoint(checkpoint: Checkpoint): Progress | undefined {
    const { fingerprint, wanted } = this.#sources;
    if (checkpoint.versions !== undefined || checkpoint.fingerprint !== fingerprint) return undefined;
    const kept = checkpoint.state as ManagerCheckpoint;
    return {
      state: kept.state,
      cursor: new LogCursor(this.#events, checkpoint, wanted),
      sequence: kept.sequence,
      handlers: new HandlerProgress(kept),
      reacted: undefined,
      scheduled: new ScheduledCommands(kept.scheduled),
      versions: new Map(kept.adoptedVersions),
      quiet: undefined,
    };
  }

  /** The manager's handlers, with the positions after which those count that the log does not know. */
  async namedHandlers({ handlers, versions }: Progress, names: readonly HandlerName[]): Promise<NamedHandler[]> {
    // The Rust crate's manager had handlers, and its checkpoint says what they have handled.
    const isAdopted = handlers.isEmpty && versions.size > 0;
    const from = this.#definition.startFrom === "now" && !isAdopted ? await this.#events.head() : 0;
    return names.map((name) => (handlers.has(name) ? name : { ...name, from }));
  }

  /** Returns the position of the checkpoint. */
  async save({ state, sequence, scheduled, handlers, versions, cursor }: Progress): Promise<number> {
    const kept: ManagerCheckpoint = {
      state,
      sequence,
      scheduled: scheduled.all,
      ...handlers.save(),
      adoptedVersions: [...versions],
    };
    const mark = cursor.mark();
    this.#checkpointIsUsable = true;
    const { fingerprint } = this.#sources;
    await this.#events.saveCheckpoint("process-manager", this.#definition.name, { state: kept, fingerprint, ...mark });
    return mark.position;
  }

  /** The checkpoint belongs to another history than the log. */
  ignoreCheckpoint(): void {
    this.#checkpointIsUsable = false;
  }
}
