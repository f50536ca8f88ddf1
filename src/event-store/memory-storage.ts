import type { EventStorage } from "./event-storage.ts";
import { MemoryContent, MemoryEventStore } from "./memory-event-store.ts";

/**
 * A storage that keeps events in memory, for tests, prototypes and browsers. The events live as long as the returned storage: a
 * store that is opened on it again finds them, and two open stores share them. Each call of `memory()` returns a new, empty one.
 */
export function memory(): EventStorage {
  const content = new MemoryContent();
  return { name: "memory()", open: async () => new MemoryEventStore(content) };
}
