import type { EventStore, StoredEvent, StreamName } from "../../event-store/event-store.ts";
import { compactionOf, cutOfType } from "../../cut.ts";
import { idempotencyKeysOf } from "../context.ts";

/** The versions of the events that one command produced. */
export interface VersionRange {
  readonly from: number;
  readonly to: number;
  /** The events were replaced by a compaction, whose last event has the version `to`. */
  readonly isReplaced?: true;
}

/** The idempotency keys of one stream's events, with the versions that each key produced. */
export class IdempotencyKeys {
  readonly #ranges = new Map<string, VersionRange>();

  /** Reads the keys of a stream's events up to a version. */
  static async read(store: EventStore, stream: StreamName, upToVersion: number): Promise<IdempotencyKeys> {
    const keys = new IdempotencyKeys();
    for await (const batch of store.readStream(stream)) {
      for (const event of batch) if (event.version <= upToVersion) keys.recordEvent(event);
    }
    return keys;
  }

  /** All keys. */
  all(): Iterable<string> {
    return this.#ranges.keys();
  }

  find(key: string): VersionRange | undefined {
    return this.#ranges.get(key);
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
      return;
    }
    for (const key of idempotencyKeysOf(event)) {
      const known = this.#ranges.get(key);
      if (known === undefined) this.#ranges.set(key, { from: version, to: version });
      else if (known.to === version - 1 && known.isReplaced !== true)
        this.#ranges.set(key, { from: known.from, to: version });
    }
  }

  /** Forgets keys whose events come after a version, because these events were not written. */
  forgetAfter(version: number): void {
    for (const [key, { from }] of this.#ranges) if (from > version) this.#ranges.delete(key);
  }
}
