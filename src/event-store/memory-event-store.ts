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
import { MemorySubjectKeys, type SubjectKeys } from "./subject-keys.ts";
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
  /** Those before its last cut, since its last deletion. */
  replaced: MemoryEvent[];
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
  readonly keys: MemorySubjectKeys = new MemorySubjectKeys();
  /** The names of which a store has the exclusive use. */
  readonly names: Set<string> = new Set();
  /** Called after each commit, with the store that made it. */
  readonly observers: Set<(committer: MemoryEventStore, commit: Commit) => void> = new Set();
}

/** Events in memory, for tests, prototypes and browsers: they are gone when the process ends. */
export class MemoryEventStore implements EventStore {
  readonly capabilities: EventStoreCapabilities = { durable: false, multiProcess: false };
  readonly keys: SubjectKeys;
  readonly #content: MemoryContent;
  readonly #listeners = new Set<() => void>();
  readonly #foreignListeners = new Set<(stream: StreamName) => void>();
  #closed = false;
  #lastPause = monotonicNow();

  constructor(content: MemoryContent = new MemoryContent()) {
    this.#content = content;
    this.keys = content.keys;
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
        this.#content.streams.set(
          key,
          (kept = { name: { type: stream.type, id: stream.id }, version: 0, events: [], replaced: [] }),
        );
      const first = this.#content.all.length + 1;
      if (cut !== undefined) this.#cut(key, kept, cut, first);
      for (const event of events) {
        const position = this.#content.all.length + 1;
        const stored = new MemoryEvent(kept.name, event, ++kept.version, position, cut === "compacted" ? first : 0);
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
  #cut(key: FullName, stream: MemoryStream, kind: CutKind, position: number): void {
    for (const event of stream.events) event.droppedAt ??= position;
    stream.replaced = [...stream.replaced, ...stream.events];
    if (kind === "deleted") {
      for (const event of stream.replaced) event.isDeleted = true;
      stream.replaced = [];
    }
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
    const { all } = this.#content;
    const { from = 1, to, dropped, horizon = all.length } = options;
    for (const batch of inBatches(all, from, to))
      yield dropped === true ? batch : batch.filter((event) => event.isVisible(horizon));
  }

  async isDropped(position: number, horizon: number = Infinity): Promise<boolean> {
    this.#checkOpen();
    return (this.#content.all[position - 1]?.droppedAt ?? Infinity) <= Math.min(horizon, this.#content.all.length);
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
  /** Position of the cut that has dropped it first. */
  droppedAt: number | undefined;
  /** Dropped by a deletion, too. */
  isDeleted = false;
  /** Position of the first event of the compaction that it belongs to; 0 for none. */
  readonly #compactedAt: number;
  readonly #draft: EventDraft;
  readonly #meta: string | undefined;

  constructor(stream: StreamName, draft: EventDraft, version: number, position: number, compactedAt: number) {
    this.stream = stream;
    this.version = version;
    this.position = position;
    this.#compactedAt = compactedAt;
    this.#draft = draft;
    this.#meta = draft.meta === undefined ? undefined : JSON.stringify(draft.meta);
  }

  /** Whether a reader gets it that began when the store ended with the position `horizon`. */
  isVisible(horizon: number): boolean {
    if (this.isDeleted || this.#compactedAt > horizon || this.position === this.#compactedAt) return false;
    return this.droppedAt === undefined || this.droppedAt > horizon;
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
