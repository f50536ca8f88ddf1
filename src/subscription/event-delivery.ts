import { appendAll } from "../arrays.ts";
import type { RecordedEvent } from "../aggregate/messages.ts";
import { EventfoldError } from "../errors.ts";
import type { EventStore, StoredEvent } from "../event-store/event-store.ts";
import { callSafely } from "../realm.ts";
import { type EventFilter, EventSelection, type ReaderOf } from "./event-filter.ts";
import { pause, pauseAfter, type RetryOptions, waitByClock } from "./retry.ts";
import { SubscriptionLetters } from "./subscription-letters.ts";

/** An event and what readers see of it. */
export interface Delivered {
  readonly event: StoredEvent;
  readonly recorded: readonly RecordedEvent[];
  /** What readers see of it now, which is less once a person was forgotten; `undefined` if that cannot be. */
  readonly again: (() => Promise<readonly RecordedEvent[]>) | undefined;
}

interface DeliverySource {
  readonly events: EventStore;
  readonly reader: ReaderOf;
  readonly now: () => number;
  readonly backoffClock: () => number;
}

interface DeliveryOptions extends EventFilter {
  readonly name?: string;
  readonly retry?: RetryOptions;
  readonly order?: "instance";
  readonly onError?: (error: unknown, event: RecordedEvent | undefined) => void;
}

interface DeliveryState {
  readonly place: { failure?: { readonly error: unknown } | undefined };
  readonly ended: AbortSignal;
}

/** Gives events to the handler of a subscription, until it succeeds or the event is a dead letter. */
export class EventDelivery {
  readonly #source: DeliverySource;
  readonly #options: DeliveryOptions;
  readonly #handler: (event: RecordedEvent) => unknown;
  readonly #state: DeliveryState;
  readonly #letters: SubscriptionLetters | undefined;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(
    source: DeliverySource,
    options: DeliveryOptions,
    handler: (event: RecordedEvent) => unknown,
    state: DeliveryState,
  ) {
    this.#source = source;
    this.#options = options;
    this.#handler = handler;
    this.#state = state;
    const { name } = options;
    this.#letters = name === undefined ? undefined : new SubscriptionLetters(source.events, name);
  }

  /** False when the end came before the event was handled or a dead letter. */
  async deliver({ event, recorded: first, again }: Delivered): Promise<boolean> {
    const { retry } = this.#options;
    let recorded = first;
    let handled = 0;
    for (let failures = 1; ; failures++) {
      let failure: { readonly error: unknown } | undefined;
      const isDone = await this.#exclusively(async () => {
        if (await this.#isBehindLetter(event)) return true;
        try {
          for (; handled < recorded.length; handled++) await this.#handler(recorded[handled] as RecordedEvent);
          return true;
        } catch (error) {
          failure = { error };
          return false;
        }
      });
      this.#state.place.failure = failure;
      if (isDone) return true;
      const error = failure?.error;
      this.#report(error, recorded[handled]);
      if (retry !== undefined && failures >= retry.attempts)
        return this.untilDone(() => this.#letters?.bury(event, error, this.#source.now()), recorded[handled]);
      await waitByClock(this.#source.backoffClock, this.#pauseAfter(failures), this.#state.ended);
      if (this.#state.ended.aborted) return false;
      // What cannot be read again now is delivered as it was read first.
      recorded = (await again?.().catch(() => undefined)) ?? recorded;
    }
  }

  /** Does something until it succeeds, with growing pauses. False when the end came first. */
  async untilDone(work: () => unknown, event?: RecordedEvent): Promise<boolean> {
    for (let failures = 1; ; failures++) {
      try {
        await work();
        this.#state.place.failure = undefined;
        return true;
      } catch (error) {
        this.#state.place.failure = { error };
        this.#report(error, event);
        await pause(pauseAfter(failures), this.#state.ended);
        if (this.#state.ended.aborted) return false;
      }
    }
  }

  /**
   * Gives the event of a dead letter to the handler once more. If it fails again, the letter stays, and this throws. With order, the
   * events of the instance that wait for this letter follow it, until one of them fails.
   */
  replay(key: string): Promise<void> {
    return this.#exclusively(async () => {
      const letters = this.#letters;
      const found = await letters?.find(key);
      if (letters === undefined || found === undefined) return;
      const isOrdered = this.#options.order === "instance";
      const [first] = isOrdered ? await letters.sameInstance(found) : [key];
      if (first !== key)
        throw new EventfoldError(
          "INVALID_ARGUMENT",
          `the dead letter ${JSON.stringify(key)} waits for ${JSON.stringify(first)} of the same instance; replay or drop that one first`,
        );
      await this.#handleAgain(found.position);
      await letters.settle(key);
      if (!isOrdered) return;
      for (const next of await letters.sameInstance(found)) {
        try {
          await this.#handleAgain((await letters.find(next)).position);
          await letters.settle(next);
        } catch (error) {
          this.#report(error, undefined);
          return;
        }
      }
    });
  }

  /** With order, an event whose instance has a dead letter becomes one itself. */
  async #isBehindLetter(event: StoredEvent): Promise<boolean> {
    if (this.#options.order !== "instance") return false;
    const first = await this.#letters?.before(event);
    if (first === undefined) return false;
    await this.#letters?.bury(event, new Error(`waits for the dead letter ${first.key}`), this.#source.now());
    return true;
  }

  async #handleAgain(position: number): Promise<void> {
    const { events, reader } = this.#source;
    const selection = new EventSelection({}, reader);
    const found: RecordedEvent[] = [];
    // It may have been replaced since; for a reader of that time it is still there.
    for await (const batch of events.readAll({ from: position, to: position, horizon: position }))
      for (const event of batch) if (event.position === position) appendAll(found, selection.of(event));
    if (found.length === 0)
      throw new EventfoldError(
        "UNKNOWN_DEAD_LETTER",
        `expected the event of the dead letter at position ${position}, found none: it was deleted; drop the dead letter`,
      );
    for (const recorded of found) await this.#handler(recorded);
  }

  #pauseAfter(failures: number): number {
    try {
      return pauseAfter(failures, this.#options.retry?.backoff);
    } catch (error) {
      // A function of the user gave something else than a time.
      this.#report(error, undefined);
      return pauseAfter(failures);
    }
  }

  /** One call of the handler after the other, also while letters are replayed. */
  #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    return done;
  }

  #report(error: unknown, event: RecordedEvent | undefined): void {
    const { onError } = this.#options;
    // Without a listener the error must neither pass unnoticed nor end the program.
    if (onError === undefined) console.error(error);
    // A listener that fails must not end the subscription.
    callSafely(() => onError?.(error, event));
  }
}
