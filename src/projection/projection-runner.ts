import { EventReader } from "../aggregate/event-reader.ts";
import { EventfoldError } from "../errors.ts";
import type { Checkpoint, EventStore, StoredEvent } from "../event-store/event-store.ts";
import { fingerprint } from "../fingerprint.ts";
import type { ProjectionDefinition } from "./projection.ts";

/** A checkpoint is saved after this many events or this much time, and on close. */
const SAVE_EVERY_EVENTS = 10_000;
const SAVE_AFTER_MS = 1000;

type Handler = (state: unknown, event: unknown) => unknown;

export interface RebuildOptions {
  readonly signal?: AbortSignal;
  /** Called now and then with the position reached and the position to reach. */
  readonly onProgress?: (progress: { readonly position: number; readonly head: number }) => void;
}

interface Folded {
  state: unknown;
  position: number;
  /** From a checkpoint of the original: versions that are folded in already. */
  readonly versions: ReadonlyMap<string, number> | undefined;
}

/** Keeps one projection's state in memory and brings it up to date when it is read. */
export class ProjectionRunner {
  readonly #definition: ProjectionDefinition;
  readonly #events: EventStore;
  readonly #fingerprint: string;
  readonly #sources: ReadonlyMap<
    string,
    { readonly reader: EventReader; readonly handlers: ReadonlyMap<string, Handler> }
  >;
  #folded: Folded | undefined;
  #bookmark: unknown;
  #working: Promise<void> | undefined;
  #rebuilding: Promise<void> | undefined;
  #savedPosition = 0;
  #saveTimer: ReturnType<typeof setTimeout> | undefined;
  #saving: Promise<void> = Promise.resolve();

  constructor(definition: ProjectionDefinition, events: EventStore) {
    this.#definition = definition;
    this.#events = events;
    this.#sources = new Map(
      definition.sources.map(({ aggregate, handlers }) => {
        const named = Object.entries(handlers).filter(
          (entry): entry is [string, Handler] => typeof entry[1] === "function",
        );
        return [aggregate.type, { reader: new EventReader(aggregate), handlers: new Map(named) }];
      }),
    );
    const code = [...this.#sources].map(([type, { reader, handlers }]) => [
      type,
      reader.code,
      [...handlers].map(([event, handler]) => [event, String(handler)]),
    ]);
    this.#fingerprint = fingerprint(JSON.stringify([this.#initial(), code]));
  }

  /** Catches up with everything committed so far. The state is the live one: later events change it. */
  async read(): Promise<{ readonly state: unknown; readonly position: number }> {
    for (;;) {
      const head = await this.#events.head();
      if (this.#folded !== undefined && this.#folded.position >= head) return this.#folded;
      this.#working ??= this.#catchUp().finally(() => (this.#working = undefined));
      await this.#working;
    }
  }

  /** Folds all events again from the first; until that is done, `read` gives the old state. */
  rebuild(options: RebuildOptions): Promise<void> {
    this.#rebuilding ??= this.#rebuild(options).finally(() => (this.#rebuilding = undefined));
    return this.#rebuilding;
  }

  async close(): Promise<void> {
    clearTimeout(this.#saveTimer);
    this.#saveTimer = undefined;
    try {
      await this.#working;
    } catch {
      // Whoever was reading has got the error.
    }
    await this.#save();
  }

  async #catchUp(): Promise<void> {
    const folded = this.#folded ?? (await this.#load());
    try {
      for await (const batch of this.#events.readAll({ from: folded.position + 1, bookmark: this.#bookmark })) {
        for (const event of batch) this.#fold(folded, event);
      }
    } catch (error) {
      // The handler that failed may have changed half of the state: the next read starts from the checkpoint.
      this.#folded = undefined;
      throw error;
    }
    this.#folded = folded;
    this.#scheduleSave(folded);
  }

  async #load(): Promise<Folded> {
    const checkpoint = await this.#events.loadCheckpoint("projection", this.#definition.name);
    if (checkpoint === undefined || !(await this.#fits(checkpoint)))
      return { state: this.#initial(), position: 0, versions: undefined };
    this.#bookmark = checkpoint.bookmark;
    this.#savedPosition = checkpoint.position;
    return { state: checkpoint.state, position: checkpoint.position, versions: checkpoint.versions };
  }

  /** Whether a checkpoint was made by this code, of this store. */
  async #fits({ fingerprint: made, position, versions }: Checkpoint): Promise<boolean> {
    return (made === this.#fingerprint || versions !== undefined) && position <= (await this.#events.head());
  }

  #fold(folded: Folded, event: StoredEvent): void {
    const source = this.#sources.get(event.stream.type);
    const handler = source?.handlers.get(event.type);
    const { position } = event;
    if (source !== undefined && handler !== undefined && !isFoldedIn(folded.versions, event)) {
      try {
        const result = handler(folded.state, source.reader.recorded(event));
        if (result !== undefined) folded.state = result;
      } catch (cause) {
        throw new EventfoldError(
          "PROJECTION_FAILED",
          `projection ${this.#definition.name} failed on ${event.type} of ${event.stream.type} ${JSON.stringify(event.stream.id)}, version ${event.version}, position ${position}: ${cause instanceof Error ? cause.message : String(cause)}`,
          { cause },
        );
      }
    }
    folded.position = position;
  }

  async #rebuild({ signal, onProgress }: RebuildOptions): Promise<void> {
    signal?.throwIfAborted();
    const fresh: Folded = { state: this.#initial(), position: 0, versions: undefined };
    for (let head = await this.#events.head(); fresh.position < head; head = await this.#events.head()) {
      for await (const batch of this.#events.readAll({ from: fresh.position + 1 })) {
        signal?.throwIfAborted();
        for (const event of batch) this.#fold(fresh, event);
        onProgress?.({ position: fresh.position, head });
      }
    }
    await this.#working;
    this.#folded = fresh;
    this.#savedPosition = -1;
    await this.#save();
  }

  #scheduleSave(folded: Folded): void {
    if (folded.position - this.#savedPosition >= SAVE_EVERY_EVENTS) void this.#save();
    else if (folded.position > this.#savedPosition && this.#saveTimer === undefined) {
      this.#saveTimer = setTimeout(() => {
        this.#saveTimer = undefined;
        void this.#save();
      }, SAVE_AFTER_MS);
      (this.#saveTimer as { unref?: () => void }).unref?.();
    }
  }

  #save(): Promise<void> {
    this.#saving = this.#saving.then(async () => {
      const folded = this.#folded;
      if (folded === undefined || folded.position === this.#savedPosition) return;
      const { state, position } = folded;
      this.#savedPosition = position;
      try {
        await this.#events.saveCheckpoint("projection", this.#definition.name, {
          state,
          position,
          fingerprint: this.#fingerprint,
          bookmark: this.#events.bookmark(position),
        });
      } catch {
        // Only a cache: without it the next opening folds more events.
      }
    });
    return this.#saving;
  }

  #initial(): unknown {
    const { initial } = this.#definition;
    return typeof initial === "function" ? (initial as () => unknown)() : structuredClone(initial);
  }
}

function isFoldedIn(versions: ReadonlyMap<string, number> | undefined, { stream, version }: StoredEvent): boolean {
  return versions !== undefined && version <= (versions.get(`${stream.type}/${stream.id}`) ?? 0);
}
