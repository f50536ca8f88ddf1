import { EventfoldError } from "../errors.ts";
import { LatestRun } from "../event-store/latest-run.ts";
import type {
  BackupOptions,
  BackupReport,
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
import { readOnlyStore } from "../event-store/read-only.ts";
import { openReplica, type ReplicaDirectory } from "../file-store/open-replica.ts";
import { monotonicNow } from "../real-timers.ts";
import { checkStreamName } from "../stream-names.ts";
import { Committer } from "./commit/committer.ts";
import { JetStreamApi, type StreamInfo } from "./connection/jetstream-api.ts";
import { Link } from "./connection/link.ts";
import type { NatsConnection } from "./connection/nats-connection.ts";
import { openStreams, type StreamNames, streamNames } from "./connection/stream-config.ts";
import { openFailed, readFailed, replicaDiverged } from "./failures.ts";
import { MalformedBatch, parseBatch } from "./message/batch-message.ts";
import { prepared } from "./message/prepared-commit.ts";
import { CatchUp } from "./replica/catch-up.ts";
import { Follower } from "./replica/follower.ts";
import { parsePlace, type Place } from "./replica/place.ts";
import { type AppliedBatch, Replica } from "./replica/replica.ts";
import { SharedCheckpoints } from "./shared-checkpoints.ts";
import { JetStreamSubjectKeys } from "./subject-keys.ts";

export interface JetStreamEventStoreOptions {
  readonly connection: NatsConnection;
  readonly name: string;
  /** The directory for replicas. */
  readonly directory: string;
  /** Of a stream that is made, and of one that is there; any if left out. */
  readonly replicas?: number | undefined;
  /** How long to wait for servers that do not answer, in ms. */
  readonly patience: number;
  /** Whether the stream must exist, and nothing is written to it. */
  readonly readOnly?: boolean | undefined;
}

/**
 * Events in a stream of NATS JetStream, with a replica of them in a directory.
 *
 * Its promise: when `commit` resolves, the stream's servers have acknowledged it, so it is as durable as they make their messages: a
 * majority of them has it, on stable storage if they run with `sync_interval: always`. A commit whose answer was lost is looked up, never
 * repeated blindly. Several processes may use one stream, each with a replica of its own. A replica that does not continue the stream stops.
 */
export class JetStreamEventStore implements EventStore {
  readonly capabilities: EventStoreCapabilities = { durable: true, multiProcess: true };
  readonly keys: JetStreamSubjectKeys;
  readonly #api: JetStreamApi;
  readonly #local: EventStore;
  readonly #replica: Replica;
  readonly #catchUp: CatchUp;
  readonly #follower: Follower;
  readonly #committer: Committer;
  readonly #checkpoints: SharedCheckpoints;
  readonly #own = new Set<string>();
  readonly #listeners = new Set<() => void>();
  readonly #foreignListeners = new Set<(stream: StreamName) => void>();
  readonly #looking = new LatestRun(() => this.#look());
  readonly #isReadOnly: boolean;
  #closing: Promise<void> | undefined;

  private constructor(
    api: JetStreamApi,
    names: StreamNames,
    info: StreamInfo,
    opened: OpenedReplica,
    isReadOnly: boolean,
  ) {
    this.#api = api;
    this.#isReadOnly = isReadOnly;
    const { directory, replica } = opened;
    this.#local = directory.store;
    this.#replica = replica;
    replica.onApplied = (batches) => this.#tell(batches);
    this.#catchUp = new CatchUp(api, names.commits, replica);
    this.#follower = new Follower(api, names.commits, replica);
    const maxMessage = Number(info.config["max_msg_size"] ?? -1);
    this.#committer = new Committer({ api, names, replica, catchUp: this.#catchUp, maxMessage, own: this.#own });
    this.#checkpoints = new SharedCheckpoints(api, names);
    this.keys = new JetStreamSubjectKeys(api, names);
  }

  /** Opens the store in a stream, making the stream when missing, and brings its replica up to date. */
  static async open(options: JetStreamEventStoreOptions): Promise<JetStreamEventStore> {
    const names = streamNames(options.name);
    const api = new JetStreamApi(new Link(options.connection), options.patience);
    try {
      const info = await openStreams(api, names, options);
      const opened = await openedReplica(api, names, info, options.directory);
      const store = new JetStreamEventStore(api, names, info, opened, options.readOnly === true);
      try {
        await store.#start();
      } catch (error) {
        await store.close();
        throw error;
      }
      return store;
    } catch (error) {
      throw openFailed(error, options.name);
    }
  }

  async #start(): Promise<void> {
    this.#follower.start();
    await this.#look();
    await this.#replica.checkWhole();
  }

  /** Sees what was acknowledged before the call. */
  async #look(): Promise<void> {
    const deadline = monotonicNow() + this.#api.patience;
    await this.#catchUp.toLast(() => deadline);
  }

  commit(commit: Commit): Promise<CommitResult> {
    if (this.#closing !== undefined) return Promise.reject(closed());
    if (this.#isReadOnly) return Promise.reject(readOnlyStore("a commit"));
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
    options?: ReadStreamOptions,
  ): AsyncGenerator<readonly StoredEvent[], void, undefined> {
    this.#check();
    yield* this.#whileOpen(this.#local.readStream(stream, options));
  }

  async *readAll(options?: ReadAllOptions): AsyncGenerator<readonly StoredEvent[], void, undefined> {
    this.#check();
    yield* this.#whileOpen(this.#local.readAll(options));
  }

  async isDropped(position: number, horizon?: number): Promise<boolean> {
    this.#check();
    return this.#local.isDropped(position, horizon);
  }

  async head(): Promise<number> {
    this.#check();
    return this.#replica.position;
  }

  async listConsumers(): Promise<readonly string[]> {
    this.#check();
    return this.#local.listConsumers();
  }

  async consumerNotes(name: string, afterSequence: number, limit?: number): Promise<readonly ConsumerNote[]> {
    this.#check();
    return this.#local.consumerNotes(name, afterSequence, limit);
  }

  async progress(): Promise<StoreProgress> {
    this.#check();
    return this.#local.progress();
  }

  async deadLetters(name: string): Promise<readonly StoredDeadLetter[]> {
    this.#check();
    return this.#local.deadLetters(name);
  }

  async deadLetter(name: string, key: string): Promise<StoredDeadLetter | undefined> {
    this.#check();
    return this.#local.deadLetter(name, key);
  }

  async loadCheckpoint(kind: ConsumerKind, name: string): Promise<Checkpoint | undefined> {
    this.#check();
    if (kind !== "subscription") return this.#local.loadCheckpoint(kind, name);
    return this.#remote(`the checkpoint of ${name}`, () => this.#checkpoints.load(name));
  }

  async listCheckpoints(kind: ConsumerKind): Promise<readonly string[]> {
    this.#check();
    if (kind !== "subscription") return this.#local.listCheckpoints(kind);
    return this.#remote("the list of checkpoints", () => this.#checkpoints.list());
  }

  async saveCheckpoint(kind: ConsumerKind, name: string, checkpoint: Checkpoint): Promise<void> {
    if (this.#closing !== undefined || this.#isReadOnly) return;
    if (kind !== "subscription") await this.#local.saveCheckpoint(kind, name, checkpoint);
    else await this.#remote(`the checkpoint of ${name}`, () => this.#checkpoints.save(name, checkpoint));
  }

  async sizes(): Promise<StoreSizes> {
    this.#check();
    return (await this.#local.sizes?.()) ?? { log: 0, streams: 0, caches: 0, other: 0, reclaimable: 0 };
  }

  /** The replica is a store in a directory, so its copy is one, too. */
  async backup(directory: string, options: BackupOptions): Promise<BackupReport> {
    if (options.keys === true)
      throw new EventfoldError(
        "INVALID_ARGUMENT",
        "backup expected no `keys` for a store in JetStream, found `keys: true`: the keys of personal fields stay in the cluster. Copy without them, and restore the stream of keys with the cluster's own tools",
      );
    for (const name of await this.listCheckpoints("subscription")) {
      const checkpoint = await this.loadCheckpoint("subscription", name);
      if (checkpoint !== undefined) await this.#local.saveCheckpoint("subscription", name, checkpoint);
    }
    // After the checkpoints, which must not be further than the copy.
    await this.refresh();
    const { backup } = this.#local;
    if (backup === undefined) throw new EventfoldError("INVALID_ARGUMENT", "the replica cannot be copied");
    return backup.call(this.#local, directory, options);
  }

  /** To remove events from the replica alone would not remove them. */
  async reclaim(): Promise<never> {
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      "reclaim expected a store in a directory, found one in JetStream, whose stream keeps all messages. Use personal fields for data that must go, or export the store to a new stream",
    );
  }

  async listStreams(type?: string): Promise<readonly StreamName[]> {
    this.#check();
    return this.#local.listStreams(type);
  }

  checkName(stream: StreamName): void {
    checkStreamName(stream);
  }

  async refresh(): Promise<void> {
    this.#check();
    await this.#remote("new commits", () => this.#looking.run());
  }

  watchForeign(listener: (stream: StreamName) => void): () => void {
    this.#foreignListeners.add(listener);
    return () => this.#foreignListeners.delete(listener);
  }

  watch(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async loadSnapshot(stream: StreamName, fingerprint: string): Promise<Snapshot | undefined> {
    this.#check();
    return this.#local.loadSnapshot(stream, fingerprint);
  }

  async saveSnapshot(stream: StreamName, snapshot: Snapshot): Promise<void> {
    if (this.#closing === undefined && !this.#isReadOnly) await this.#local.saveSnapshot(stream, snapshot);
  }

  release(stream: StreamName): void {
    this.#local.release(stream);
  }

  async close(): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async #close(): Promise<void> {
    await this.#committer.finish();
    this.#follower.close();
    await this.#replica.close();
  }

  #tell(batches: readonly AppliedBatch[]): void {
    for (const { batch, streams } of batches) {
      if (this.#own.delete(batch)) continue;
      for (const stream of streams) for (const listener of this.#foreignListeners) listener(stream);
    }
    for (const listener of this.#listeners) listener();
  }

  async #remote<T>(what: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw readFailed(error, what);
    }
  }

  async *#whileOpen<T>(batches: AsyncIterable<T>): AsyncGenerator<T, void, undefined> {
    for await (const batch of batches) {
      this.#check();
      yield batch;
    }
  }

  /** Throws if the store is closed, or if its replica has stopped. */
  #check(): void {
    if (this.#closing !== undefined) throw closed();
    this.#replica.check();
  }
}

interface OpenedReplica {
  readonly directory: ReplicaDirectory;
  readonly replica: Replica;
}

async function openedReplica(
  api: JetStreamApi,
  names: StreamNames,
  info: StreamInfo,
  path: string,
): Promise<OpenedReplica> {
  const directory = await openReplica(path);
  try {
    const place = parsePlace(directory.place);
    if (place !== undefined) await checkPlace(api, names, info, directory.path, place);
    return { directory, replica: await Replica.open(directory, place) };
  } catch (error) {
    await directory.close();
    throw error;
  }
}

/** Throws `REPLICA_DIVERGED` if the last message that a replica has is not in the stream. */
async function checkPlace(
  api: JetStreamApi,
  names: StreamNames,
  { state }: StreamInfo,
  path: string,
  place: Place,
): Promise<void> {
  if (place.sequence === 0) return;
  const found = await api.read((timeout) => api.message(names.commits, { seq: place.sequence }, timeout));
  if (found === undefined)
    throw replicaDiverged(path, `it has message ${place.sequence}, and the stream ends with message ${state.last_seq}`);
  const { batch } = readBatch(found.data.toString());
  if (batch !== place.batch)
    throw replicaDiverged(
      path,
      `its message ${place.sequence} is the batch ${place.batch}, and that of the stream is ${batch}`,
    );
}

function readBatch(text: string): { readonly batch: string | undefined } {
  try {
    return parseBatch(text);
  } catch (error) {
    if (error instanceof MalformedBatch) return { batch: undefined };
    throw error;
  }
}

function closed(): EventfoldError {
  return new EventfoldError("STORE_CLOSED", "the store is closed");
}
