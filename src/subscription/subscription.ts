import type { AnyContract } from "../aggregate/aggregate.ts";
import { recordedEvent } from "../aggregate/event-reader.ts";
import type { RecordedEvent } from "../aggregate/messages.ts";
import { EventfoldError } from "../errors.ts";
import type { EventStore, StoredEvent } from "../event-store/event-store.ts";
import { checkConsumerName } from "../projection/consumer-name.ts";

/** Commits of other processes are noticed by looking this often, while a subscription waits. */
const POLL_MS = 25;
/** A handler that fails is tried again after this long, then twice as long, and so on. */
const FIRST_RETRY_MS = 50;
const LONGEST_RETRY_MS = 30_000;
/** The position of a named subscription is saved after this much time, and when it ends. */
const SAVE_AFTER_MS = 200;

export interface SubscribeOptions {
  /** First position to deliver, or `"now"` for what is committed from now on; 1 if left out. A named subscription goes on where it was. */
  readonly from?: number | "now";
  /** Only events of these aggregates. */
  readonly aggregates?: readonly (AnyContract | string)[];
  /** Only events of these types. */
  readonly types?: readonly string[];
  /** Ends the subscription. */
  readonly signal?: AbortSignal;
  /** Keeps the position under this name, so that the next run goes on behind the last event that was dealt with. */
  readonly name?: string;
}

/** What a subscription needs of its store. */
export interface SubscriptionSource {
  readonly events: EventStore;
  /** The reader for an aggregate that is registered. */
  readonly reader: (type: string) => { recorded(event: StoredEvent): RecordedEvent } | undefined;
  /** Aborted when the store closes. */
  readonly closing: AbortSignal;
}

/** Delivers events in global order: first those that are there, then each new one, without a gap or a double. */
export async function* subscribe(
  source: SubscriptionSource,
  options: SubscribeOptions,
): AsyncGenerator<RecordedEvent, void, undefined> {
  const { events } = source;
  const { name, signal } = options;
  checkOptions(options);
  const wanted = filterOf(options);
  const ended = signal === undefined ? source.closing : AbortSignal.any([signal, source.closing]);
  let position = await startOf(events, options);
  let saved = { position, time: performance.now() };
  const save = async (final: boolean): Promise<void> => {
    if (name === undefined || position === saved.position || (!final && performance.now() - saved.time < SAVE_AFTER_MS))
      return;
    saved = { position, time: performance.now() };
    await events.saveCheckpoint("subscription", name, { state: null, position, bookmark: events.bookmark(position) });
  };
  const bell = new Bell(events, ended);
  try {
    while (!ended.aborted) {
      bell.reset();
      for await (const batch of events.readAll({ from: position + 1 })) {
        for (const event of batch) {
          if (ended.aborted) return;
          if (wanted(event)) {
            yield source.reader(event.stream.type)?.recorded(event) ?? recordedEvent(event, event.data);
          }
          // Whoever asks for the next event has dealt with this one.
          position = event.position;
        }
        await save(false);
      }
      await bell.rung();
    }
  } catch (error) {
    // The store was closed while we were reading: the end, not a failure.
    if (!ended.aborted) throw error;
  } finally {
    bell.close();
    await save(true);
  }
}

/** A subscription that calls a handler. */
export interface Subscription {
  /** Resolves when it has ended; rejects when the events cannot be read. */
  readonly done: Promise<void>;
  /** Ends it once the handler is done with the event that it has. */
  close(): Promise<void>;
}

/** Calls `handler` for each event, one after the other; a handler that fails is called again with the same event, later and later. */
export function handleEach(
  source: SubscriptionSource,
  options: SubscribeOptions,
  handler: (event: RecordedEvent) => unknown,
): Subscription {
  const stop = new AbortController();
  const signal = options.signal === undefined ? stop.signal : AbortSignal.any([options.signal, stop.signal]);
  const ended = AbortSignal.any([signal, source.closing]);
  const run = async (): Promise<void> => {
    for await (const event of subscribe(source, { ...options, signal })) {
      for (let wait = FIRST_RETRY_MS; ; wait = Math.min(wait * 2, LONGEST_RETRY_MS)) {
        try {
          await handler(event);
          break;
        } catch {
          await pause(wait, ended);
          // Not dealt with: the position must not move on.
          if (ended.aborted) return;
        }
      }
    }
  };
  const done = run();
  done.catch(() => {});
  return {
    done,
    close: async () => {
      stop.abort();
      await done;
    },
  };
}

/** Wakes a reader when there may be something new. */
class Bell {
  readonly #events: EventStore;
  readonly #ended: AbortSignal;
  readonly #unwatch: () => void;
  readonly #onEnd = (): void => this.#ring();
  #hasRung = false;
  #ring: () => void = () => {};

  constructor(events: EventStore, ended: AbortSignal) {
    this.#events = events;
    this.#ended = ended;
    this.#unwatch = events.watch(() => {
      this.#hasRung = true;
      this.#ring();
    });
    ended.addEventListener("abort", this.#onEnd);
  }

  reset(): void {
    this.#hasRung = false;
  }

  /** Resolves when something was committed since `reset`, here or elsewhere, or the end has come. */
  async rung(): Promise<void> {
    while (!this.#hasRung && !this.#ended.aborted) {
      // This timer keeps the program alive on purpose: it is waiting for events.
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, POLL_MS);
        this.#ring = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      if (!this.#hasRung && !this.#ended.aborted && this.#events.capabilities.multiProcess)
        await this.#events.refresh();
    }
  }

  close(): void {
    this.#unwatch();
    this.#ended.removeEventListener("abort", this.#onEnd);
  }
}

async function startOf(events: EventStore, { name, from = 1 }: SubscribeOptions): Promise<number> {
  const checkpoint = name === undefined ? undefined : await events.loadCheckpoint("subscription", name);
  if (checkpoint !== undefined && checkpoint.position <= (await events.head())) return checkpoint.position;
  return from === "now" ? events.head() : from - 1;
}

function filterOf({ aggregates, types }: SubscribeOptions): (event: StoredEvent) => boolean {
  const wantedAggregates =
    aggregates === undefined ? undefined : new Set(aggregates.map((a) => (typeof a === "string" ? a : a.type)));
  const wantedTypes = types === undefined ? undefined : new Set(types);
  return (event) => (wantedAggregates?.has(event.stream.type) ?? true) && (wantedTypes?.has(event.type) ?? true);
}

function checkOptions({ from, name }: SubscribeOptions): void {
  if (name !== undefined) checkConsumerName("subscription", name);
  if (from !== undefined && from !== "now" && !(Number.isSafeInteger(from) && from >= 1)) {
    throw new EventfoldError("INVALID_ARGUMENT", `from is a position, 1 or more, or "now"; not ${String(from)}`);
  }
}

function pause(ms: number, ended: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const finish = (): void => {
      clearTimeout(timer);
      ended.removeEventListener("abort", finish);
      resolve();
    };
    const timer = setTimeout(finish, ms);
    ended.addEventListener("abort", finish);
    if (ended.aborted) finish();
  });
}
