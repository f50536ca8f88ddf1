import { EventfoldError } from "../errors.ts";
import { turn } from "../event-loop.ts";
import type { EventStore, StoredDeadLetter } from "../event-store/event-store.ts";
import { cutOfType } from "../cut.ts";
import { eventDigest } from "../event-store/event-digest.ts";
import { refreshBeforeReading } from "../event-store/freshness.ts";
import { compareCodePoints } from "../event-store/stream-order.ts";
import { droppedLine, type EventLine, eventLine, lineText, type NoteLine, TRANSFER_FORMAT } from "./transfer-line.ts";

const NOTES = 500;

export interface ExportOptions {
  /** Ends the export with the signal's reason. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: TransferProgress) => void;
}

export interface TransferProgress {
  /** Events that were read so far. */
  readonly events: number;
  /** Position of the last event that the export has. */
  readonly head: number;
}

/**
 * The lines of a store as it is when the reading begins. Notes come before events: wherever an import is cut off, no process manager
 * there takes an event for new whose commands were sent here.
 */
export async function* exportStore(
  store: EventStore,
  { signal, onProgress = () => {} }: ExportOptions,
): AsyncGenerator<string, void, undefined> {
  // In this order, so that no subscription is further than the events.
  const subscriptions = await subscriptionsOf(store);
  await refreshBeforeReading(store);
  const { head, consumers } = await store.progress();
  yield lineText({ "eventfold-es": "export", format: TRANSFER_FORMAT, head, first: await firstEvent(store) });
  let notes = 0;
  for (const [name, sequence] of await managersOf(store, consumers)) {
    for await (const line of notesOf(store, name, sequence)) {
      signal?.throwIfAborted();
      notes++;
      yield lineText(line);
    }
  }
  let events = 0;
  let position = 0;
  onProgress({ events, head });
  for await (const batch of store.readAll({ to: head, horizon: head })) {
    for (const event of batch) {
      signal?.throwIfAborted();
      for await (const line of leftOut(store, position + 1, event.position - 1, head)) {
        events++;
        yield lineText(line);
      }
      ({ position } = event);
      events++;
      yield lineText(eventLine(event));
    }
    onProgress({ events, head });
    await turn();
  }
  for await (const line of leftOut(store, position + 1, head, head)) {
    events++;
    yield lineText(line);
  }
  for (const subscription of subscriptions) yield lineText(subscription);
  yield lineText({ end: true, events, notes });
}

/** Identifies the first event of a store; nothing if it has none, or if that one was dropped. */
export async function firstEvent(store: EventStore): Promise<string | undefined> {
  for await (const batch of store.readAll({ to: 1 })) for (const event of batch) return eventDigest(event);
  return undefined;
}

/** The lines of the events that readers do not get: the places of those that are dropped, and the first events of compactions. */
async function* leftOut(
  store: EventStore,
  from: number,
  to: number,
  head: number,
): AsyncGenerator<EventLine, void, undefined> {
  if (from > to) return;
  for await (const batch of store.readAll({ from, to, dropped: true })) {
    for (const event of batch) {
      const isCut = cutOfType(event.type) !== undefined && !(await store.isDropped(event.position, head));
      yield isCut ? eventLine(event) : droppedLine(event);
    }
  }
}

/** Those with notes or dead letters, and those of which there is only a checkpoint of the Rust crate. */
async function managersOf(
  store: EventStore,
  consumers: ReadonlyMap<string, number>,
): Promise<readonly (readonly [name: string, sequence: number])[]> {
  const names = new Set([...consumers.keys(), ...(await store.listCheckpoints("process-manager"))]);
  return [...names].sort(compareCodePoints).map((name) => [name, consumers.get(name) ?? 0]);
}

async function* notesOf(store: EventStore, name: string, last: number): AsyncGenerator<NoteLine, void, undefined> {
  const deadLetters = await store.deadLetters(name);
  let known: string | undefined;
  let sequence = 0;
  // The last note has the letters, so it waits for what follows.
  let waiting: NoteLine | undefined;
  while (sequence < last) {
    const notes = await store.consumerNotes(name, sequence, NOTES);
    if (notes.length === 0) break;
    for (const { sequence: next, note } of notes) {
      if (next > last) break;
      if (waiting !== undefined) yield waiting;
      waiting = { manager: name, sequence: next, note };
      const { adopted: found } = note as { readonly adopted?: unknown };
      if (found !== undefined) known = JSON.stringify(found);
    }
    sequence = notes.at(-1)?.sequence ?? last;
  }
  const adopted = await crateCheckpoint(store, name, known !== undefined);
  if (adopted !== undefined && JSON.stringify(adopted) !== known) {
    if (waiting !== undefined) yield waiting;
    waiting = { manager: name, sequence: last + 1, note: { adopted } };
  }
  if (waiting === undefined && deadLetters.length > 0) waiting = { manager: name, sequence: last + 1, note: {} };
  if (waiting !== undefined) yield withLetters(waiting, deadLetters);
}

function withLetters(line: NoteLine, deadLetters: readonly StoredDeadLetter[]): NoteLine {
  return deadLetters.length === 0 ? line : { ...line, deadLetters };
}

/** What a process manager takes over from the Rust crate when it runs next, in the form of its note. */
async function crateCheckpoint(store: EventStore, name: string, isNoted: boolean): Promise<object | undefined> {
  const kind = "process-manager";
  const newest = await store.loadCheckpoint(kind, name);
  const isCrates = newest?.versions !== undefined || newest?.untrusted !== undefined;
  const checkpoint = isCrates || isNoted ? newest : await store.loadForeignCheckpoint?.(kind, name);
  if (checkpoint?.untrusted !== undefined)
    throw new EventfoldError(
      "UNTRUSTED_CHECKPOINT",
      `expected a checkpoint of the Rust crate in ${checkpoint.untrusted.file}, found one that cannot be trusted: ${checkpoint.untrusted.problem}. It is unknown which events the process manager ${name} has handled; run it in this store first, which says what to do`,
    );
  if (checkpoint?.versions === undefined) return undefined;
  return { state: checkpoint.state, versions: [...checkpoint.versions] };
}

/** How far the named subscriptions are. */
async function subscriptionsOf(store: EventStore) {
  const found = [];
  for (const name of await store.listCheckpoints("subscription")) {
    const checkpoint = await store.loadCheckpoint("subscription", name);
    if (checkpoint === undefined) continue;
    const { position, horizon, last } = checkpoint;
    found.push({ subscription: name, position, horizon, last });
  }
  return found;
}
