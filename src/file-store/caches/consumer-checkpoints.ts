import type { Checkpoint, ConsumerKind, ConsumerNote } from "../../event-store/event-store.ts";
import type { LogReader } from "../log/log-reader.ts";
import type { NotesStart, ProgressLog } from "../progress/progress-log.ts";
import type { CheckpointFiles } from "./checkpoint-files.ts";

/**
 * The checkpoints of consumers, with what helps this store to go on from them: the place in the log before the checkpoint's
 * last event and, for a process manager, the sequence of its last note. All later notes are after that place, because they
 * were written after the checkpoint was.
 */
export class ConsumerCheckpoints {
  readonly #files: CheckpointFiles;
  readonly #reader: LogReader;
  readonly #progress: ProgressLog;
  /** By the process manager's name: the position of the place, and the sequence. */
  readonly #starts = new Map<string, { readonly position: number; readonly sequence: number }>();

  constructor(files: CheckpointFiles, reader: LogReader, progress: ProgressLog) {
    this.#files = files;
    this.#reader = reader;
    this.#progress = progress;
  }

  load(kind: ConsumerKind, name: string): Checkpoint | undefined {
    const saved = this.#files.load(kind, name);
    if (saved === undefined) return undefined;
    const { checkpoint, place, sequence } = saved;
    if (place !== undefined) {
      this.#reader.addHint(place);
      if (kind === "process-manager" && sequence !== undefined)
        this.#starts.set(name, { position: place.position, sequence });
    }
    return checkpoint;
  }

  /** That of the Rust crate. */
  loadForeign(kind: ConsumerKind, name: string): Checkpoint | undefined {
    return this.#files.loadForeign(kind, name);
  }

  list(kind: ConsumerKind): readonly string[] {
    return this.#files.list(kind);
  }

  async save(kind: ConsumerKind, name: string, checkpoint: Checkpoint): Promise<void> {
    const { last } = checkpoint;
    const place = last === undefined ? undefined : this.#reader.place(last.since);
    const sequence = kind === "process-manager" ? this.#progress.knownSequence(name) : undefined;
    await this.#files.save(kind, name, { checkpoint, place, sequence });
  }

  /** A process manager's notes after a sequence. */
  notes(name: string, after: number): readonly ConsumerNote[] {
    return this.#progress.notes(name, after, () => this.#start(name));
  }

  #start(name: string): NotesStart | undefined {
    const start = this.#starts.get(name);
    const place = start === undefined ? undefined : this.#reader.start(start.position + 1);
    return start === undefined || place === undefined ? undefined : { place, sequence: start.sequence };
  }
}
