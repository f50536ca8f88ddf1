import { type Duration, milliseconds } from "../duration.ts";
import { EventfoldError } from "../errors.ts";
import { cutOfType } from "../cut.ts";
import type { EventStore, StreamName } from "../event-store/event-store.ts";
import { refreshBeforeReading } from "../event-store/freshness.ts";
import { HandlerProgress } from "../process-manager/handler-progress.ts";
import type { Note } from "../process-manager/note.ts";
import type { ProcessManagers } from "../process-manager/process-managers.ts";
import { type FullName, fullNameOf } from "../stream-names.ts";
import { monotonicNow } from "../real-timers.ts";
import { eventOf, subscriptionOf } from "../subscription/subscription-letters.ts";

/** Notes that are read at once. */
const NOTES = 500;

export interface StoreReclaimOptions {
  /** After this time, no further file is begun, and the next call goes on. Without it, all is done in one call. */
  readonly budget?: number | Duration;
  /** Ends the call with the signal's reason. The next call goes on. */
  readonly signal?: AbortSignal;
  /** Called before each segment of the commit log, and after the last one. */
  readonly onProgress?: (progress: { readonly segments: number; readonly totalSegments: number }) => void;
}

export interface StoreReclaimReport {
  /** False if the budget was used up, or the Rust crate held a stream's file: call it again. */
  readonly done: boolean;
  /** How many events of deleted and compacted instances were removed from the log. */
  readonly events: number;
  /** By how many bytes the log became smaller. */
  readonly bytes: number;
  /** Events of compacted instances that stay, because a process manager or a named subscription has not handled them yet. */
  readonly kept: number;
  /** The names of these process managers and subscriptions; empty if nothing is kept. */
  readonly keptFor: readonly string[];
}

/** Removes for good what no reader can get any more, and compresses the rest. */
export async function reclaimStore(
  events: EventStore,
  managers: ProcessManagers,
  { budget = Infinity, signal, onProgress }: StoreReclaimOptions,
): Promise<StoreReclaimReport> {
  if (events.reclaim === undefined)
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      "reclaim expected a store in a directory, found another storage, which keeps nothing that reclaim could remove",
    );
  const patience = budget === Infinity ? budget : milliseconds(budget, "budget");
  signal?.throwIfAborted();
  const started = monotonicNow();
  await dropLettersOfDeleted(events, managers);
  // The log then says of each of these managers that it needs no old event.
  await managers.noteReached();
  await refreshBeforeReading(events);
  const head = await events.head();
  const managing = await horizonsOfManagers(events);
  const subscribed = await positionsOfSubscriptions(events);
  const least = (positions: ReadonlyMap<string, number>): number =>
    [...positions.values()].reduce((smallest, position) => Math.min(smallest, position), head);
  const report = await events.reclaim({
    horizon: least(managing),
    after: least(subscribed),
    signal,
    onProgress,
    isOver: () => monotonicNow() - started > patience,
  });
  const behind = [...managing, ...subscribed].filter(([, position]) => position < head).map(([name]) => name);
  const { isDone, events: removed, bytes, kept } = report;
  return { done: isDone, events: removed, bytes, kept, keptFor: kept === 0 ? [] : [...new Set(behind)] };
}

/** Drops the dead letters whose command is for an instance that was deleted since, or was caused by one. */
async function dropLettersOfDeleted(events: EventStore, managers: ProcessManagers): Promise<void> {
  const deletions = new Map<FullName, Promise<number>>();
  const isDeletedAfter = async (stream: StreamName, time: number): Promise<boolean> => {
    const name = fullNameOf(stream);
    if (!deletions.has(name)) deletions.set(name, deletedAt(events, stream));
    return ((await deletions.get(name)) ?? 0) >= time;
  };
  for (const { key, processManager, aggregate, id, cause, timestamp } of await managers.deadLetters()) {
    if (processManager === undefined) continue;
    const isGone =
      (await isDeletedAfter({ type: aggregate, id }, timestamp)) ||
      (cause !== undefined && (await isDeletedAfter({ type: cause.aggregate, id: cause.id }, timestamp)));
    if (isGone) await managers.drop(key);
  }
}

/** The time of a stream's last deletion; -1 if the stream was not deleted. */
async function deletedAt(events: EventStore, stream: StreamName): Promise<number> {
  for await (const [first] of events.readStream(stream))
    if (first !== undefined) return cutOfType(first.type) === "deleted" ? first.timestamp : -1;
  return -1;
}

/** By name, the last position up to which each process manager counts compactions, according to the log. */
async function horizonsOfManagers(events: EventStore): Promise<Map<string, number>> {
  const horizons = new Map<string, number>();
  for (const name of await events.listConsumers()) {
    // The store's own consumers and subscriptions read no events by their notes.
    if (name.includes(":")) continue;
    const handlers = new HandlerProgress();
    for (let after = 0; ;) {
      const notes = await events.consumerNotes(name, after, NOTES);
      for (const { sequence, note } of notes) handlers.apply(sequence, note as Note);
      if (notes.length < NOTES) break;
      after = notes.at(-1)?.sequence ?? after;
    }
    horizons.set(name, handlers.horizon);
  }
  // One that only the Rust crate has run may go on here.
  for (const name of await events.listCheckpoints("process-manager"))
    if (!name.includes(":") && !horizons.has(name)) horizons.set(name, 0);
  return horizons;
}

/** By name, up to where each named subscription needs no event any more. Open dead letters need theirs. */
async function positionsOfSubscriptions(events: EventStore): Promise<Map<string, number>> {
  const positions = new Map<string, number>();
  for (const name of await events.listCheckpoints("subscription"))
    positions.set(name, (await events.loadCheckpoint("subscription", name))?.position ?? 0);
  for (const consumer of await events.listConsumers()) {
    const name = subscriptionOf(consumer);
    if (name === undefined) continue;
    for (const letter of await events.deadLetters(consumer)) {
      const position = eventOf(letter).position - 1;
      positions.set(name, Math.min(positions.get(name) ?? Infinity, position));
    }
  }
  return positions;
}
