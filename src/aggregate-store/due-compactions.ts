import type { AggregateModel } from "../aggregate/model.ts";
import { compactionOf, cutOfType } from "../cut.ts";
import { isEventfoldError } from "../errors.ts";
import type { EventStore, StreamName } from "../event-store/event-store.ts";
import { type FullName, fullNameOf } from "../stream-names.ts";
import { instanceCompacted } from "../tracing/tracing.ts";
import type { CompactResult } from "./compact-instance.ts";

/** Instances that are remembered. One that is forgotten costs a look at its first event. */
const REMEMBERED = 10_000;

/** Compacts instances in the background whose definition asks for it, once they have enough events. */
export class DueCompactions {
  readonly #store: EventStore;
  readonly #compact: (stream: StreamName) => Promise<CompactResult>;
  /** Versions at which instances are due next. */
  readonly #due = new Map<FullName, number>();
  readonly #running = new Set<FullName>();

  constructor(store: EventStore, compact: (stream: StreamName) => Promise<CompactResult>) {
    this.#store = store;
    this.#compact = compact;
  }

  /** The instance has reached a version. */
  consider(stream: StreamName, { compactAfter = Infinity }: AggregateModel, version: number): void {
    if (version < compactAfter) return;
    const name = fullNameOf(stream);
    if (version < (this.#due.get(name) ?? 0) || this.#running.has(name)) return;
    this.#running.add(name);
    void this.#run(stream, name, compactAfter, version).finally(() => this.#running.delete(name));
  }

  /** Never rejects: it is not awaited. */
  async #run(stream: StreamName, name: FullName, after: number, version: number): Promise<void> {
    const { type: aggregate, id } = stream;
    let due = version + after;
    try {
      const since = await this.#closedAt(stream);
      if (version - since < after) due = since + after;
      else {
        const { compacted, replaced, version: reached } = await this.#compact(stream);
        due = reached + after;
        if (compacted) instanceCompacted.publish(() => ({ aggregate, id, replaced, error: undefined }));
      }
    } catch (error) {
      // As many events pass before the next attempt.
      if (!isEventfoldError(error, "STORE_CLOSED")) {
        if (instanceCompacted.isWatched) instanceCompacted.publish(() => ({ aggregate, id, replaced: 0, error }));
        else console.error(error);
      }
    }
    if (this.#due.size >= REMEMBERED) this.#due.clear();
    this.#due.set(name, due);
  }

  /** The version up to which no new event counts: that of a deletion, or of the last event of a compaction. */
  async #closedAt(stream: StreamName): Promise<number> {
    for await (const [first] of this.#store.readStream(stream)) {
      if (first === undefined) continue;
      if (cutOfType(first.type) === undefined) return first.version - 1;
      return first.version + (compactionOf(first.type, first.data)?.events ?? 0);
    }
    return 0;
  }
}
