import type {
  Checkpoint,
  Commit,
  CommitResult,
  ConsumerKind,
  ConsumerNote,
  EventStore,
  EventStoreCapabilities,
  ReadAllOptions,
  ReadStreamOptions,
  Snapshot,
  StoredDeadLetter,
  StoredEvent,
  StoreProgress,
  StreamName,
} from "../../src/event-store/event-store.ts";
import { EventfoldError } from "../../src/errors.ts";
import { MemoryEventStore } from "../../src/event-store/memory-event-store.ts";

/**
 * A store on another machine, as the runtime meets it: every call takes a turn of the event loop, and reads answer from what
 * the last awaited `refresh` and this handle's own commits have shown. Several handles share one `remote`.
 */
export class WaitingEventStore implements EventStore {
  readonly capabilities: EventStoreCapabilities = { durable: true, multiProcess: true };
  readonly pollInterval: number = 5;
  readonly remote: MemoryEventStore;
  /** Readers here see the events up to this position. */
  #seen: number;
  readonly #own = new Set<number>();
  readonly #listeners = new Set<() => void>();
  readonly #foreignListeners = new Set<(stream: StreamName) => void>();
  #turn: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  private constructor(remote: MemoryEventStore, seen: number) {
    this.remote = remote;
    this.#seen = seen;
  }

  static async open(remote: MemoryEventStore = new MemoryEventStore()): Promise<WaitingEventStore> {
    return new WaitingEventStore(remote, await remote.head());
  }

  commit(commit: Commit): Promise<CommitResult> {
    if (this.#isClosed) return closed();
    const copy = structuredClone(commit.appends);
    return this.#inOrder(async () => {
      const result = await this.remote.commit({ ...commit, appends: copy });
      const events = copy.reduce((sum, append) => sum + append.events.length, 0);
      if (!result.ok || events === 0) return result;
      for (let n = 0; n < events; n++) this.#own.add(result.position - n);
      await this.#see(result.position);
      return result;
    });
  }

  refresh(): Promise<void> {
    return this.#inOrder(async () => this.#see(await this.remote.head()));
  }

  async #see(position: number): Promise<void> {
    const from = this.#seen + 1;
    this.#seen = Math.max(this.#seen, position);
    const foreign = new Map<string, StreamName>();
    for await (const batch of this.remote.readAll({ from }))
      for (const event of batch)
        if (event.position <= position && !this.#own.has(event.position))
          foreign.set(`${event.stream.type}/${event.stream.id}`, event.stream);
    for (const stream of foreign.values()) for (const listener of this.#foreignListeners) listener(stream);
    if (this.#seen >= from) for (const listener of this.#listeners) listener();
  }

  /** One call after the other, each after a turn of the event loop. */
  #inOrder<T>(work: () => Promise<T>): Promise<T> {
    if (this.#isClosed) return closed();
    const done = this.#turn.then(latency).then(work);
    this.#turn = done.catch(() => {});
    return done;
  }

  async *readStream(
    stream: StreamName,
    options?: ReadStreamOptions,
  ): AsyncGenerator<readonly StoredEvent[], void, undefined> {
    yield* this.#visible(() => this.remote.readStream(stream, options));
  }

  async *readAll(options?: ReadAllOptions): AsyncGenerator<readonly StoredEvent[], void, undefined> {
    yield* this.#visible(() => this.remote.readAll(options));
  }

  async *#visible(
    read: () => AsyncIterable<readonly StoredEvent[]>,
  ): AsyncGenerator<readonly StoredEvent[], void, undefined> {
    if (this.#isClosed) await closed();
    const seen = this.#seen;
    await latency();
    for await (const batch of read()) yield batch.filter(({ position }) => position <= seen);
  }

  async isDropped(position: number, horizon?: number): Promise<boolean> {
    if (this.#isClosed) await closed();
    await latency();
    return this.remote.isDropped(position, horizon);
  }

  async head(): Promise<number> {
    if (this.#isClosed) await closed();
    return this.#seen;
  }

  async listConsumers(): Promise<readonly string[]> {
    await latency();
    return this.remote.listConsumers();
  }

  async consumerNotes(name: string, afterSequence: number, limit?: number): Promise<readonly ConsumerNote[]> {
    await latency();
    return this.remote.consumerNotes(name, afterSequence, limit);
  }

  async progress(): Promise<StoreProgress> {
    await latency();
    return this.remote.progress();
  }

  async deadLetters(name: string): Promise<readonly StoredDeadLetter[]> {
    await latency();
    return this.remote.deadLetters(name);
  }

  async deadLetter(name: string, key: string): Promise<StoredDeadLetter | undefined> {
    await latency();
    return this.remote.deadLetter(name, key);
  }

  async listStreams(type?: string): Promise<readonly StreamName[]> {
    if (this.#isClosed) await closed();
    const names = new Set<string>();
    for await (const batch of this.readAll()) for (const { stream } of batch) names.add(`${stream.type}/${stream.id}`);
    return (await this.remote.listStreams(type)).filter((name) => names.has(`${name.type}/${name.id}`));
  }

  checkName(stream: StreamName): void {
    this.remote.checkName(stream);
  }

  watch(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  watchForeign(listener: (stream: StreamName) => void): () => void {
    this.#foreignListeners.add(listener);
    return () => this.#foreignListeners.delete(listener);
  }

  loadCheckpoint(kind: ConsumerKind, name: string): Promise<Checkpoint | undefined> {
    return this.remote.loadCheckpoint(kind, name);
  }

  listCheckpoints(kind: ConsumerKind): Promise<readonly string[]> {
    return this.remote.listCheckpoints(kind);
  }

  saveCheckpoint(kind: ConsumerKind, name: string, checkpoint: Checkpoint): Promise<void> {
    return this.remote.saveCheckpoint(kind, name, checkpoint);
  }

  loadSnapshot(stream: StreamName, fingerprint: string): Promise<Snapshot | undefined> {
    return this.remote.loadSnapshot(stream, fingerprint);
  }

  saveSnapshot(stream: StreamName, snapshot: Snapshot): Promise<void> {
    return this.remote.saveSnapshot(stream, snapshot);
  }

  release(): void {}

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#turn;
  }
}

function latency(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function closed(): Promise<never> {
  return Promise.reject(new EventfoldError("STORE_CLOSED", "the store is closed"));
}
