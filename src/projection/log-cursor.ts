import { type EventfoldError, isEventfoldError } from "../errors.ts";
import type { Checkpoint, EventStore, EventTypes, StoredEvent } from "../event-store/event-store.ts";
import { eventDigest } from "../event-store/event-digest.ts";

/** What a checkpoint keeps of a cursor. */
export type CursorMark = Pick<Checkpoint, "position" | "last" | "horizon">;

/**
 * A consumer's place in the global order. It goes on from a checkpoint only if the store still has, at the checkpoint's position,
 * the very event that was there: a directory that was partly restored from a backup, or that lost its newest commits
 * in a power cut, grows other events at the same positions.
 *
 * A cursor sees one history from its beginning on: compactions that were there when it began count for it, later ones do not. So it
 * never has both the old events of an instance and those that replaced them, nor a part of either.
 */
export class LogCursor {
  readonly #events: EventStore;
  readonly #wanted: EventTypes | undefined;
  /** Every event up to here is handled. */
  #position: number;
  /** Of the last event that was passed; what lies between the two was not wanted. */
  #lastPosition: number;
  /** The event at `#lastPosition`; its digest when it comes from a checkpoint. */
  #last: StoredEvent | string | undefined;
  /** A position before the last event, after which it can be read again. */
  #since: number;
  /** The same for the events that are being read. */
  #batchSince: number;
  /** Compactions up to here, and up to the position, count. Unknown until the first reading asks for the head. */
  #horizon: number | undefined;
  /** False for a cursor from a checkpoint until the checkpoint is compared with the store. */
  #isVerified: boolean;

  /** Starts after a position, 0 for the beginning, or where a checkpoint was made. Events that are not `wanted` may be left out. */
  constructor(events: EventStore, from: number | CursorMark, wanted?: EventTypes) {
    this.#events = events;
    this.#wanted = wanted;
    const mark: CursorMark = typeof from === "number" ? { position: from } : from;
    const { position, last } = mark;
    this.#horizon = typeof from === "number" ? undefined : (mark.horizon ?? position);
    this.#position = this.#lastPosition = position;
    this.#last = last?.event;
    this.#since = this.#batchSince = last?.since ?? position;
    this.#isVerified = typeof from === "number" || position === 0;
  }

  /** Position up to which everything was passed or left out. */
  get position(): number {
    return this.#position;
  }

  /** Whether the store has the event that the cursor continues from. Reading verifies it. */
  get isVerified(): boolean {
    return this.#isVerified;
  }

  /** Lets a cursor that has not begun see the history as one that began when a position was the head. */
  begin(horizon: number): void {
    this.#horizon ??= horizon;
  }

  /**
   * The events after the position, up to the head. Call `pass` for each event that is handled. Throws a
   * `ChangedHistoryError` before the first of them when the checkpoint was made of other events. `known` is the head, if the caller has
   * just asked for it.
   */
  async *read(known?: number): AsyncGenerator<readonly StoredEvent[], void, undefined> {
    const head = known ?? (await this.#events.head());
    if (!this.#isVerified && (this.#position > head || this.#last === undefined)) throw new ChangedHistoryError();
    const since = this.#isVerified ? this.#position : this.#since;
    this.#horizon ??= head;
    const horizon = Math.max(this.#horizon, this.#position);
    try {
      for await (const batch of this.#events.readAll({
        from: since + 1,
        wanted: this.#wanted,
        horizon,
        passed: this.#position,
      })) {
        const start = (batch[0]?.position ?? since + 1) - 1;
        this.#batchSince = start;
        if (!this.#isVerified) await this.#verify(batch);
        yield start >= this.#position ? batch : batch.filter(({ position }) => position > this.#position);
      }
    } catch (error) {
      throw isEventfoldError(error, "EVENTS_RECLAIMED") ? new ChangedHistoryError(error) : error;
    }
    if (!this.#isVerified) await this.#verifyDropped();
    // Unwanted events were left out.
    this.#position = Math.max(this.#position, head);
  }

  pass(event: StoredEvent): void {
    this.#position = this.#lastPosition = event.position;
    this.#last = event;
    this.#since = this.#batchSince;
  }

  /**
   * What to keep, so that another cursor can go on from here: after the last event that was passed, since that event can be
   * recognised. What follows it and was left out is left out once more.
   */
  mark(): CursorMark {
    const event = typeof this.#last === "object" ? eventDigest(this.#last) : this.#last;
    const horizon = this.#horizon ?? 0;
    return {
      position: this.#lastPosition,
      ...(horizon > this.#lastPosition ? { horizon } : {}),
      ...(event === undefined ? {} : { last: { since: this.#since, event } }),
    };
  }

  async #verify(batch: readonly StoredEvent[]): Promise<void> {
    const last = batch.find(({ position }) => position >= this.#lastPosition);
    if (last === undefined) return;
    if (last.position > this.#lastPosition) {
      await this.#verifyDropped();
      return;
    }
    if (eventDigest(last) !== this.#last) throw new ChangedHistoryError();
    this.#isVerified = true;
  }

  /** The store no longer gives the last event: that is no change of history if the event's stream was cut since. */
  async #verifyDropped(): Promise<void> {
    if (!(await this.#events.isDropped(this.#lastPosition))) throw new ChangedHistoryError();
    this.#isVerified = true;
  }
}

/** A checkpoint was made of other events than the store has, or the store has lost what the reader needs next. The reader starts over. */
export class ChangedHistoryError extends Error {
  override readonly name = "ChangedHistoryError";

  /** The error `EVENTS_RECLAIMED` if that is the reason. */
  readonly reclaimed: EventfoldError | undefined;

  constructor(reclaimed?: EventfoldError) {
    super("the history has changed");
    this.reclaimed = reclaimed;
  }
}
