import { EventfoldError, isEventfoldError } from "../errors.ts";
import type { EventStore, StoredDeadLetter, StoredEvent } from "../event-store/event-store.ts";
import { refreshBeforeReading } from "../event-store/freshness.ts";
import { tracedCommit } from "../event-store/traced-commit.ts";
import { deadLetterWritten } from "../tracing/tracing.ts";
import { messageOf } from "../realm.ts";

/** How often a note is tried again because another process has noted something for the same subscription. */
const MAX_ATTEMPTS = 100;
const PREFIX = "subscription:";

/** The consumer whose notes have the dead letters of a subscription. No process manager can have this name. */
export function consumerOf(subscription: string): string {
  return PREFIX + subscription;
}

/** The subscription of such a consumer; `undefined` for others. */
export function subscriptionOf(consumer: string): string | undefined {
  return consumer.startsWith(PREFIX) ? consumer.slice(PREFIX.length) : undefined;
}

/** The subscription that a dead letter belongs to, by the letter's key; `undefined` for a letter of another kind. */
export function subscriptionOfKey(key: string): string | undefined {
  return /^subscription:([A-Za-z0-9_-]+):/.exec(key)?.[1];
}

/** What a subscription notes in the log beside a dead letter. These keys are part of the format on disk: see docs/format.md. */
interface SubscriptionNote {
  /** Events up to this position are handled or are dead letters. */
  readonly passed?: number;
}

/** The event of a dead letter. */
interface LetterEvent {
  readonly aggregate: string;
  readonly id: string;
  readonly version: number;
  readonly position: number;
  readonly eventId?: string;
  readonly type: string;
}

/** The dead letters of one named subscription. The log has them, with the position that the subscription has passed. */
export class SubscriptionLetters {
  readonly name: string;
  readonly #events: EventStore;
  readonly #consumer: string;
  #sequence = 0;
  #passed = 0;
  #open: readonly StoredDeadLetter[] = [];

  constructor(events: EventStore, name: string) {
    this.name = name;
    this.#events = events;
    this.#consumer = consumerOf(name);
  }

  /** The position up to which the subscription has dealt with all events, according to the log. */
  async passed(): Promise<number> {
    await this.#synchronise();
    return this.#passed;
  }

  /** The first letter of an event's instance that is open. */
  async before({ stream }: StoredEvent): Promise<StoredDeadLetter | undefined> {
    await this.#synchronise();
    return this.#ofInstance(stream.type, stream.id)[0];
  }

  /** Makes an event a dead letter, and notes in the same commit that the subscription has passed it. Durable when it resolves. */
  async bury(event: StoredEvent, error: unknown, time: number): Promise<void> {
    const { stream, version, position, eventId, type } = event;
    const key = `${this.#consumer}:${stream.type}/${stream.id}/${version}`;
    const found: LetterEvent = {
      ...{ aggregate: stream.type, id: stream.id, version, position },
      ...(eventId === undefined ? {} : { eventId }),
      type,
    };
    const letter = {
      subscription: this.name,
      event: found,
      error: messageOf(error),
      ts: Math.floor(time / 1000),
      ms: time % 1000,
      code: isEventfoldError(error) ? error.code : null,
    };
    await this.note({ passed: position }, { deadLetters: [{ key, letter }] });
    deadLetterWritten.publish(() => ({
      processManager: this.#consumer,
      aggregate: stream.type,
      id: stream.id,
      command: type,
      key,
      reason: messageOf(error),
    }));
  }

  /** The position of a letter's event. Throws `UNKNOWN_DEAD_LETTER` if the letter is not open. */
  async find(key: string): Promise<LetterEvent> {
    await this.#synchronise();
    const letter = this.#open.find((candidate) => candidate.key === key);
    if (letter === undefined)
      throw new EventfoldError(
        "UNKNOWN_DEAD_LETTER",
        `subscription ${this.name} has no dead letter ${JSON.stringify(key)}`,
      );
    return eventOf(letter);
  }

  /** The keys of the open letters of an event's instance, in the order of the events. */
  async sameInstance({ aggregate, id }: LetterEvent): Promise<readonly string[]> {
    await this.#synchronise();
    return this.#ofInstance(aggregate, id).map(({ key }) => key);
  }

  /** Removes a letter that is open. Throws `UNKNOWN_DEAD_LETTER` for another. */
  async drop(key: string): Promise<void> {
    await this.find(key);
    await this.settle(key);
  }

  /** Removes a letter. */
  settle(key: string): Promise<void> {
    return this.note({}, { settledLetters: [key] });
  }

  #ofInstance(aggregate: string, id: string): readonly StoredDeadLetter[] {
    return this.#open
      .filter((letter) => eventOf(letter).aggregate === aggregate && eventOf(letter).id === id)
      .sort((a, b) => eventOf(a).position - eventOf(b).position);
  }

  /** Commits a note with letters; again if another process has noted something first. */
  protected async note(
    note: SubscriptionNote,
    letters: { readonly deadLetters?: readonly StoredDeadLetter[]; readonly settledLetters?: readonly string[] },
  ): Promise<void> {
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
      await this.#synchronise();
      const consumer = { name: this.#consumer, expectedSequence: this.#sequence, note, ...letters };
      if ((await tracedCommit(this.#events, { appends: [], consumer })).ok) return this.#synchronise();
    }
    throw new EventfoldError(
      "CONFLICT",
      `other processes noted something for subscription ${this.name} ${MAX_ATTEMPTS} times; one of them at a time should run it`,
    );
  }

  /** Reads what this process and others have noted since the last time. */
  async #synchronise(): Promise<void> {
    await refreshBeforeReading(this.#events);
    const notes = await this.#events.consumerNotes(this.#consumer, this.#sequence);
    for (const { sequence, note } of notes) {
      this.#sequence = sequence;
      this.#passed = Math.max(this.#passed, (note as SubscriptionNote).passed ?? 0);
    }
    if (notes.length > 0) this.#open = await this.#events.deadLetters(this.#consumer);
  }
}

export function eventOf({ letter }: StoredDeadLetter): LetterEvent {
  return letter["event"] as LetterEvent;
}
