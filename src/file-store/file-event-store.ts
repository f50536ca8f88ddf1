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
import { compareCodePoints } from "../event-store/stream-order.ts";
import { type FileSystem, systemErrorCode } from "../fs/file-system.ts";
import { adoptStreams, registerStreams } from "./recovery/rebuild-log.ts";
import { checkStreamName, isPlainName } from "../event-store/stream-names.ts";
import { directoryName, type StreamKey, streamOfKey } from "./disk/stream-key.ts";
import { Applier } from "./apply/applier.ts";
import type { QueuedCommit } from "./commit/batch.ts";
import { CommitLog, type CommitLogOptions, DEFAULT_LOG_OPTIONS } from "./log/commit-log.ts";
import { isBefore, type LogPlace } from "./log/log-place.ts";
import { listSegments } from "./log/segment.ts";
import { Checkpointer } from "./recovery/checkpointer.ts";
import type { RecordHeader } from "./log/record-format.ts";
import { readSections, type Section } from "./log/record-sections.ts";
import { CheckpointFiles } from "./caches/checkpoint-files.ts";
import { Committer } from "./commit/committer.ts";
import { ProgressLog } from "./progress/progress-log.ts";
import { metaText } from "./lines/event-line.ts";
import { Head } from "./log/head.ts";
import { ioError, readError } from "./disk/io-error.ts";
import { type StorePaths, storePaths } from "./disk/store-paths.ts";
import { readMarker } from "./recovery/marker.ts";
import { LogReader } from "./log/log-reader.ts";
import { PendingBatches } from "./streams/unapplied-records.ts";
import { RecordCache } from "./log/record-cache.ts";
import { recoverLog } from "./recovery/recover-log.ts";
import { StreamRegistry } from "./streams/stream-registry.ts";
import { type LineHash, loadLineHash } from "./caches/snapshot-format.ts";
import { SnapshotFiles } from "./caches/snapshot-files.ts";
import { StoreLock } from "./disk/store-lock.ts";
import { storeRecovered } from "../tracing/tracing.ts";
import { StreamFiles } from "./streams/stream-files.ts";
import { StreamEnds } from "./streams/stream-index.ts";
import { StreamReader } from "./streams/stream-reader.ts";
import { type StreamEntry, type StreamPlace, StreamTable } from "./streams/stream-table.ts";

/** When a commit is acknowledged: after a flush, or as soon as the operating system has it. */
export type Durability = "flush" | "os";

export interface FileEventStoreOptions {
  readonly durability?: Durability;
  readonly log?: Partial<CommitLogOptions>;
  /** Told how many events were found while a directory without a commit log is taken over. */
  readonly onAdoption?: (events: number) => void;
}

/**
 * Events in plain files under one directory.
 *
 * What it promises: when `commit` resolves, the commit is on stable storage (with durability `"os"`: handed to the operating
 * system, so that it survives the death of the process but not a power cut). A commit is in the log whole
 * or not at all. The streams' own files follow the log and are completed from it after a crash. What it
 * cannot promise: anything about a disk that acknowledges a flush it has not done.
 */
export class FileEventStore implements EventStore {
  readonly capabilities: EventStoreCapabilities;
  /** Looking for commits of other processes costs one small read. */
  readonly pollInterval = 25;

  readonly #fs: FileSystem;
  readonly #paths: StorePaths;
  readonly #log: CommitLog;
  readonly #head: Head;
  /** What it said when we last looked. */
  #headSeen: LogPlace | undefined;
  readonly #lock: StoreLock;
  readonly #files: StreamFiles;
  readonly #registry: StreamRegistry;
  readonly #applier: Applier;
  readonly #progress: ProgressLog;
  readonly #ends: StreamEnds;
  readonly #table: StreamTable;
  readonly #streams: StreamReader;
  readonly #pending = new PendingBatches();
  readonly #recordCache = new RecordCache();
  readonly #committer: Committer;
  /** Keys of names that were asked for before: an instance always asks with the same object. */
  readonly #keys = new WeakMap<StreamName, StreamKey>();
  readonly #listeners = new Set<() => void>();
  readonly #foreignListeners = new Set<(stream: StreamName) => void>();
  readonly #snapshots: SnapshotFiles;
  readonly #checkpoints: CheckpointFiles;
  readonly #reader: LogReader;
  readonly #checkpointer: Checkpointer;
  #savingSnapshots: Promise<void> = Promise.resolve();
  #closing: Promise<void> | undefined;

  private constructor(
    fs: FileSystem,
    paths: StorePaths,
    log: CommitLog,
    lock: StoreLock,
    hash: LineHash,
    marked: LogPlace,
    options: { readonly mergesNames: boolean; readonly durability: Durability },
  ) {
    this.capabilities = { durable: options.durability === "flush", multiProcess: true };
    this.#fs = fs;
    this.#paths = paths;
    this.#log = log;
    this.#lock = lock;
    this.#head = new Head(fs, paths.head);
    this.#progress = new ProgressLog(fs, paths, log);
    this.#files = new StreamFiles(fs, paths.streams, options.mergesNames);
    this.#registry = new StreamRegistry(fs, paths.registry);
    this.#ends = new StreamEnds({
      ...{ fs, path: paths.streamEnds, log },
      applied: () => this.#pending.list[0]?.place ?? log.end,
    });
    this.#table = new StreamTable(this.#files, this.#pending, log, this.#ends);
    this.#checkpoints = new CheckpointFiles(fs, paths, (key) => this.#files.openForReading(key));
    this.#snapshots = new SnapshotFiles(fs, this.#files, hash);
    const shared = { fs, paths, log, lock, files: this.#files, ends: this.#ends, pending: this.#pending };
    this.#applier = new Applier({ ...shared, registry: this.#registry, progress: this.#progress });
    this.#streams = new StreamReader({ ...shared, table: this.#table });
    this.#reader = new LogReader(log, this.#recordCache, (stream, key) => this.#streams.origin(stream, key));
    const parts = { ...shared, applier: this.#applier };
    this.#checkpointer = new Checkpointer({ ...parts, reapply: (from) => this.#reapply(from) }, marked);
    this.#committer = new Committer({
      ...parts,
      progress: this.#progress,
      table: this.#table,
      durability: options.durability,
      catchUp: () => this.#catchUp(),
      recoverTail: () => this.#recoverFrom(this.#log.end),
      visible: ({ batch, start, place, end }) => {
        for (const section of batch.record.sections) this.#streams.add(section);
        this.#recordCache.add(batch.record.buffer.subarray(start, batch.record.end), place, end);
        this.#tellListeners();
      },
      committed: (end) => this.#committed(end),
    });
  }

  /** Opens the store in a directory, making it when missing and recovering it when needed. */
  static async open(fs: FileSystem, directory: string, options: FileEventStoreOptions = {}): Promise<FileEventStore> {
    const paths = storePaths(fs.resolve(directory));
    try {
      const created = fs.makeDirectory(paths.meta);
      fs.makeDirectory(paths.streams);
      // Every directory that is new, up to the first one that was there; all of them as long as nothing was committed, because
      // whoever made them may have died just then.
      let path = created ?? (listSegments(fs, paths.commitLog).length === 0 ? nextBelow("", paths.meta) : "");
      for (; path !== "" && paths.meta.startsWith(path); path = nextBelow(path, paths.meta)) {
        try {
          await fs.syncDirectory(path.slice(0, path.lastIndexOf("/")) || "/");
        } catch (error) {
          // One that may not be opened was not made by us or our like.
          if (created !== undefined || systemErrorCode(error) !== "EACCES") throw error;
        }
      }
      const hash = await loadLineHash();
      const lock = StoreLock.open(fs, paths.lock);
      try {
        const store = await lock.hold(() => FileEventStore.#openLocked(fs, paths, lock, hash, options));
        await store.#checkpointer.bound();
        return store;
      } catch (error) {
        lock.close();
        throw error;
      }
    } catch (error) {
      throw ioError(error, `opening the store in ${paths.base}`);
    }
  }

  static async #openLocked(
    fs: FileSystem,
    paths: StorePaths,
    lock: StoreLock,
    hash: LineHash,
    options: FileEventStoreOptions,
  ): Promise<FileEventStore> {
    const logOptions = { ...DEFAULT_LOG_OPTIONS, ...options.log };
    const mergesNames = fs.stat(`${paths.base}/META`) !== undefined;
    if (listSegments(fs, paths.commitLog).length === 0) {
      await adoptStreams(fs, paths, logOptions, options.onAdoption ?? (() => {}));
    } else if (fs.stat(paths.registry) === undefined) await registerStreams(fs, paths);
    const [first] = listSegments(fs, paths.commitLog);
    const start: LogPlace = { segment: 1, offset: 0, position: 0 };
    const log = new CommitLog(fs, paths.commitLog, logOptions, start);
    if (first !== undefined && first !== 1)
      throw log.scanner.corruption(start, `the first segment is missing; the next is ${first}`);
    const from = readMarker(fs, paths.marker) ?? start;
    const durability = options.durability ?? "flush";
    const store = new FileEventStore(fs, paths, log, lock, hash, from, { mergesNames, durability });
    try {
      if ((fs.stat(log.scanner.segmentPath(from.segment))?.size ?? 0) < from.offset) {
        throw log.scanner.corruption(from, "the commit log is shorter than it once was");
      }
      log.moveTo(from);
      store.#ends.open(from);
      await store.#recoverFrom(from);
      store.#ends.check();
    } catch (error) {
      store.#closeFiles();
      throw error;
    }
    return store;
  }

  commit(commit: Commit): Promise<CommitResult> {
    if (this.#closing !== undefined) return Promise.reject(closed());
    return new Promise((resolve, reject) => {
      const keys = commit.appends.map(({ stream }) => this.#key(stream));
      const metas = commit.appends.map(({ events }) => events.map(metaText));
      this.#committer.add({ commit, keys, metas, resolve, reject } satisfies QueuedCommit);
    });
  }

  async *readStream(
    stream: StreamName,
    options: { readonly from?: number } = {},
  ): AsyncGenerator<readonly StoredEvent[], void, undefined> {
    const from = options.from ?? 1;
    this.#checkOpen();
    const key = this.#key(stream);
    // Thousands of instances may be loading at once.
    if (isTurnLong()) await turn();
    await this.refresh();
    try {
      let entry = this.#entry(key);
      if (entry === "foreign") {
        // Another program has appended: its events become ours first.
        await this.#committer.adopt(key);
        entry = this.#entry(key);
      }
      if (entry !== "foreign" && entry.version >= from) yield* this.#streams.read(stream, key, entry, from);
    } catch (error) {
      throw readError(error, this.#files.path(key));
    }
  }

  #entry(key: StreamKey, mark?: StreamPlace): StreamEntry | "foreign" {
    for (;;) {
      const entry = this.#table.get(key, mark);
      const { end } = this.#log;
      // The table of ends may know of commits that we have not seen yet.
      this.#catchUp();
      if (this.#log.end === end) return entry;
    }
  }

  async *readAll(options: ReadAllOptions = {}): AsyncGenerator<readonly StoredEvent[], void, undefined> {
    await this.refresh();
    try {
      yield* this.#reader.read(options);
    } catch (error) {
      throw readError(error, this.#paths.commitLog);
    }
  }

  bookmark(position: number): unknown {
    return this.#reader.bookmark(position);
  }

  async head(): Promise<number> {
    await this.refresh();
    return this.#log.end.position;
  }

  async consumerNotes(name: string, afterSequence: number, bookmark?: unknown): Promise<readonly ConsumerNote[]> {
    await this.refresh();
    try {
      const place = Array.isArray(bookmark) ? this.#reader.start(Number(bookmark[2]) + 1, bookmark) : undefined;
      return this.#progress.notes(name, afterSequence, place);
    } catch (error) {
      throw readError(error, this.#paths.commitLog);
    }
  }

  async deadLetters(name: string): Promise<readonly StoredDeadLetter[]> {
    await this.refresh();
    try {
      return this.#progress.deadLetters(name);
    } catch (error) {
      throw readError(error, `the dead letters of ${name}`);
    }
  }

  async loadCheckpoint(kind: ConsumerKind, name: string): Promise<Checkpoint | undefined> {
    this.#checkOpen();
    return this.#checkpoints.load(kind, name);
  }

  async saveCheckpoint(kind: ConsumerKind, name: string, checkpoint: Checkpoint): Promise<void> {
    if (this.#closing === undefined) await this.#checkpoints.save(kind, name, checkpoint);
  }

  async listStreams(type?: string): Promise<readonly StreamName[]> {
    this.#checkOpen();
    await this.refresh();
    const known = this.#registeredStreams();
    const names = new Set(known.map((stream) => `${stream.type}/${stream.id}`));
    for (const { batch } of this.#pending.list) {
      for (const { stream } of batch.created) if (!names.has(`${stream.type}/${stream.id}`)) known.push(stream);
    }
    const streams = type === undefined ? known : known.filter((stream) => stream.type === type);
    return streams.sort((a, b) => compareCodePoints(a.type, b.type) || compareCodePoints(a.id, b.id));
  }

  /** What the directories say; the registry tells which of those without events count. */
  #registeredStreams(): StreamName[] {
    try {
      return this.#readRegistry();
    } catch (error) {
      throw readError(error, "the list of streams");
    }
  }

  #readRegistry(): StreamName[] {
    const registered = new Map(this.#registry.read().streams.map((stream) => [`${stream.type}/${stream.id}`, stream]));
    const streams: StreamName[] = [];
    // A damaged line can look like another stream's, so the directories have the last word.
    for (const type of this.#fs.readDirectory(this.#paths.streams)) {
      const path = `${this.#paths.streams}/${type.name}`;
      for (const { name, directory } of type.directory ? this.#fs.readDirectory(path) : []) {
        const key = `${type.name}/${name}`;
        const stream = streamOfKey(key);
        const isListed = registered.delete(`${stream.type}/${stream.id}`);
        if (directory && (isListed || (this.#files.size(key) ?? 0) > 0)) streams.push(stream);
      }
    }
    // A directory that is gone is damage, but no reason to say that there never was a stream.
    for (const stream of registered.values()) if (this.#hasEvents(stream)) streams.push(stream);
    return streams;
  }

  #hasEvents(stream: StreamName): boolean {
    try {
      return (this.#ends.of(this.#key(stream))?.version ?? 0) > 0;
    } catch {
      return false;
    }
  }

  checkName(stream: StreamName): void {
    checkStreamName(stream);
  }

  async refresh(): Promise<void> {
    this.#checkOpen();
    this.#catchUp();
  }

  refreshNow(): void {
    this.#checkOpen();
    this.#catchUp();
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
    if (isTurnLong()) await turn();
    this.#checkOpen();
    const key = this.#key(stream);
    const snapshot = this.#snapshots.load(key, fingerprint);
    if (snapshot === undefined) return undefined;
    try {
      this.#entry(key, { version: snapshot.version, end: snapshot.offset, crc: snapshot.lines });
    } catch (error) {
      throw readError(error, this.#files.path(key));
    }
    return snapshot;
  }

  /** One after the other, with other work in between: instances that were used alike are due for a snapshot at the same time. */
  saveSnapshot(stream: StreamName, snapshot: Snapshot): Promise<void> {
    const saved = this.#savingSnapshots.then(() => this.#saveSnapshot(stream, snapshot));
    this.#savingSnapshots = saved.then(turn);
    return saved;
  }

  async #saveSnapshot(stream: StreamName, snapshot: Snapshot): Promise<void> {
    if (this.#closing !== undefined) return;
    try {
      const key = this.#key(stream);
      const entry = this.#table.known(key);
      if (entry !== undefined) await this.#snapshots.save(key, snapshot, entry);
    } catch {
      // Only a cache.
    }
  }

  release(stream: StreamName): void {
    const key = this.#key(stream);
    if (!this.#pending.has(key)) this.#table.delete(key);
  }

  async close(): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async #close(): Promise<void> {
    try {
      await this.#committer.finish();
      await this.#checkpointer.finish();
      await this.#lock.hold(async () => {
        await this.#committer.settle();
        if (this.#pending.isEmpty && !this.#log.hasMore()) await this.#log.cutTail();
      });
    } catch (error) {
      // Everything acknowledged is in the log; the next opening completes what is missing here.
      if (!this.#pending.isEmpty) throw ioError(error, "closing the store");
    } finally {
      this.#closeFiles();
      this.#lock.close();
    }
  }

  #closeFiles(): void {
    this.#files.close();
    this.#registry.close();
    this.#ends.close();
    this.#head.close();
    this.#log.close();
  }

  /** Takes note of what other processes have committed and applied. */
  #catchUp(): void {
    try {
      this.#readNewCommits();
    } catch (error) {
      throw readError(error, this.#paths.commitLog);
    }
  }

  #readNewCommits(): void {
    const head = this.#head.read();
    this.#headSeen = head;
    if (head === undefined || !isBefore(this.#log.end, head)) return;
    const result = this.#log.scanner.scan(this.#log.end, head, (header, buffer, base) =>
      this.#absorb(header, buffer, base),
    );
    if (result.invalid !== undefined) throw this.#log.scanner.corruption(result.end, result.invalid);
    // Else whoever waits for the end of the log to stay where it is would wait for ever.
    if (!isBefore(this.#log.end, result.end))
      throw this.#log.scanner.corruption(
        result.end,
        `the commit log ends here; position ${head.position} was committed`,
      );
    this.#log.moveTo(result.end);
    this.#tellListeners();
  }

  #absorb(header: RecordHeader, buffer: Buffer, base: number): void {
    const visit = (section: Section): void => {
      this.#table.grow(section, buffer);
      this.#streams.add(section);
      this.#applier.markDirty(section.key, section.version === 1);
      if (this.#foreignListeners.size === 0) return;
      const stream = streamOfKey(section.key);
      for (const listener of this.#foreignListeners) listener(stream);
    };
    readSections(buffer, header, base, visit, (section) => {
      this.#progress.add(section);
      this.#applier.markLettersDirty(section);
    });
  }

  /** Completes what a dead process has begun: accepts whole records, cuts torn ones, applies to the streams' files. */
  async #recoverFrom(from: LogPlace): Promise<void> {
    const registered = new Set<string>();
    let readRegistry = false;
    const streams = this.#registry;
    const tornBytes = await recoverLog(
      this.#fs,
      this.#paths,
      this.#log,
      from,
      this.#head.read(),
      (header, buffer, base) => {
        if (!readRegistry) {
          readRegistry = true;
          for (const { type, id } of streams.read().streams) registered.add(`${type}/${id}`);
        }
        this.#absorb(header, buffer, base);
        this.#applier.reapply(header, buffer, base, registered);
      },
    );
    this.#head.write((this.#headSeen = this.#log.end));
    this.#checkpointer.schedule();
    const { position } = this.#log.end;
    if (position > from.position || tornBytes > 0)
      storeRecovered.publish(() => ({ directory: this.#paths.base, from: from.position, position, tornBytes }));
  }

  /** Writes everything from a place on to the streams' files once more. */
  #reapply(from: LogPlace): void {
    const registered = new Set(this.#registry.read().streams.map(({ type, id }) => `${type}/${id}`));
    this.#log.scanner.read(from, this.#log.end, (header, buffer, base) => {
      this.#applier.reapply(header, buffer, base, registered);
    });
  }

  #committed(end: LogPlace): void {
    // Another process may have applied these from the log, and more. Since the lock is ours it has not, if we look after that.
    if (this.#headSeen === undefined || isBefore(this.#headSeen, end)) this.#head.write((this.#headSeen = end));
    this.#checkpointer.schedule();
  }

  #tellListeners(): void {
    for (const listener of this.#listeners) listener();
  }

  #key(stream: StreamName): StreamKey {
    const known = this.#keys.get(stream);
    if (known !== undefined) return known;
    const key = this.#makeKey(stream);
    // Whether another id is a directory's name depends on what another program has made.
    if (isPlainName(stream.id) === "safe") this.#keys.set(stream, key);
    return key;
  }

  #makeKey(stream: StreamName): StreamKey {
    if (isPlainName(stream.type) !== "safe")
      throw new EventfoldError("INVALID_ID", `${JSON.stringify(stream.type)} is not a type`);
    try {
      return `${stream.type}/${directoryName(this.#fs, this.#paths, stream.type, stream.id)}`;
    } catch (error) {
      throw readError(error, `${this.#paths.streams}/${stream.type}`);
    }
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw closed();
  }
}

/** The directory one step below `path` on the way to `target`; empty at the end of the way. */
function nextBelow(path: string, target: string): string {
  if (path.length >= target.length) return "";
  const slash = target.indexOf("/", path.length + 1);
  return slash < 0 ? target : target.slice(0, slash);
}

function closed(): EventfoldError {
  return new EventfoldError("STORE_CLOSED", "the store is closed");
}
