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
} from "./event-store.ts";

/** The methods that a store need not have. Does not compile when the port has a new one that would not be passed on. */
const OPTIONAL: readonly PassedOn[] = ["acquireName", "sizes", "backup", "reclaim", "loadForeignCheckpoint"];
type PassedOn = "acquireName" | "sizes" | "backup" | "reclaim" | "loadForeignCheckpoint";
type Properties = "location" | "pollInterval" | "keys" | "era";
/** Those of the store that does more. */
type NotPassedOn = "refreshNow" | "watchEra";
type OptionalKey = { [K in keyof EventStore]-?: object extends Pick<EventStore, K> ? K : never }[keyof EventStore];
type Unknown = Exclude<OptionalKey, PassedOn | NotPassedOn | Properties>;

/** A store that passes all calls on to another one, but for `refreshNow`: to be the base of one that does more. */
export class DelegatingEventStore implements EventStore, Record<Unknown, never> {
  readonly inner: EventStore;
  readonly acquireName?: NonNullable<EventStore["acquireName"]>;
  readonly sizes?: NonNullable<EventStore["sizes"]>;
  readonly backup?: NonNullable<EventStore["backup"]>;
  readonly reclaim?: NonNullable<EventStore["reclaim"]>;
  readonly loadForeignCheckpoint?: NonNullable<EventStore["loadForeignCheckpoint"]>;
  readonly location?: string;
  readonly pollInterval?: number;

  constructor(inner: EventStore) {
    this.inner = inner;
    // A caller asks whether a method is there.
    for (const name of OPTIONAL)
      if (inner[name] !== undefined) Object.assign(this, { [name]: (inner[name] as () => unknown).bind(inner) });
    if (inner.location !== undefined) this.location = inner.location;
    if (inner.pollInterval !== undefined) this.pollInterval = inner.pollInterval;
  }

  get capabilities(): EventStoreCapabilities {
    return this.inner.capabilities;
  }

  commit(commit: Commit): Promise<CommitResult> {
    return this.inner.commit(commit);
  }

  readStream(stream: StreamName, options?: ReadStreamOptions): AsyncIterable<readonly StoredEvent[]> {
    return this.inner.readStream(stream, options);
  }

  readAll(options?: ReadAllOptions): AsyncIterable<readonly StoredEvent[]> {
    return this.inner.readAll(options);
  }

  isDropped(position: number, horizon?: number): Promise<boolean> {
    return this.inner.isDropped(position, horizon);
  }

  head(): Promise<number> {
    return this.inner.head();
  }

  listConsumers(): Promise<readonly string[]> {
    return this.inner.listConsumers();
  }

  consumerNotes(name: string, afterSequence: number, limit?: number): Promise<readonly ConsumerNote[]> {
    return this.inner.consumerNotes(name, afterSequence, limit);
  }

  progress(): Promise<StoreProgress> {
    return this.inner.progress();
  }

  deadLetters(name: string): Promise<readonly StoredDeadLetter[]> {
    return this.inner.deadLetters(name);
  }

  deadLetter(name: string, key: string): Promise<StoredDeadLetter | undefined> {
    return this.inner.deadLetter(name, key);
  }

  loadCheckpoint(kind: ConsumerKind, name: string): Promise<Checkpoint | undefined> {
    return this.inner.loadCheckpoint(kind, name);
  }

  listCheckpoints(kind: ConsumerKind): Promise<readonly string[]> {
    return this.inner.listCheckpoints(kind);
  }

  saveCheckpoint(kind: ConsumerKind, name: string, checkpoint: Checkpoint): Promise<void> {
    return this.inner.saveCheckpoint(kind, name, checkpoint);
  }

  listStreams(type?: string): Promise<readonly StreamName[]> {
    return this.inner.listStreams(type);
  }

  checkName(stream: StreamName): void {
    this.inner.checkName(stream);
  }

  refresh(stream?: StreamName): Promise<void> {
    return this.inner.refresh(stream);
  }

  watchForeign(listener: (stream: StreamName) => void): () => void {
    return this.inner.watchForeign(listener);
  }

  watch(listener: () => void): () => void {
    return this.inner.watch(listener);
  }

  loadSnapshot(stream: StreamName, fingerprint: string): Promise<Snapshot | undefined> {
    return this.inner.loadSnapshot(stream, fingerprint);
  }

  saveSnapshot(stream: StreamName, snapshot: Snapshot): Promise<void> {
    return this.inner.saveSnapshot(stream, snapshot);
  }

  release(stream: StreamName): void {
    this.inner.release(stream);
  }

  close(): Promise<void> {
    return this.inner.close();
  }
}
