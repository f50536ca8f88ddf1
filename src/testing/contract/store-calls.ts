import type {
  Commit,
  EventDraft,
  EventStore,
  Snapshot,
  StoredEvent,
  StreamName,
} from "../../event-store/event-store.ts";
import { PATIENCE_MS, show } from "./expect.ts";
import { monotonicNow, sleep } from "../../real-timers.ts";

export const ADA: StreamName = { type: "account", id: "ada" };
export const BOB: StreamName = { type: "account", id: "bob" };
export const ORDER: StreamName = { type: "order", id: "1" };

/** A snapshot of a stream with two events that are the first of the store. */
export const SNAPSHOT: Snapshot = {
  state: { balance: 5, list: [null, "ü"] },
  version: 2,
  position: 2,
  fingerprint: "f1",
};

/** Commits, and throws if the store refuses. */
export async function mustCommit(store: EventStore, commit: Commit): Promise<void> {
  const result = await store.commit(commit);
  if (!result.ok) throw new Error(`the commit was refused: ${show(result)}`);
}

/** Saves a snapshot until it can be loaded: a busy store may leave one out. */
export async function keepSnapshot(store: EventStore, name: StreamName, snapshot: Snapshot): Promise<void> {
  const { version, fingerprint } = snapshot;
  for (const end = monotonicNow() + PATIENCE_MS; monotonicNow() < end; await sleep(5)) {
    await store.saveSnapshot(name, snapshot);
    if ((await store.loadSnapshot(name, fingerprint))?.version === version) return;
  }
  throw new Error(`no snapshot of version ${version} was kept within ${PATIENCE_MS} ms`);
}

export function draft(type: string, data = "null"): EventDraft {
  return { type, data, schemaVersion: 0, timestamp: 1_700_000_000_000 };
}

/** A commit of one event of each type to one stream. */
export function append(name: StreamName, expectedVersion: number, ...types: string[]): Commit {
  return { appends: [{ stream: name, expectedVersion, events: types.map((type) => draft(type)) }] };
}

/** All events of the store, or those from a position on. */
export function all(store: EventStore, from?: number): Promise<StoredEvent[]> {
  return collect(store.readAll(from === undefined ? undefined : { from }));
}

/** All events of a stream, or those from a version on. */
export function stream(store: EventStore, name: StreamName, from?: number): Promise<StoredEvent[]> {
  return collect(store.readStream(name, from === undefined ? undefined : { from }));
}

export async function collect(batches: AsyncIterable<readonly StoredEvent[]>): Promise<StoredEvent[]> {
  const events: StoredEvent[] = [];
  for await (const batch of batches) for (const event of batch) events.push(event);
  return events;
}

/** 1, 2, … `count`. */
export function numbers(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i + 1);
}
