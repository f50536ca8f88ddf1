import { EventfoldError } from "../errors.ts";
import { turn } from "../event-loop.ts";
import { isJsonValue } from "../json.ts";
import type {
  Checkpoint,
  ConsumerAppend,
  ConsumerKind,
  ConsumerNote,
  Commit,
  CommitResult,
  EventDraft,
  EventStore,
  EventStoreCapabilities,
  NameLease,
  ReadAllOptions,
  Snapshot,
  StoredDeadLetter,
  StoredEvent,
  StoreProgress,
  StreamName,
} from "./event-store.ts";
import type { CutKind } from "../cut.ts";
import { checkStreamName, type FullName, fullNameOf } from "../stream-names.ts";
import { compareCodePoints } from "./stream-order.ts";
import { monotonicNow } from "../real-timers.ts";

const BATCH = 1000;
/** After this long without a pause, a commit waits for a turn of the event loop. */
const PAUSE_AFTER_MS = 10;

interface MemoryStream {
  readonly name: StreamName;
  version: number;
  /** From its last cut on. */
  events: MemoryEvent[];
  /** Version and kind of its last cut. */
  cut?: { readonly version: number; readonly kind: CutKind };
}

/** What stores in memory share when they are opened on the same storage. */
export class MemoryContent {
  readonly streams: Map<FullName, MemoryStream> = new Map();
  /** By position, from 1 on. */
  readonly all: MemoryEvent[] = [];
  readonly snapshots: Map<FullName, Snapshot> = new Map();
  readonly checkpoints: Map<string, string> = new Map();
  readonly notes: Map<string, string[]> = new Map();
  readonly letters: Map<string, Map<string, StoredDeadLetter>> = new Map();
  /** The names of which a store has the exclusive use. */
  readonly names: Set<string> = new Set();
  /** Called after each commit, with the store that made it. */
  readonly observers: Set<(committer: MemoryEventStore, commit: Commit) => void> = new Set();
}

/** Events in memory, for tests, prototypes and browsers: they are gone when the process ends. */
export class MemoryEventStore implements EventStore {
  readonly capabilities: EventStoreCapabilities = { durable: false, multiProcess: false };
  readonly #content: MemoryContent;
  readonly #listeners = new Set<() => void>();
  readonly #foreignListeners = new Set<(stream: StreamName) => void>();
  #closed = false;
  #lastPause = monotonicNow();

  constructor(content: MemoryContent = new MemoryContent()) {
    this.#content = content;
    content.observers.add(this.#observe);
  }

  readonly #observe = (committer: MemoryEventStore, { appends }: Commit): void => {
    if (committer !== this) {
      for (const { stream, events } of appends)
        if (events.length > 0) for (const listener of this.#foreignListeners) listener(stream);
    }
    for (const listener of this.#listeners) listener();
  };

  async commit(commit: Commit): Promise<CommitResult> {
    this.#checkOpen();
    for (const { stream, expectedVersion } of commit.appends) {
      const actualVersion = this.#content.streams.get(fullNameOf(stream))?.version ?? 0;
      if (actualVersion === expectedVersion && commit.chain?.broken !== true) continue;
      if (commit.chain !== undefined) commit.chain.broken = true;
      return { ok: false, stream, actualVersion };
    }
    const { consumer } = commit;
    if (consumer !== undefined) {
      const actualSequence = this.#content.notes.get(consumer.name)?.length ?? 0;
      if (actualSequence !== consumer.expectedSequence) {
        if (commit.chain !== undefined) commit.chain.broken = true;
        return { ok: false, consumer: consumer.name, actualSequence };
      }
      this.#note(consumer);
    }
    for (const { stream, events, cut } of commit.appends) {
      if (events.length === 0) continue;
      const key = fullNameOf(stream);
      let kept = this.#content.streams.get(key);
      if (kept === undefined)
        this.#content.streams.set(key, (kept = { name: { type: stream.type, id: stream.id }, version: 0, events: [] }));
      if (cut !== undefined) this.#cut(key, kept, cut);
      for (const event of events) {
        const stored = new MemoryEvent(kept.name, event, ++kept.version, this.#content.all.length + 1);
        kept.events.push(stored);
        this.#content.all.push(stored);
      }
    }
    for (const observe of this.#content.observers) observe(this, commit);
    const position = this.#content.all.length;
    // A caller that commits without a pause must not keep timers and other work from their turn.
    if (monotonicNow() - this.#lastPause > PAUSE_AFTER_MS) {
      await turn();
      this.#lastPause = monotonicNow();
    }
    return { ok: true, position };
  }

  /** Drops the events that a stream has. */
  #cut(key: FullName, stream: MemoryStream, kind: CutKind): void {
    for (const event of stream.events) event.isDropped = true;
    stream.events = [];
    stream.cut = { version: stream.version + 1, kind };
    this.#content.snapshots.delete(key);
  }

  async *readStream(
    stream: StreamName,
    options: { readonly from?: number } = {},
  ): AsyncGenerator<readonly StoredEvent[], void, undefined> {
    this.#checkOpen();
    const { events, cut } = this.#content.streams.get(fullNameOf(stream)) ?? { events: [] };
    yield* inBatches(events, Math.max(1, (options.from ?? 1) - (cut?.version ?? 1) + 1));
  }

  async *readAll(options: ReadAllOptions = {}): AsyncGenerator<readonly StoredEvent[], void, undefined> {
    this.#checkOpen();
    for (const batch of inBatches(this.#content.all, options.from ?? 1, options.to))
      yield options.dropped === true ? batch : batch.filter(({ isDropped }) => !isDropped);
  }

  async isDropped(position: number): Promise<boolean> {
    this.#checkOpen();
    return this.#content.all[position - 1]?.isDropped === true;
  }

  async head(): Promise<number> {
    this.#checkOpen();
    return this.#content.all.length;
  }

  async acquireName(name: string): Promise<NameLease | undefined> {
    const { names } = this.#content;
    if (names.has(name)) return undefined;
    names.add(name);
    return { isHeld: () => true, release: () => void names.delete(name) };
  }

  async listConsumers(): Promise<readonly string[]> {
    return [...this.#content.notes.keys()].sort(compareCodePoints);
  }

  async consumerNotes(name: string, afterSequence: number, limit: number = Infinity): Promise<readonly ConsumerNote[]> {
    const texts = (this.#content.notes.get(name) ?? []).slice(afterSequence, afterSequence + limit);
    return texts.map((text) => JSON.parse(text) as ConsumerNote);
  }

  async progress(): Promise<StoreProgress> {
    this.#checkOpen();
    const { all, notes } = this.#content;
    return { head: all.length, consumers: new Map([...notes].map(([name, texts]) => [name, texts.length])) };
  }

  async deadLetters(name: string): Promise<readonly StoredDeadLetter[]> {
    return [...(this.#content.letters.get(name)?.values() ?? [])];
  }

  async deadLetter(name: string, key: string): Promise<StoredDeadLetter | undefined> {
    return this.#content.letters.get(name)?.get(key);
  }

  #note({ name, expectedSequence, note, deadLetters = [], settledLetters = [] }: ConsumerAppend): void {
    const notes = this.#content.notes.get(name) ?? [];
    notes.push(JSON.stringify({ sequence: expectedSequence + 1, note }));
    this.#content.notes.set(name, notes);
    const letters = this.#content.letters.get(name) ?? new Map<string, StoredDeadLetter>();
    for (const letter of deadLetters) letters.set(letter.key, letter);
    for (const key of settledLetters) letters.delete(key);
    this.#content.letters.set(name, letters);
  }

  async loadCheckpoint(kind: ConsumerKind, name: string): Promise<Checkpoint | undefined> {
    const text = this.#content.checkpoints.get(`${kind}/${name}`);
    return text === undefined ? undefined : (JSON.parse(text) as Checkpoint);
  }

  async listCheckpoints(kind: ConsumerKind): Promise<readonly string[]> {
    const prefix = `${kind}/`;
    const keys = [...this.#content.checkpoints.keys()].filter((key) => key.startsWith(prefix));
    return keys.map((key) => key.slice(prefix.length)).sort(compareCodePoints);
  }

  async saveCheckpoint(kind: ConsumerKind, name: string, checkpoint: Checkpoint): Promise<void> {
    // A state that JSON would change is not kept, like on disk.
    if (isJsonValue(checkpoint.state)) this.#content.checkpoints.set(`${kind}/${name}`, JSON.stringify(checkpoint));
  }

  async listStreams(type?: string): Promise<readonly StreamName[]> {
    this.#checkOpen();
    const names = [...this.#content.streams.values()]
      .filter(({ cut, version }) => !(cut?.kind === "deleted" && cut.version === version))
      .map(({ name }) => name)
      .filter((name) => type === undefined || name.type === type);
    return names.sort((a, b) => compareCodePoints(a.type, b.type) || compareCodePoints(a.id, b.id));
  }

  checkName(stream: StreamName): void {
    checkStreamName(stream);
  }

  async refresh(): Promise<void> {
    this.#checkOpen();
  }

  refreshNow(): void {
    this.#checkOpen();
  }

  watch(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  watchForeign(listener: (stream: StreamName) => void): () => void {
    this.#foreignListeners.add(listener);
    return () => this.#foreignListeners.delete(listener);
  }

  async loadSnapshot(stream: StreamName, fingerprint: string): Promise<Snapshot | undefined> {
    const snapshot = this.#content.snapshots.get(fullNameOf(stream));
    return snapshot?.fingerprint === fingerprint ? snapshot : undefined;
  }

  async saveSnapshot(stream: StreamName, snapshot: Snapshot): Promise<void> {
    const key = fullNameOf(stream);
    if (snapshot.version >= (this.#content.streams.get(key)?.cut?.version ?? 0))
      this.#content.snapshots.set(key, snapshot);
  }

  release(_stream: StreamName): void {}

  async close(): Promise<void> {
    this.#closed = true;
    this.#content.observers.delete(this.#observe);
  }

  #checkOpen(): void {
    if (this.#closed) throw new EventfoldError("STORE_CLOSED", "the store is closed");
  }
}

class MemoryEvent implements StoredEvent {
  readonly stream: StreamName;
  readonly version: number;
  readonly position: number;
  isDropped = false;
  readonly #draft: EventDraft;
  readonly #meta: string | undefined;

  constructor(stream: StreamName, draft: EventDraft, version: number, position: number) {
    this.stream = stream;
    this.version = version;
    this.position = position;
    this.#draft = draft;
    this.#meta = draft.meta === undefined ? undefined : JSON.stringify(draft.meta);
  }

  get type(): string {
    return this.#draft.type;
  }

  /** Parsed anew for each reader, so that a reader may change it. */
  get data(): unknown {
    return JSON.parse(this.#draft.data) as unknown;
  }

  get schemaVersion(): number {
    return this.#draft.schemaVersion;
  }

  get timestamp(): number {
    return this.#draft.timestamp;
  }

  get eventId(): string | undefined {
    return this.#draft.eventId;
  }

  get actor(): string | undefined {
    return this.#draft.actor;
  }

  get meta(): EventDraft["meta"] {
    return this.#meta === undefined ? undefined : (JSON.parse(this.#meta) as EventDraft["meta"]);
  }
}

function* inBatches<E extends StoredEvent>(
  events: readonly E[],
  from: number,
  to = Infinity,
): Generator<readonly E[], void, undefined> {
  const end = Math.min(events.length, to);
  for (let start = from - 1; start < end; start += BATCH) yield events.slice(start, Math.min(end, start + BATCH));
}
