import type { EventStore } from "./event-store.ts";

/** What the builder of an aggregate store passes to its storage. */
export interface StorageOptions {
  /**
   * When `commit` may resolve. `"flush"`: when the commit is on stable storage. `"os"`: when the operating system or the server has
   * it. A storage without such a choice ignores it.
   */
  readonly durability: "flush" | "os";
  /**
   * Whether readers wait until all streams have been searched for events that the Rust crate has appended, in a store of any size
   * (`"await"`). A storage that shares no directory with the Rust crate ignores it.
   */
  readonly foreignEvents?: "auto" | "await";
  /** How long a commit waits for another process that keeps the store to itself, in milliseconds. A storage without such locks ignores it. */
  readonly lockTimeout?: number;
  /** The store's clock, in milliseconds since 1970. */
  readonly now: () => number;
  /** Makes a unique id: the `ids` of the builder, UUIDs by default. */
  readonly nextId: () => string;
}

/**
 * Where an aggregate store keeps its events: `memory()`, or a storage of your own for `AggregateStore.builder` and `AggregateStore.open`.
 * The suite `eventStoreContract` of `eventfold-es/testing` tests the event stores that it opens.
 */
export interface EventStorage {
  /** Names the storage in error messages, e.g. `memory()`. */
  readonly name: string;
  /**
   * Opens an event store, which the aggregate store closes. Each call opens one: two that are open at the same time must see each
   * other's commits, as two processes would. Throws an `EventfoldError` if that is not possible.
   */
  open(options: StorageOptions): Promise<EventStore>;
  /**
   * Opens an event store that writes nothing, neither now nor later: `commit` rejects with `READ_ONLY`, and snapshots and checkpoints are
   * not kept. It sees the commits of others. `readOnly()` of the builder refuses a storage without this method.
   */
  openReadOnly?(options: StorageOptions): Promise<EventStore>;
}
