import { anyAborted } from "../abort.ts";
import type { AnyContract } from "../aggregate/aggregate.ts";
import type { RecordedEvent } from "../aggregate/messages.ts";
import { EventfoldError } from "../errors.ts";
import { CommitSignal } from "../event-store/commit-signal.ts";
import type { EventStore, NameLease, StoredEvent } from "../event-store/event-store.ts";
import { refreshBeforeReading } from "../event-store/freshness.ts";
import { checkConsumerName } from "../projection/consumer-name.ts";
import { ChangedHistoryError, LogCursor } from "../projection/log-cursor.ts";
import { type EventFilter, EventSelection, type ReaderOf } from "./event-filter.ts";
import { type Delivered, EventDelivery } from "./event-delivery.ts";
import { checkRetry, pause, type RetryOptions } from "./retry.ts";
import { SubscriptionLetters } from "./subscription-letters.ts";
import { monotonicNow } from "../real-timers.ts";

/** A process that waits for the exclusive use of a name looks this often whether it is free, in ms. */
const LOOK_FOR_NAME_MS = 100;
/** The position of a named subscription is saved after this much time, and when it ends. */
const SAVE_AFTER_MS = 200;
/** A store with personal data is asked this often, while a reader works on many events, whether a person was forgotten. */
const LOOK_AFTER_MS = 100;

export interface SubscribeOptions<
  N extends AnyContract | string = AnyContract | string,
  T extends string = string,
> extends EventFilter<N, T> {
  /** First position to deliver, or `"now"` for what is committed from now on; 1 if left out. A named subscription goes on where it was. */
  readonly from?: number | "now";
  /** Ends the subscription. */
  readonly signal?: AbortSignal;
  /**
   * Keeps the position under this name, so that the next run continues after the last handled event: one whose handler
   * has returned, or, in a loop, one after which the next was asked for. It is kept now and then and at the end, so after a
   * crash (and after a `break` in the loop) events come again. One subscription at a time may use a name.
   */
  readonly name?: string;
  /**
   * Waits until no other process has this named subscription running, so that one at a time works on it. When that one ends, in whatever
   * way, the next one continues after the position that was saved.
   */
  readonly exclusive?: boolean;
  /**
   * Told each time a handler fails (then with the event) or the events cannot be read; both are tried again, with growing pauses. If
   * left out, the error goes to the console. A loop gets its errors thrown instead.
   */
  readonly onError?: (error: unknown, event: RecordedEvent | undefined) => void;
}

/** Options of a subscription with a handler. */
export interface HandlerOptions<
  N extends AnyContract | string = AnyContract | string,
  T extends string = string,
> extends SubscribeOptions<N, T> {
  /** After so many attempts, an event becomes a dead letter of the subscription, which needs a name. If left out, the handler is tried for ever. */
  readonly retry?: RetryOptions;
  /** With `"instance"`, the events of an instance that come after a dead letter become dead letters, too, until that one is replayed or dropped. */
  readonly order?: "instance";
}

/** What a subscription needs of its store. */
export interface SubscriptionSource {
  readonly events: EventStore;
  readonly reader: ReaderOf;
  /** Aborted when the store closes. */
  readonly closing: AbortSignal;
  /** The loops that are under way: what closes the store ends them. */
  readonly loops: Set<AsyncGenerator<RecordedEvent, void, undefined>>;
  /** The names of the subscriptions that are under way. */
  readonly names: Set<string>;
  /** Throws if another store of this process runs a subscription of this name. */
  readonly checkName: (name: string) => void;
  /** The store's clock, in milliseconds since 1970. */
  readonly now: () => number;
  /** What the pauses between attempts are measured with: the clock that the program has injected, or a monotonic one. */
  readonly backoffClock: () => number;
}

/** Delivers events in global order: first those that are there, then each new one, without a gap or a double. */
export function subscribe(
  source: SubscriptionSource,
  options: SubscribeOptions,
): AsyncGenerator<RecordedEvent, void, undefined> {
  checkOptions(source, options);
  const { retry, order } = options as HandlerOptions;
  if (retry !== undefined || order !== undefined)
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      "retry and order expected a handler; a loop handles its errors by itself",
    );
  const optionsWithStart = withStart(source.events, options);
  const run = async function* (): AsyncGenerator<RecordedEvent, void, undefined> {
    const release = reserveName(source, options);
    source.loops.add(loop);
    try {
      for await (const { recorded } of follow(source, optionsWithStart, {})) yield* recorded;
    } finally {
      source.loops.delete(loop);
      release();
    }
  };
  const loop = run();
  return loop;
}

/** Where a subscription is. A reader that tries again after a failure continues there. */
export interface SubscriptionPlace {
  cursor?: LogCursor;
  /** The error of the last attempt, if it failed. */
  failure?: { readonly error: unknown } | undefined;
  /** Gives the event of a dead letter to the handler once more, and removes the letter. */
  replay?: (key: string) => Promise<void>;
}

async function readAgain(
  events: EventStore,
  selection: EventSelection,
  event: StoredEvent,
): Promise<readonly RecordedEvent[]> {
  await refreshBeforeReading(events);
  return selection.of(event);
}

async function* follow(
  source: SubscriptionSource,
  options: WithStart,
  place: SubscriptionPlace,
): AsyncGenerator<Delivered, void, undefined> {
  const { events } = source;
  const { name, signal, exclusive } = options;
  const selection = new EventSelection(options, source.reader);
  const { signal: ended, release } = anyAborted([signal, source.closing]);
  const commits = new CommitSignal(events, ended);
  let saved = { position: 0, time: 0 };
  const save = async (final: boolean): Promise<void> => {
    const { cursor } = place;
    if (name === undefined || cursor === undefined || cursor.position === saved.position || !cursor.isVerified) return;
    if (!final && monotonicNow() - saved.time < SAVE_AFTER_MS) return;
    if (lease?.isHeld() === false) throw lostName(name);
    const mark = cursor.mark();
    try {
      await events.saveCheckpoint("subscription", name, { state: null, ...mark });
      saved = { position: mark.position, time: monotonicNow() };
    } catch {
      // Tried again later; if that never succeeds, events come again.
      saved = { ...saved, time: monotonicNow() };
    }
  };
  let lease: NameLease | undefined;
  try {
    if (exclusive === true && name !== undefined) lease = await exclusiveUse(events, name, ended);
    if (ended.aborted) return;
    const cursor = (place.cursor ??= await startOf(events, options));
    saved = { position: cursor.position, time: monotonicNow() };
    while (!ended.aborted) {
      commits.reset();
      try {
        await refreshBeforeReading(events);
        let looked = monotonicNow();
        for await (const batch of place.cursor.read()) {
          for (const event of batch) {
            if (ended.aborted) return;
            // The reader may be slow, and a person forgotten meanwhile.
            if (events.era !== undefined && monotonicNow() - looked > LOOK_AFTER_MS) {
              await refreshBeforeReading(events);
              looked = monotonicNow();
            }
            const recorded = selection.of(event);
            const again = events.era === undefined ? undefined : () => readAgain(events, selection, event);
            if (recorded.length > 0) yield { event, recorded, again };
            // The reader has handled an event when it asks for the next one.
            place.cursor.pass(event);
            if (name !== undefined && monotonicNow() - saved.time >= SAVE_AFTER_MS) await save(false);
          }
        }
      } catch (error) {
        if (!(error instanceof ChangedHistoryError)) throw error;
        if (name === undefined && error.reclaimed !== undefined) {
          // The reader has to know that it gets events again. One that is tried again begins anew.
          delete place.cursor;
          throw error.reclaimed;
        }
        place.cursor = await beginningOf(events, options);
        continue;
      }
      while (!ended.aborted && !(await commits.wait(SAVE_AFTER_MS))) await save(false);
    }
  } catch (error) {
    // The store was closed while we were reading: the end, not a failure.
    if (!ended.aborted) throw error;
  } finally {
    commits.close();
    release();
    await save(true);
    lease?.release();
    // Another process may go on from here, so the next attempt begins at the saved position.
    if (lease !== undefined) delete place.cursor;
  }
}

/** A subscription that calls a handler. */
export interface Subscription {
  /** Resolves when it has ended. */
  readonly done: Promise<void>;
  /**
   * Ends it once the handler is done with the event that it has. A handler must not wait for it, nor for the store's
   * `close`: each would wait for the other.
   */
  close(): Promise<void>;
}

/** Calls `handler` for each event, one after the other; a handler that fails is called again with the same event, with growing pauses. */
export function handleEach(
  source: SubscriptionSource,
  options: HandlerOptions,
  handler: (event: RecordedEvent) => unknown,
  place: SubscriptionPlace,
): Subscription {
  checkOptions(source, options);
  checkHandlerOptions(options);
  const release = reserveName(source, options);
  const optionsWithStart = withStart(source.events, options);
  const stop = new AbortController();
  const { signal: ended, release: unlink } = anyAborted([options.signal, stop.signal, source.closing]);
  const delivery = new EventDelivery(source, options, handler, { place, ended });
  place.replay = (key) => delivery.replay(key);
  const done = delivery
    .untilDone(async () => {
      for await (const delivered of follow(source, { ...optionsWithStart, signal: ended }, place)) {
        // Not handled: the position must not move on.
        if (!(await delivery.deliver(delivered))) return;
      }
    })
    .then(() => {
      unlink();
      release();
    });
  return {
    done,
    close: async () => {
      stop.abort();
      await done;
    },
  };
}

/** Waits until no other process uses a name. `undefined` if the end came first. */
async function exclusiveUse(events: EventStore, name: string, ended: AbortSignal): Promise<NameLease | undefined> {
  while (!ended.aborted) {
    const lease = await events.acquireName?.(name);
    if (lease !== undefined) return lease;
    await pause(LOOK_FOR_NAME_MS, ended);
  }
  return undefined;
}

function lostName(name: string): EventfoldError {
  return new EventfoldError(
    "STORE_REPLACED",
    `the lock of the exclusive subscription ${name} is not at its place any more, so another process may have taken the name; put the store's directory back`,
  );
}

/** Reserves a subscription's name: two subscriptions of one name would overwrite each other's position. Returns the function that frees it. */
function reserveName({ names, checkName }: SubscriptionSource, { name }: SubscribeOptions): () => void {
  if (name === undefined) return () => {};
  if (names.has(name))
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `there is a subscription ${JSON.stringify(name)} already; end it first`,
    );
  checkName(name);
  names.add(name);
  return () => void names.delete(name);
}

/** Options with `"now"` made a position: that of the call, not of the first event that is asked for. */
function withStart(events: EventStore, options: SubscribeOptions): WithStart {
  const { from = 1 } = options;
  if (from !== "now") return { ...options, after: Promise.resolve(from - 1) };
  const after = events.head();
  // The reader gets the error.
  after.catch(() => {});
  return { ...options, after };
}

type WithStart = SubscribeOptions & { readonly after: Promise<number> };

async function startOf(events: EventStore, options: WithStart): Promise<LogCursor> {
  const { name } = options;
  const checkpoint = name === undefined ? undefined : await events.loadCheckpoint("subscription", name);
  if (checkpoint === undefined) return beginningOf(events, options);
  const passed = await passedOf(events, options);
  if (checkpoint.position >= passed) return new LogCursor(events, checkpoint);
  const cursor = new LogCursor(events, passed);
  cursor.begin(Math.max(passed, checkpoint.horizon ?? 0));
  return cursor;
}

async function beginningOf(events: EventStore, options: WithStart): Promise<LogCursor> {
  const after = await options.after;
  const passed = await passedOf(events, options);
  const cursor = new LogCursor(events, Math.max(after, passed));
  // What replaces events from before "now", or from before the last dead letter, is not new.
  if (options.from === "now") cursor.begin(after);
  else if (passed > 0) cursor.begin(passed);
  return cursor;
}

/** Up to where a named subscription has dealt with all events when it last wrote a dead letter: the log knows, whatever became of the checkpoint. */
async function passedOf(events: EventStore, { name }: WithStart): Promise<number> {
  return name === undefined ? 0 : new SubscriptionLetters(events, name).passed();
}

function checkOptions({ reader, events }: SubscriptionSource, options: SubscribeOptions): void {
  const { from, name, exclusive } = options;
  if (exclusive === true && name === undefined)
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      "exclusive expected a name beside it, which one process at a time uses",
    );
  if (exclusive === true && events.acquireName === undefined)
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      "exclusive expected a storage that can lock a name between processes, as files can; run this subscription in one process",
    );
  void new EventSelection(options, reader);
  if (name !== undefined) checkConsumerName("subscription", name);
  if (from !== undefined && from !== "now" && !(Number.isSafeInteger(from) && from >= 1)) {
    throw new EventfoldError("INVALID_ARGUMENT", `from is a position, 1 or more, or "now"; not ${String(from)}`);
  }
}

function checkHandlerOptions({ name, retry, order }: HandlerOptions): void {
  if (retry !== undefined) checkRetry(retry);
  if (order !== undefined && order !== "instance")
    throw new EventfoldError("INVALID_ARGUMENT", `order expected "instance", found ${JSON.stringify(order)}`);
  if (order !== undefined && retry === undefined)
    throw new EventfoldError("INVALID_ARGUMENT", "order expected retry beside it: without it, all later events wait");
  if (retry !== undefined && name === undefined)
    throw new EventfoldError("INVALID_ARGUMENT", "retry expected a name beside it, which the dead letters have");
}
