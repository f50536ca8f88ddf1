import type { EventStore } from "./event-store.ts";

/**
 * Makes the reads that follow see every commit that was acknowledged before this call, in any process. A store with
 * `refreshNow` looks in each read by itself, so there is nothing to wait for.
 */
export async function refreshBeforeReading(store: EventStore): Promise<void> {
  if (store.refreshNow === undefined) await store.refresh();
}
