import { anyAborted } from "../abort.ts";
import type { AnyContract } from "../aggregate/aggregate.ts";
import type { RecordedEvent } from "../aggregate/messages.ts";
import { EventfoldError } from "../errors.ts";
import { CommitSignal } from "../event-store/commit-signal.ts";
import type { EventStore } from "../event-store/event-store.ts";
import { refreshBeforeReading } from "../event-store/freshness.ts";
import { checkConsumerName } from "../projection/consumer-name.ts";
import { ChangedHistoryError, LogCursor } from "../projection/log-cursor.ts";
import { type EventFilter, EventSelection, type ReaderOf } from "./event-filter.ts";
import { callSafely } from "../realm.ts";
import { monotonicNow, startTimer } from "../real-timers.ts";

/** A handler that fails is tried again after this long, then twice as long, and so on. */
const FIRST_RETRY_MS = 50;
const LONGEST_RETRY_MS = 30_000;
/** The position of a named subscription is saved after this much time, and when it ends. */
const SAVE_AFTER_MS = 200;

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
   * Told each time a handler fails (then with the event) or the events cannot be read; both are tried again, with growing pauses. If
   * left out, the error goes to the console. A loop gets its errors thrown instead.
   */
  readonly onError?: (error: unknown, event: RecordedEvent | undefined) => void;
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
}

/** Delivers events in global order: first those that are there, then each new one, without a gap or a double. */
export function subscribe(
  source: SubscriptionSource,
  options: SubscribeOptions,
): AsyncGenerator<RecordedEvent, void, undefined> {
  checkOptions(source, options);
  const optionsWithStart = withStart(source.events, options);
  const run = async function* (): AsyncGenerator<RecordedEvent, void, undefined> {
    const release = reserveName(source, options);
    source.loops.add(loop);
    try {
      yield* follow(source, optionsWithStart, {});
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
}

async function* follow(
  source: SubscriptionSource,
  options: WithStart,
  place: SubscriptionPlace,
): AsyncGenerator<RecordedEvent, void, undefined> {
  const { events } = source;
  const { name, signal } = options;
  const selection = new EventSelection(options, source.reader);
  const { signal: ended, release } = anyAborted([signal, source.closing]);
  const commits = new CommitSignal(events, ended);
  let saved = { position: 0, time: 0 };
  const save = async (final: boolean): Promise<void> => {
    const { cursor } = place;
    if (name === undefined || cursor === undefined || cursor.position === saved.position || !cursor.isVerified) return;
    if (!final && monotonicNow() - saved.time < SAVE_AFTER_MS) return;
    const mark = cursor.mark();
    try {
      await events.saveCheckpoint("subscription", name, { state: null, ...mark });
      saved = { position: mark.position, time: monotonicNow() };
    } catch {
      // Tried again later; if that never succeeds, events come again.
      saved = { ...saved, time: monotonicNow() };
    }
  };
  try {
    const cursor = (place.cursor ??= await startOf(events, options));
    saved = { position: cursor.position, time: monotonicNow() };
    while (!ended.aborted) {
      commits.reset();
      try {
        await refreshBeforeReading(events);
        for await (const batch of place.cursor.read()) {
          for (const event of batch) {
            if (ended.aborted) return;
            for (const recorded of selection.of(event)) yield recorded;
            // The reader has handled an event when it asks for the next one.
            place.cursor.pass(event);
            if (name !== undefined && monotonicNow() - saved.time >= SAVE_AFTER_MS) await save(false);
          }
        }
      } catch (error) {
        if (!(error instanceof ChangedHistoryError)) throw error;
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
  options: SubscribeOptions,
  handler: (event: RecordedEvent) => unknown,
  place: SubscriptionPlace,
): Subscription {
  checkOptions(source, options);
  const release = reserveName(source, options);
  const optionsWithStart = withStart(source.events, options);
  const stop = new AbortController();
  const { signal: ended, release: unlink } = anyAborted([options.signal, stop.signal, source.closing]);
  /** Does something until it succeeds. False when the end came first. */
  const untilDone = async (work: () => unknown, event?: RecordedEvent): Promise<boolean> => {
    for (let wait = FIRST_RETRY_MS; ; wait = Math.min(wait * 2, LONGEST_RETRY_MS)) {
      try {
        await work();
        place.failure = undefined;
        return true;
      } catch (error) {
        place.failure = { error };
        reportError(options, error, event);
        await pause(wait, ended);
        if (ended.aborted) return false;
      }
    }
  };
  const done = untilDone(async () => {
    for await (const event of follow(source, { ...optionsWithStart, signal: ended }, place)) {
      // Not handled: the position must not move on.
      if (!(await untilDone(() => handler(event), event))) return;
    }
  }).then(() => {
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

function reportError({ onError }: SubscribeOptions, error: unknown, event: RecordedEvent | undefined): void {
  // Without a listener the error must neither pass unnoticed nor end the program.
  if (onError === undefined) console.error(error);
  // A listener that fails must not end the subscription.
  callSafely(() => onError?.(error, event));
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
  return checkpoint === undefined ? beginningOf(events, options) : new LogCursor(events, checkpoint);
}

async function beginningOf(events: EventStore, { after }: WithStart): Promise<LogCursor> {
  return new LogCursor(events, await after);
}

function checkOptions({ reader }: SubscriptionSource, options: SubscribeOptions): void {
  const { from, name } = options;
  void new EventSelection(options, reader);
  if (name !== undefined) checkConsumerName("subscription", name);
  if (from !== undefined && from !== "now" && !(Number.isSafeInteger(from) && from >= 1)) {
    throw new EventfoldError("INVALID_ARGUMENT", `from is a position, 1 or more, or "now"; not ${String(from)}`);
  }
}

function pause(ms: number, ended: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const finish = (): void => {
      cancel();
      ended.removeEventListener("abort", finish);
      resolve();
    };
    const cancel = startTimer(finish, ms, "foreground");
    ended.addEventListener("abort", finish);
    if (ended.aborted) finish();
  });
}
