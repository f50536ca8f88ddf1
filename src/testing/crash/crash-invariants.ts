import { checkEvents, nameOf, type SeenEvent } from "./check-events.ts";
import { checkStoreFiles } from "./check-store-files.ts";
import type { CrashRemains } from "./crash-scenario.ts";

/** The part of `AggregateStore` that reads events. */
export interface EventReader {
  listStreams(): Promise<readonly { readonly type: string; readonly id: string }[]>;
  readEvents(type: string, id: string): AsyncIterable<SeenEvent>;
  close(): Promise<void>;
}

export interface InvariantOptions {
  /** The store's directory; `"/store"` if left out. */
  readonly directory?: string;
}

/**
 * The default check for `exploreCrashes` with an `AggregateStore`. Every acknowledged commit is there; every commit is
 * whole or absent; versions and positions have no holes; and both copies of every event, in the commit log and in the
 * stream's file, are the same. Returns one line for each event of the log, in global order, also for those of deleted instances, which readers no longer get.
 */
export async function checkInvariants(
  { disk, store, commits }: CrashRemains<EventReader>,
  { directory = "/store" }: InvariantOptions = {},
): Promise<readonly string[]> {
  const events: SeenEvent[] = [];
  for (const { type, id } of await store.listStreams())
    for await (const event of store.readEvents(type, id)) events.push(event);
  events.sort((a, b) => a.position - b.position);
  const others = checkStoreFiles(disk, directory, events);
  const all = [...events, ...others].sort((a, b) => a.position - b.position);
  checkEvents(all, commits);
  return all.map(nameOf);
}
