import type { CommitResult, EventStore, EventStoreCapabilities } from "../event-store/event-store.ts";
import { readOnlyStore } from "../event-store/read-only.ts";
import { FileEventReader, storeClosed } from "./file-event-reader.ts";
import type { ReadingParts } from "./store-parts.ts";

/** A store in a directory that writes nothing. Foreign lines are not part of it before a store that writes has adopted them. */
export class ReadOnlyFileStore extends FileEventReader implements EventStore {
  readonly capabilities: EventStoreCapabilities = { durable: true, multiProcess: true };
  readonly #closeFiles: () => void;
  #isClosed = false;

  constructor(parts: ReadingParts) {
    super(parts);
    this.#closeFiles = parts.closeFiles;
  }

  commit(): Promise<CommitResult> {
    return Promise.reject(readOnlyStore("a commit"));
  }

  /** A copy of a store that is used needs its lock for a moment, which only a store that writes has. */
  backup(): Promise<never> {
    return Promise.reject(readOnlyStore("backup"));
  }

  /** Keeps nothing. */
  async saveCheckpoint(): Promise<void> {}

  /** Keeps nothing. */
  async saveSnapshot(): Promise<void> {}

  async close(): Promise<void> {
    if (!this.#isClosed) this.#closeFiles();
    this.#isClosed = true;
  }

  protected override checkOpen(): void {
    if (this.#isClosed) throw storeClosed();
  }

  protected override async adopt(): Promise<void> {}

  protected override async lookForForeignLines(): Promise<void> {}

  protected override async complete(): Promise<boolean> {
    return false;
  }

  protected override isUnsettled(): boolean {
    return false;
  }
}
