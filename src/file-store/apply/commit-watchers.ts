import type { StreamName } from "../../event-store/event-store.ts";
import { streamOfKey } from "../disk/stream-key.ts";
import type { CommitObserver, CommittedRecord } from "../log/committed-record.ts";

/** Those who want to know that something was committed. The last observer: when they are called, all others know the record. */
export class CommitWatchers implements CommitObserver {
  readonly #listeners = new Set<() => void>();
  readonly #foreignListeners = new Set<(stream: StreamName) => void>();

  watch(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Calls `listener` for each stream that another process has committed to, or the Rust crate has appended to. */
  watchForeign(listener: (stream: StreamName) => void): () => void {
    this.#foreignListeners.add(listener);
    return () => this.#foreignListeners.delete(listener);
  }

  onCommitted({ isOwn, sections }: CommittedRecord): void {
    if (this.#foreignListeners.size > 0) {
      for (const { key, adopted } of sections) {
        if (isOwn && !adopted) continue;
        const stream = streamOfKey(key);
        for (const listener of this.#foreignListeners) listener(stream);
      }
    }
    for (const listener of this.#listeners) listener();
  }
}
