import type { EventStore, StreamName } from "../event-store/event-store.ts";
import { replacedIds } from "../cut.ts";
import { type FullName, fullNameOf } from "../stream-names.ts";
import type { EventLine } from "./transfer-line.ts";

/** So many event ids are kept in memory; streams that were not used for long are read again. */
const MOST_IDS = 200_000;

interface Known {
  version: number;
  readonly ids: Set<string>;
}

/** Finds the places for events in streams that may have events already. */
export class Renumbering {
  readonly #store: EventStore;
  /** In the order of their last use. */
  readonly #streams = new Map<FullName, Known>();
  #ids = 0;

  /** Streams that are no longer in memory. */
  readonly #forgotten = new Set<FullName>();
  readonly #flush: () => Promise<void>;

  /** `flush` commits what was given a place. */
  constructor(store: EventStore, flush: () => Promise<void>) {
    this.#store = store;
    this.#flush = flush;
  }

  /** The version after which an event is appended; nothing if its stream has an event with its id. */
  async versionFor({ aggregate, instance, id, type, data }: EventLine): Promise<number | undefined> {
    const stream = { type: aggregate, id: instance };
    const known = await this.#known(stream);
    const before = known.ids.size;
    if (id !== undefined) {
      if (known.ids.has(id)) return undefined;
      known.ids.add(id);
    }
    for (const replaced of replacedIds({ type, data })) known.ids.add(replaced);
    this.#ids += known.ids.size - before;
    return known.version++;
  }

  /** Whether a stream never had an event. */
  async isEmpty(stream: StreamName): Promise<boolean> {
    return (await this.#known(stream)).version === 0;
  }

  async #known(stream: StreamName): Promise<Known> {
    const name = fullNameOf(stream);
    let known = this.#streams.get(name);
    if (known === undefined) {
      if (this.#forgotten.delete(name)) await this.#flush();
      known = await this.#read(stream);
    }
    this.#streams.delete(name);
    this.#streams.set(name, known);
    return known;
  }

  async #read(stream: StreamName): Promise<Known> {
    const known: Known = { version: 0, ids: new Set() };
    for await (const batch of this.#store.readStream(stream)) {
      for (const event of batch) {
        known.version = event.version;
        if (event.eventId !== undefined) known.ids.add(event.eventId);
        for (const id of replacedIds(event)) known.ids.add(id);
      }
    }
    this.#ids += known.ids.size;
    for (const [name, { ids }] of this.#streams) {
      if (this.#ids <= MOST_IDS) break;
      this.#streams.delete(name);
      this.#forgotten.add(name);
      this.#ids -= ids.size;
    }
    return known;
  }
}
