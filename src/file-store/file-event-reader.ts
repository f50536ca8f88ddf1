import { EventfoldError, isEventfoldError } from "../errors.ts";
import { isTurnLong, turn } from "../event-loop.ts";
import type {
  Checkpoint,
  ConsumerKind,
  ConsumerNote,
  ReadAllOptions,
  Snapshot,
  StoredDeadLetter,
  StoredEvent,
  StoreProgress,
  StoreSizes,
  StreamName,
} from "../event-store/event-store.ts";
import type { SubjectKeys } from "../event-store/subject-keys.ts";
import { checkStreamName } from "../stream-names.ts";
import { readError } from "./disk/io-error.ts";
import type { StreamKey } from "./disk/stream-key.ts";
import type { ReadingParts } from "./store-parts.ts";
import type { StreamEnd } from "./streams/stream-end.ts";
import type { KnownStream } from "./streams/stream-index.ts";

/** The half of a store in a directory that reads. */
export abstract class FileEventReader {
  /** Looking for commits of other processes costs one small read. */
  readonly pollInterval = 25;
  readonly #parts: ReadingParts;

  constructor(parts: ReadingParts) {
    this.#parts = parts;
  }

  get keys(): SubjectKeys {
    return this.#parts.subjectKeys;
  }

  get location(): string {
    return this.#parts.location;
  }

  /** Throws `STORE_CLOSED`. */
  protected abstract checkOpen(): void;
  /** Commits the foreign lines of a stream, where that is possible. */
  protected abstract adopt(key: StreamKey): Promise<void>;
  /** Commits the foreign lines of a stream, or of all of them, if it is time to look for some. */
  protected abstract lookForForeignLines(key?: StreamKey): Promise<void>;
  /** Completes the file of a stream that may lack committed lines. False if no process has left such files. */
  protected abstract complete(key: StreamKey): Promise<boolean>;
  /** Whether a stream's file lacks committed lines, because the Rust crate holds it. */
  protected abstract isUnsettled(key: StreamKey): boolean;

  async *readStream(
    stream: StreamName,
    options: { readonly from?: number } = {},
  ): AsyncGenerator<readonly StoredEvent[], void, undefined> {
    const { keys, files } = this.#parts;
    const from = options.from ?? 1;
    this.checkOpen();
    const key = keys.of(stream);
    // Thousands of instances may be loading at once.
    if (isTurnLong()) await turn();
    this.refreshNow();
    let next = from;
    for (let isCompleted = false; ; isCompleted = true) {
      try {
        for await (const batch of this.#readOnce(stream, key, next)) {
          yield batch;
          next = (batch.at(-1)?.version ?? next - 1) + 1;
        }
        return;
      } catch (error) {
        if (isCompleted || !isEventfoldError(error, "CORRUPT_STREAM") || !(await this.#isCompleted(key)))
          throw this.#readError(error, files.path(key));
      }
    }
  }

  async #isCompleted(key: StreamKey): Promise<boolean> {
    try {
      return await this.complete(key);
    } catch (error) {
      throw this.#readError(error, this.#parts.files.path(key));
    }
  }

  async *#readOnce(
    stream: StreamName,
    key: StreamKey,
    from: number,
  ): AsyncGenerator<readonly StoredEvent[], void, undefined> {
    const { streams, index } = this.#parts;
    if (this.isUnsettled(key)) await this.adopt(key);
    else if (index.known(key) !== undefined) await this.lookForForeignLines(key);
    let known = this.find(key);
    if (known === "foreign") {
      await this.adopt(key);
      known = this.find(key);
    }
    // There may be foreign lines again.
    if (known === "foreign") known = index.committed(key);
    if (known.end.version >= from) yield* streams.read(stream, key, known, from);
  }

  /** Finds a stream in the index. The index on disk may know of commits that are not visible here yet. */
  protected find(key: StreamKey, mark?: StreamEnd): KnownStream | "foreign" {
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

  async isDropped(position: number, horizon?: number): Promise<boolean> {
    await this.refresh();
    try {
      return this.#parts.reader.isDropped(position, horizon);
    } catch (error) {
      throw this.#readError(error, this.#parts.paths.commitLog);
    }
  }

  async head(): Promise<number> {
    await this.refresh();
    return this.#parts.log.end.position;
  }

  async listConsumers(): Promise<readonly string[]> {
    this.checkOpen();
    try {
      return this.#parts.progress.consumers();
    } catch (error) {
      throw this.#readError(error, this.#parts.paths.commitLog);
    }
  }

  async consumerNotes(name: string, afterSequence: number, limit?: number): Promise<readonly ConsumerNote[]> {
    await this.refresh();
    try {
      if (limit !== undefined) return await this.#parts.progress.someNotes(name, afterSequence, limit);
      return this.#parts.checkpoints.notes(name, afterSequence);
    } catch (error) {
      throw this.#readError(error, this.#parts.paths.commitLog);
    }
  }

  async progress(): Promise<StoreProgress> {
    await this.refresh();
    try {
      return await this.#parts.progress.all();
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
    this.checkOpen();
    this.#parts.guard.checkSometimes();
    return this.#parts.checkpoints.load(kind, name);
  }

  async loadForeignCheckpoint(kind: ConsumerKind, name: string): Promise<Checkpoint | undefined> {
    this.checkOpen();
    return this.#parts.checkpoints.loadForeign(kind, name);
  }

  async listCheckpoints(kind: ConsumerKind): Promise<readonly string[]> {
    this.checkOpen();
    return this.#parts.checkpoints.list(kind);
  }

  sizes(): Promise<StoreSizes> {
    this.checkOpen();
    return this.#parts.sizes();
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
    await this.lookForForeignLines(stream === undefined ? undefined : this.#parts.keys.of(stream));
  }

  refreshNow(): void {
    this.checkOpen();
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
    this.checkOpen();
    const { keys, snapshots, files } = this.#parts;
    const key = keys.of(stream);
    if (this.isUnsettled(key)) return undefined;
    const snapshot = snapshots.load(key, fingerprint);
    if (snapshot === undefined) return undefined;
    try {
      this.find(key, { version: snapshot.version, end: snapshot.offset, crc: snapshot.lines });
    } catch (error) {
      throw this.#readError(error, files.path(key));
    }
    // One that another process saved late.
    return snapshot.version > this.#parts.cuts.startOf(key).version ? snapshot : undefined;
  }

  release(stream: StreamName): void {
    try {
      this.#parts.index.release(this.#parts.keys.of(stream));
    } catch {
      // The index keeps this stream's end: finding the stream's key may read a directory.
    }
  }

  #readError(error: unknown, what: string): Error {
    return readError(this.#parts.guard.explain(error), what);
  }
}

export function storeClosed(): EventfoldError {
  return new EventfoldError("STORE_CLOSED", "the store is closed");
}
