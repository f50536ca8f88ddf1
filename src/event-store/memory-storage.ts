import type { EventStorage } from "./event-storage.ts";
import type { CommitResult } from "./event-store.ts";
import { MemoryContent, MemoryEventStore } from "./memory-event-store.ts";
import { readOnlyStore } from "./read-only.ts";

/**
 * A storage that keeps events in memory, for tests, prototypes and browsers. The events live as long as the returned storage: a
 * store that is opened on it again finds them, and two open stores share them. Each call of `memory()` returns a new, empty one.
 */
export function memory(): EventStorage {
  const content = new MemoryContent();
  return {
    name: "memory()",
    open: async () => new MemoryEventStore(content),
    openReadOnly: async () => new ReadOnlyMemoryStore(content),
  };
}

class ReadOnlyMemoryStore extends MemoryEventStore {
  override commit(): Promise<CommitResult> {
    return Promise.reject(readOnlyStore("a commit"));
  }

  override async saveCheckpoint(): Promise<void> {}

  override async saveSnapshot(): Promise<void> {}
}
