import type { EventStore, StoredEvent, StreamName } from "../../event-store/event-store.ts";
import { compactionOf, cutOfType } from "../../cut.ts";
import { idempotencyKeysOf } from "../context.ts";
import { type RememberedOutcome, RememberedOutcomes } from "./remembered-outcomes.ts";

/** The versions of the events that one command produced. */
export interface VersionRange {
  readonly from: number;
  readonly to: number;
  /** The events were replaced by a compaction, whose last event has the version `to`. */
  readonly isReplaced?: true;
}

/** What the first command with a key led to: events, or an outcome that is remembered without them. */
export type Earlier = VersionRange | RememberedOutcome;

/** The idempotency keys of one instance, with what each of them led to. */
export class IdempotencyKeys {
  readonly outcomes: RememberedOutcomes;
  readonly #ranges = new Map<string, VersionRange>();
  /** Version of the last event of the last compaction. */
  #compactedTo = 0;

  /** Knows none before `read` or `recordEvent`. */
  constructor(stream: StreamName) {
    this.outcomes = new RememberedOutcomes(stream);
  }

  /** Reads the keys of a stream's events up to a version, and the outcomes that are remembered. */
  static async read(store: EventStore, stream: StreamName, upToVersion: number): Promise<IdempotencyKeys> {
    const keys = new IdempotencyKeys(stream);
    const readEvents = async (): Promise<void> => {
      for await (const batch of store.readStream(stream))
        for (const event of batch) if (event.version <= upToVersion) keys.recordEvent(event);
    };
    await Promise.all([keys.outcomes.readNew(store), upToVersion === 0 ? undefined : readEvents()]);
    return keys;
  }

  /** The keys of all events, also of those that a compaction has replaced. */
  ofEvents(): Iterable<string> {
    return this.#ranges.keys();
  }

  find(key: string): Earlier | undefined {
    const range = this.#ranges.get(key);
    if (range !== undefined) return range;
    const outcome = this.outcomes.find(key);
    // The versions before a compaction cannot be read any more.
    return outcome === undefined || outcome.version >= this.#compactedTo
      ? outcome
      : { ...outcome, version: this.#compactedTo };
  }

  record(key: string, range: VersionRange): void {
    this.#ranges.set(key, range);
  }

  /** Records the keys in an event's metadata. Events must come in the order of their versions. */
  recordEvent(event: StoredEvent): void {
    const { version } = event;
    const cut = cutOfType(event.type);
    if (cut !== undefined) {
      this.#ranges.clear();
      const compaction = compactionOf(event.type, event.data);
      const to = version + (compaction?.events ?? 0);
      for (const key of compaction?.keys ?? []) this.#ranges.set(key, { from: version, to, isReplaced: true });
      this.#compactedTo = compaction === undefined ? 0 : to;
      return;
    }
    for (const key of idempotencyKeysOf(event)) {
      const known = this.#ranges.get(key);
      if (known === undefined) this.#ranges.set(key, { from: version, to: version });
      else if (known.to === version - 1 && known.isReplaced !== true)
        this.#ranges.set(key, { from: known.from, to: version });
    }
  }

  /** Forgets the keys of events after a version, and of outcomes, that were decided and not written. */
  undoAfter(version: number): void {
    for (const [key, { from }] of this.#ranges) if (from > version) this.#ranges.delete(key);
    this.outcomes.undo();
  }
}
