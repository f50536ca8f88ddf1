import { EventfoldError } from "../errors.ts";
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
  StoreSizes,
  StreamName,
} from "../event-store/event-store.ts";
import { checkStreamName } from "../stream-names.ts";
import { Caches } from "./caches.ts";
import { BatchIds } from "./commit/batch-ids.ts";
import { Committer } from "./commit/committer.ts";
import { prepared } from "./commit/prepared-commit.ts";
import { Database, statement, type Statement } from "./connection/database.ts";
import type { PostgresPool } from "./connection/postgres-pool.ts";
import { openFailed, readFailed } from "./failures.ts";
import { Progress } from "./progress.ts";
import { EventReader } from "./read/event-reader.ts";
import { migrate } from "./schema/migrate.ts";
import { quotedSchema } from "./schema/schema-name.ts";
import { PostgresSubjectKeys } from "./subject-keys.ts";
import { fromStored } from "./stored-text.ts";
import { Channel } from "./watch/channel.ts";
import { endedListening, mayListen } from "./watch/listening-stores.ts";
import { Watcher } from "./watch/watcher.ts";

export interface PostgresEventStoreOptions {
  readonly pool: PostgresPool;
  readonly schema: string;
  /** `"flush"`: the server flushes before it answers. `"os"`: it answers first (`synchronous_commit = off`). */
  readonly durability: "flush" | "os";
  /** How long to wait for a server that does not answer, in ms. */
  readonly patience: number;
  /** Whether to hear of other processes' commits by `LISTEN`, for which the store keeps a connection. */
  readonly listens: boolean;
}

/**
 * Events in a schema of a PostgreSQL database.
 *
 * Its promise: when `commit` resolves, its transaction is committed, so with the server's defaults it is on stable storage (with
 * durability `"os"` the server may lose the last moments if it crashes; never half of a commit, and never an earlier one without
 * the later ones). A commit whose answer was lost is looked up, never repeated blindly. Several processes may use one schema. It
 * promises nothing about a server that was set up to lose data (`fsync = off`, a promoted asynchronous standby).
 */
export class PostgresEventStore implements EventStore {
  readonly capabilities: EventStoreCapabilities;
  readonly keys: PostgresSubjectKeys;
  readonly #pool: PostgresPool;
  readonly #database: Database;
  readonly #committer: Committer;
  readonly #reader: EventReader;
  readonly #watcher: Watcher;
  readonly #channel: Channel;
  readonly #caches: Caches;
  readonly #progress: Progress;
  readonly #streams: Statement;
  readonly #streamsOfType: Statement;
  readonly #size: Statement;
  readonly #schema: string;
  readonly #isListening: boolean;
  /** Reads of the head that are under way. Commits that come after them wait for them: another connection could overtake them. */
  readonly #heads = new Set<Promise<unknown>>();
  #closing: Promise<void> | undefined;

  private constructor(options: PostgresEventStoreOptions, database: Database, schema: string, head: number) {
    const flushed = options.durability === "flush";
    this.capabilities = { durable: flushed, multiProcess: true };
    this.#pool = options.pool;
    this.#database = database;
    const ids = new BatchIds();
    this.#reader = new EventReader(database, schema);
    this.#caches = new Caches(database, schema);
    this.#progress = new Progress(database, schema);
    this.keys = new PostgresSubjectKeys(database, schema);
    const watcher = (this.#watcher = new Watcher(database, schema, ids, head));
    const onNews = (): void => void watcher.refresh().catch(() => {});
    const channel = (this.#channel = new Channel({ database, channel: schema, own: ids.first, onNews }));
    this.#committer = new Committer({
      ...{ database, schema, flushed, ids },
      headsRead: () => (this.#heads.size === 0 ? undefined : Promise.all(this.#heads)),
      written: (events, last) => {
        watcher.written(events, last);
        channel.announce();
      },
      abandoned: (batch) => watcher.abandoned(batch),
    });
    const first = `select e.aggregate, e.id from ${schema}.events e where (e.version = 1 or e.cut is not null) and e.dropped_at is null
      and not (e.cut is not distinct from 'deleted' and not exists (
        select from ${schema}.events l where l.aggregate = e.aggregate and l.id = e.id and l.version > e.version))`;
    this.#streams = statement(`${first} order by e.aggregate, e.id`);
    this.#streamsOfType = statement(`${first} and e.aggregate = $1 order by e.id`);
    const isCache = "c.relname in ('snapshots', 'checkpoints')";
    this.#size = statement(
      `select coalesce(sum(pg_total_relation_size(c.oid)) filter (where not ${isCache}), 0)::text,
        coalesce(sum(pg_total_relation_size(c.oid)) filter (where ${isCache}), 0)::text from pg_class c
      join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relkind = 'r'`,
    );
    this.#schema = options.schema;
    this.#isListening = options.listens && mayListen(options.pool);
    watcher.start(() => channel.isHeard);
    if (this.#isListening) channel.listen();
  }

  /** Opens the store in a schema, making the schema when missing. */
  static async open(options: PostgresEventStoreOptions): Promise<PostgresEventStore> {
    const schema = quotedSchema(options.schema);
    const database = new Database(options.pool, options.patience);
    try {
      await migrate(database, options.schema, schema);
      const head = await new EventReader(database, schema).head();
      return new PostgresEventStore(options, database, schema, head);
    } catch (error) {
      database.close();
      throw openFailed(error, options.schema);
    }
  }

  commit(commit: Commit): Promise<CommitResult> {
    if (this.#closing !== undefined) return Promise.reject(closed());
    return new Promise((resolve, reject) => {
      try {
        for (const { stream } of commit.appends) this.checkName(stream);
        this.#committer.add({ ...prepared(commit), resolve, reject });
      } catch (error) {
        // What rests on this commit must not be written either.
        if (commit.chain !== undefined) commit.chain.broken = true;
        throw error;
      }
    });
  }

  async *readStream(
    stream: StreamName,
    { from = 1 }: ReadStreamOptions = {},
  ): AsyncGenerator<readonly StoredEvent[], void, undefined> {
    this.#checkOpen();
    try {
      yield* this.#whileOpen(this.#reader.stream(stream, Math.max(from, 1)));
    } catch (error) {
      throw readFailed(error, `the events of ${stream.type} ${JSON.stringify(stream.id)}`);
    }
  }

  async *readAll(options: ReadAllOptions = {}): AsyncGenerator<readonly StoredEvent[], void, undefined> {
    this.#checkOpen();
    try {
      yield* this.#whileOpen(this.#reader.all({ ...options, from: Math.max(options.from ?? 1, 1) }));
    } catch (error) {
      throw readFailed(error, "the events");
    }
  }

  isDropped(position: number, horizon?: number): Promise<boolean> {
    return this.#read("a position", () => this.#reader.isDropped(position, horizon));
  }

  head(): Promise<number> {
    const head = this.#read("the last position", () => this.#reader.head());
    const done: Promise<unknown> = head.then(
      () => this.#heads.delete(done),
      () => this.#heads.delete(done),
    );
    this.#heads.add(done);
    return head;
  }

  listConsumers(): Promise<readonly string[]> {
    return this.#read("the list of consumers", () => this.#progress.consumers());
  }

  consumerNotes(name: string, afterSequence: number, limit?: number): Promise<readonly ConsumerNote[]> {
    return this.#read(`the notes of ${name}`, () => this.#progress.notes(name, afterSequence, limit));
  }

  progress(): Promise<StoreProgress> {
    return this.#read("how far the store is", () => this.#progress.all());
  }

  deadLetters(name: string): Promise<readonly StoredDeadLetter[]> {
    return this.#read(`the dead letters of ${name}`, () => this.#progress.letters(name));
  }

  deadLetter(name: string, key: string): Promise<StoredDeadLetter | undefined> {
    return this.#read(`a dead letter of ${name}`, () => this.#progress.letter(name, key));
  }

  loadCheckpoint(kind: ConsumerKind, name: string): Promise<Checkpoint | undefined> {
    return this.#read(`the checkpoint of ${name}`, () => this.#caches.loadCheckpoint(kind, name));
  }

  listCheckpoints(kind: ConsumerKind): Promise<readonly string[]> {
    return this.#read("the list of checkpoints", () => this.#caches.listCheckpoints(kind));
  }

  async saveCheckpoint(kind: ConsumerKind, name: string, checkpoint: Checkpoint): Promise<void> {
    if (this.#closing !== undefined) return;
    await this.#read(`the checkpoint of ${name}`, () => this.#caches.saveCheckpoint(kind, name, checkpoint));
  }

  async sizes(): Promise<StoreSizes> {
    const [row] = await this.#read("the size of the store", () => this.#database.read(this.#size, [this.#schema]));
    return { log: Number(row?.[0]), streams: 0, caches: Number(row?.[1]), other: 0, reclaimable: 0 };
  }

  async listStreams(type?: string): Promise<readonly StreamName[]> {
    const rows = await this.#read("the list of streams", () =>
      type === undefined ? this.#database.read(this.#streams) : this.#database.read(this.#streamsOfType, [type]),
    );
    return rows.map(([aggregate, id]) => ({ type: aggregate ?? "", id: fromStored(id ?? "") }));
  }

  checkName(stream: StreamName): void {
    checkStreamName(stream);
  }

  refresh(): Promise<void> {
    return this.#read("new commits", () => this.#watcher.refresh());
  }

  watchForeign(listener: (stream: StreamName) => void): () => void {
    return this.#watcher.watchForeign(listener);
  }

  watch(listener: () => void): () => void {
    return this.#watcher.watch(listener);
  }

  loadSnapshot(stream: StreamName, fingerprint: string): Promise<Snapshot | undefined> {
    return this.#read("a snapshot", () => this.#caches.loadSnapshot(stream, fingerprint));
  }

  async saveSnapshot(stream: StreamName, snapshot: Snapshot): Promise<void> {
    if (this.#closing === undefined) await this.#caches.saveSnapshot(stream, snapshot);
  }

  release(_stream: StreamName): void {}

  async close(): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async #close(): Promise<void> {
    await this.#committer.finish();
    this.#watcher.close();
    this.#channel.close();
    if (this.#isListening) endedListening(this.#pool);
    this.#database.close();
  }

  async #read<T>(what: string, work: () => Promise<T>): Promise<T> {
    this.#checkOpen();
    try {
      return await work();
    } catch (error) {
      throw readFailed(error, what);
    }
  }

  async *#whileOpen<T>(batches: AsyncGenerator<T, void, undefined>): AsyncGenerator<T, void, undefined> {
    for await (const batch of batches) {
      this.#checkOpen();
      yield batch;
    }
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw closed();
  }
}

function closed(): EventfoldError {
  return new EventfoldError("STORE_CLOSED", "the store is closed");
}
