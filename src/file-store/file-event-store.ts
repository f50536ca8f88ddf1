import { EventfoldError } from "../errors.ts";
import { isTurnLong, turn } from "../event-loop.ts";
import type {
  Checkpoint,
  Commit,
  CommitResult,
  ConsumerKind,
  ConsumerNote,
  EventStore,
  EventStoreCapabilities,
  ReadAllOptions,
  Snapshot,
  StoredDeadLetter,
  StoredEvent,
  StreamName,
} from "../event-store/event-store.ts";
import { checkStreamName } from "../stream-names.ts";
import { queuedCommit } from "./commit/queued-commit.ts";
import { ioError, readError } from "./disk/io-error.ts";
import type { StreamKey } from "./disk/stream-key.ts";
import type { StreamEnd } from "./streams/stream-end.ts";
import type { KnownStream } from "./streams/stream-index.ts";
import type { StoreParts } from "./store-parts.ts";

/**
 * Events in plain files under one directory.
 *
 * When `commit` resolves, the commit is on stable storage (with durability `"os"`: handed to the operating
 * system, so that it survives the death of the process but not a power cut). A commit is in the log whole or not at all. The
 * streams' own files follow the log and are completed from it after a crash. None of this holds on a disk that acknowledges
 * flushes that it has not done.
 */
export class FileEventStore implements EventStore {
  /** Looking for commits of other processes costs one small read. */
  readonly pollInterval = 25;
  readonly #parts: StoreParts;
  #savingSnapshots: Promise<void> = Promise.resolve();
  #closing: Promise<void> | undefined;

  constructor(parts: StoreParts) {
    this.#parts = parts;
  }

  get capabilities(): EventStoreCapabilities {
    return this.#parts.capabilities;
  }

  commit(commit: Commit): Promise<CommitResult> {
    if (this.#closing !== undefined) return Promise.reject(closed());
    const { committer, keys } = this.#parts;
    return new Promise((resolve, reject) => {
      committer.add(queuedCommit(commit, (stream) => keys.of(stream), resolve, reject));
    });
  }

  async *readStream(
    stream: StreamName,
    options: { readonly from?: number } = {},
  ): AsyncGenerator<readonly StoredEvent[], void, undefined> {
    const { keys, files, committer, streams, unsettled, index, foreign } = this.#parts;
    const from = options.from ?? 1;
    this.#checkOpen();
    const key = keys.of(stream);
    // Thousands of instances may be loading at once.
    if (isTurnLong()) await turn();
    this.refreshNow();
    try {
      if (unsettled.has(key)) await committer.adopt(key);
      else if (index.known(key) !== undefined) await foreign.lookAt(key);
      let known = this.#find(key);
      if (known === "foreign") {
        await committer.adopt(key);
        known = this.#find(key);
      }
      if (known !== "foreign" && known.end.version >= from) yield* streams.read(stream, key, known, from);
    } catch (error) {
      throw this.#readError(error, files.path(key));
    }
  }

  /** Finds a stream in the index. The index on disk may know of commits that are not visible here yet. */
  #find(key: StreamKey, mark?: StreamEnd): KnownStream | "foreign" {
    const { index, log, follower } = this.#parts;
    for (;;) {
      const known = index.find(key, mark);
      const { end } = log;
      follower.catchUp();
      if (log.end === end) return known;
    }
  }

  async *readAll(options: ReadAllOptions = {}): AsyncGenerator<readonly StoredEvent[], void, undefined> {
    await this.refresh();
    try {
      yield* this.#parts.reader.read(options);
    } catch (error) {
      throw this.#readError(error, this.#parts.paths.commitLog);
    }
  }

  async head(): Promise<number> {
    await this.refresh();
    return this.#parts.log.end.position;
  }

  async consumerNotes(name: string, afterSequence: number): Promise<readonly ConsumerNote[]> {
    await this.refresh();
    try {
      return this.#parts.checkpoints.notes(name, afterSequence);
    } catch (error) {
      throw this.#readError(error, this.#parts.paths.commitLog);
    }
  }

  async deadLetters(name: string): Promise<readonly StoredDeadLetter[]> {
    await this.refresh();
    try {
      return this.#parts.progress.deadLetters(name);
    } catch (error) {
      throw this.#readError(error, `the dead letters of ${name}`);
    }
  }

  async deadLetter(name: string, key: string): Promise<StoredDeadLetter | undefined> {
    await this.refresh();
    try {
      return this.#parts.progress.deadLetter(name, key);
    } catch (error) {
      throw this.#readError(error, `the dead letters of ${name}`);
    }
  }

  async loadCheckpoint(kind: ConsumerKind, name: string): Promise<Checkpoint | undefined> {
    this.#checkOpen();
    this.#parts.guard.checkSometimes();
    return this.#parts.checkpoints.load(kind, name);
  }

  async listCheckpoints(kind: ConsumerKind): Promise<readonly string[]> {
    this.#checkOpen();
    return this.#parts.checkpoints.list(kind);
  }

  async saveCheckpoint(kind: ConsumerKind, name: string, checkpoint: Checkpoint): Promise<void> {
    if (this.#closing !== undefined) return;
    this.#parts.guard.check();
    await this.#parts.checkpoints.save(kind, name, checkpoint);
  }

  bytes(): Promise<number> {
    this.#checkOpen();
    return this.#parts.bytes();
  }

  async listStreams(type?: string): Promise<readonly StreamName[]> {
    await this.refresh();
    return this.#parts.list.read(type);
  }

  checkName(stream: StreamName): void {
    checkStreamName(stream);
  }

  async refresh(stream?: StreamName): Promise<void> {
    this.refreshNow();
    const { foreign, keys } = this.#parts;
    await (stream === undefined ? foreign.look() : foreign.lookAt(keys.of(stream)));
  }

  refreshNow(): void {
    this.#checkOpen();
    this.#parts.guard.checkSometimes();
    this.#parts.follower.catchUp();
  }

  watch(listener: () => void): () => void {
    return this.#parts.watchers.watch(listener);
  }

  watchForeign(listener: (stream: StreamName) => void): () => void {
    return this.#parts.watchers.watchForeign(listener);
  }

  async loadSnapshot(stream: StreamName, fingerprint: string): Promise<Snapshot | undefined> {
    if (isTurnLong()) await turn();
    this.#checkOpen();
    const { keys, snapshots, files, unsettled } = this.#parts;
    const key = keys.of(stream);
    if (unsettled.has(key)) return undefined;
    const snapshot = snapshots.load(key, fingerprint);
    if (snapshot === undefined) return undefined;
    try {
      this.#find(key, { version: snapshot.version, end: snapshot.offset, crc: snapshot.lines });
    } catch (error) {
      throw this.#readError(error, files.path(key));
    }
    return snapshot;
  }

  /** Saves one after the other, with other work in between: instances that were used alike are due for a snapshot at the same time. */
  saveSnapshot(stream: StreamName, snapshot: Snapshot): Promise<void> {
    const saved = this.#savingSnapshots.then(() => this.#saveSnapshot(stream, snapshot));
    this.#savingSnapshots = saved.then(turn);
    return saved;
  }

  async #saveSnapshot(stream: StreamName, snapshot: Snapshot): Promise<void> {
    if (this.#closing !== undefined) return;
    const { keys, index, guard, snapshots } = this.#parts;
    try {
      guard.check();
      const key = keys.of(stream);
      const known = index.known(key);
      if (known !== undefined) await snapshots.save(key, snapshot, known.end);
    } catch {
      // Only a cache.
    }
  }

  release(stream: StreamName): void {
    this.#parts.index.release(this.#parts.keys.of(stream));
  }

  async close(): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async #close(): Promise<void> {
    const { committer, foreign, checkpointer, lock, unapplied, log, closeFiles } = this.#parts;
    try {
      await foreign.finish();
      await committer.finish();
      await checkpointer.finish();
      await lock.hold(async () => {
        await committer.restoreLog();
        if (unapplied.isEmpty && !log.hasMore()) await log.cutTail();
      });
    } catch (error) {
      // Everything acknowledged is in the log; the next opening completes what is missing here.
      if (!unapplied.isEmpty) throw ioError(error, "closing the store");
    } finally {
      closeFiles();
      lock.close();
    }
  }

  #readError(error: unknown, what: string): Error {
    return readError(this.#parts.guard.explain(error), what);
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw closed();
  }
}

function closed(): EventfoldError {
  return new EventfoldError("STORE_CLOSED", "the store is closed");
}
