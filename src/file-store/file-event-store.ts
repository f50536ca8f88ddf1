import { CorruptionError, EventfoldError } from "../errors.ts";
import type {
  Commit,
  CommitResult,
  EventStore,
  EventStoreCapabilities,
  Snapshot,
  StoredEvent,
  StreamName,
} from "../event-store/event-store.ts";
import { compareCodePoints } from "../event-store/stream-order.ts";
import type { FileSystem } from "../fs/file-system.ts";
import { adoptStreams, directoryName } from "./adoption.ts";
import { Applier } from "./applier.ts";
import type { QueuedCommit } from "./batch.ts";
import {
  CommitLog,
  type CommitLogOptions,
  DEFAULT_LOG_OPTIONS,
  listSegments,
  type LogPlace,
  logCorruption,
} from "./commit-log.ts";
import { readSections, type RecordHeader } from "./commit-record.ts";
import { Committer } from "./committer.ts";
import { LineEvent, type LineOrigin, startOfLine } from "./event-line.ts";
import { Head } from "./head.ts";
import { ioError } from "./io-error.ts";
import { type Layout, layoutOf, readWhole, replaceFile } from "./layout.ts";
import { lineBefore, readLines, type ReadableFile } from "./lines.ts";
import { readMarker, writeMarker } from "./marker.ts";
import { PendingBatches } from "./pending-batches.ts";
import { recoverLog } from "./recovery.ts";
import { Registry } from "./registry.ts";
import { decodeSnapshot, encodeSnapshot, type LineHash, loadLineHash } from "./snapshot-file.ts";
import { StoreLock } from "./store-lock.ts";
import { encodeId, type StreamKey, streamOfKey } from "./stream-directory.ts";
import { StreamFiles } from "./stream-files.ts";
import { StreamTable } from "./stream-table.ts";

/** When a commit is acknowledged: after a flush, or as soon as the operating system has it. */
export type Durability = "flush" | "os";

export interface FileEventStoreOptions {
  readonly durability?: Durability;
  readonly log?: Partial<CommitLogOptions>;
  /** Told how many events were found while a directory without a commit log is taken over. */
  readonly onAdoption?: (events: number) => void;
}

/** Commits to remember at most before the marker moves on. */
const CHECKPOINT_BYTES = 8 << 20;
const CHECKPOINT_DELAY_MS = 1000;
/** Reading for longer than this lets other work run in between. */
const SLICE_MS = 10;
/** A snapshot of a version this far behind the stream's end is not worth looking for its place. */
const SNAPSHOT_REACH = 1000;

/**
 * Events in plain files under one directory.
 *
 * What it promises: when `commit` resolves, the commit is on stable storage (with durability `"os"`: handed to the operating
 * system, so that it survives the death of the process but not a power cut). A commit is in the log whole
 * or not at all. The streams' own files follow the log and are completed from it after a crash. What it
 * cannot promise: anything about a disk that acknowledges a flush it has not done.
 */
export class FileEventStore implements EventStore {
  readonly capabilities: EventStoreCapabilities = { durable: true, multiProcess: true };

  readonly #fs: FileSystem;
  readonly #layout: Layout;
  readonly #log: CommitLog;
  readonly #head: Head;
  readonly #lock: StoreLock;
  readonly #files: StreamFiles;
  readonly #registry: Registry;
  readonly #applier: Applier;
  readonly #table: StreamTable;
  readonly #pending = new PendingBatches();
  readonly #committer: Committer;
  readonly #hash: LineHash;
  readonly #foreignListeners = new Set<(stream: StreamName) => void>();
  #checkpointed: LogPlace;
  #checkpointing: Promise<void> | undefined;
  #checkpointTimer: NodeJS.Timeout | undefined;
  #closing: Promise<void> | undefined;

  private constructor(
    fs: FileSystem,
    layout: Layout,
    log: CommitLog,
    lock: StoreLock,
    hash: LineHash,
    mergesNames: boolean,
    durability: Durability,
  ) {
    this.#fs = fs;
    this.#layout = layout;
    this.#log = log;
    this.#lock = lock;
    this.#hash = hash;
    this.#head = new Head(fs, layout.head);
    this.#files = new StreamFiles(fs, layout.streams, mergesNames);
    this.#registry = new Registry(fs, layout.registry);
    this.#applier = new Applier(fs, layout, this.#files, this.#registry);
    this.#table = new StreamTable(this.#files, this.#pending, log);
    this.#checkpointed = log.end;
    this.#committer = new Committer({
      fs,
      layout,
      log,
      lock,
      files: this.#files,
      table: this.#table,
      pending: this.#pending,
      applier: this.#applier,
      durability,
      catchUp: () => this.#catchUp(),
      recoverTail: () => this.#recoverFrom(this.#log.end),
      committed: (end) => this.#committed(end),
    });
  }

  /** Opens the store in a directory, making it when missing and recovering it when needed. */
  static async open(fs: FileSystem, directory: string, options: FileEventStoreOptions = {}): Promise<FileEventStore> {
    const layout = layoutOf(fs.resolve(directory));
    try {
      const created = fs.makeDirectory(layout.meta);
      fs.makeDirectory(layout.streams);
      if (created !== undefined) await fs.syncDirectory(created.slice(0, created.lastIndexOf("/")) || "/");
      const hash = await loadLineHash();
      const lock = StoreLock.open(fs, layout.lock);
      try {
        return await lock.hold(() => FileEventStore.#openLocked(fs, layout, lock, hash, options));
      } catch (error) {
        lock.close();
        throw error;
      }
    } catch (error) {
      throw ioError(error, `opening the store in ${layout.base}`);
    }
  }

  static async #openLocked(
    fs: FileSystem,
    layout: Layout,
    lock: StoreLock,
    hash: LineHash,
    options: FileEventStoreOptions,
  ): Promise<FileEventStore> {
    const logOptions = { ...DEFAULT_LOG_OPTIONS, ...options.log };
    const mergesNames = fs.stat(`${layout.base}/META`) !== undefined;
    if (listSegments(fs, layout.commitLog).length === 0) {
      await adoptStreams(fs, layout, logOptions, options.onAdoption ?? (() => {}));
    }
    const [first] = listSegments(fs, layout.commitLog);
    const start: LogPlace =
      first === undefined ? { segment: 1, offset: 0, position: 0 } : { segment: first, offset: 0, position: first - 1 };
    const log = new CommitLog(fs, layout.commitLog, logOptions, start);
    const marker = readMarker(fs, layout.marker);
    const store = new FileEventStore(fs, layout, log, lock, hash, mergesNames, options.durability ?? "flush");
    try {
      const from = marker ?? start;
      if ((fs.stat(log.segmentPath(from.segment))?.size ?? 0) < from.offset) {
        throw logCorruption(log.segmentPath(from.segment), from, "the commit log is shorter than it once was");
      }
      log.moveTo(from);
      store.#checkpointed = from;
      await store.#recoverFrom(from);
    } catch (error) {
      store.#release();
      throw error;
    }
    return store;
  }

  commit(commit: Commit): Promise<CommitResult> {
    if (this.#closing !== undefined) return Promise.reject(closed());
    return new Promise((resolve, reject) => {
      const keys = commit.appends.map((append) => this.#key(append.stream));
      const lines = commit.appends.map((append) => append.events.map(startOfLine));
      this.#committer.add({ commit, keys, lines, resolve, reject } satisfies QueuedCommit);
    });
  }

  async *readStream(
    stream: StreamName,
    options: { readonly from?: number } = {},
  ): AsyncGenerator<readonly StoredEvent[], void, undefined> {
    const from = options.from ?? 1;
    this.#checkOpen();
    const key = this.#key(stream);
    await this.refresh();
    const table = this.#table;
    let entry = table.get(key, this.#log.end.position);
    if (entry === "foreign") {
      // Another program has appended: its events become ours first.
      await this.#committer.adopt(key);
      entry = table.get(key, this.#log.end.position);
    }
    if (entry === "foreign" || entry.version < from) return;
    const { version: last, end: limit } = entry;
    let { version, end: offset } =
      from > entry.markVersion ? { version: entry.markVersion, end: entry.markEnd } : { version: 0, end: 0 };
    const file = this.#files.openForReading(key);
    const origin = this.#origin(stream, key);
    try {
      const readable = this.#pending.overlay(key, file);
      let sliceStart = performance.now();
      if (readable !== undefined) {
        for (const lines of readLines(readable, offset, limit)) {
          const events: StoredEvent[] = [];
          for (const line of lines) {
            if (++version >= from) events.push(new LineEvent(line.text, version, line.offset, origin));
            offset = line.end;
          }
          if (events.length > 0) yield events;
          if (performance.now() - sliceStart > SLICE_MS) {
            await new Promise<void>((resolve) => setImmediate(resolve));
            sliceStart = performance.now();
          }
        }
      }
      if (version !== last)
        throw origin.problem(offset, `the stream ends with version ${version}; version ${last} was committed`);
      if (table.known(key) === entry) {
        entry.markVersion = last;
        entry.markEnd = limit;
      }
    } catch (error) {
      throw ioError(error, `reading ${this.#files.path(key)}`);
    } finally {
      file?.close();
    }
  }

  async *readAll(options: { readonly from?: number } = {}): AsyncGenerator<readonly StoredEvent[], void, undefined> {
    const from = options.from ?? 1;
    this.#checkOpen();
    await this.refresh();
    const limit = this.#log.end;
    const segment = this.#log.segments().findLast((first) => first <= from);
    if (segment === undefined) return;
    let place: LogPlace = { segment, offset: 0, position: segment - 1 };
    while (place.position < limit.position) {
      const events: StoredEvent[] = [];
      const started = performance.now();
      const result = this.#log.scan(place, limit, (header, buffer, base) => {
        if (header.position + header.events > from) this.#eventsOf(header, buffer, base, from, events);
        return events.length < 1000 && performance.now() - started < SLICE_MS;
      });
      if (result.invalid !== undefined)
        throw logCorruption(this.#log.segmentPath(result.end.segment), result.end, result.invalid);
      if (events.length > 0) yield events;
      if (result.end.position === place.position && result.end.segment === place.segment) {
        throw logCorruption(
          this.#log.segmentPath(place.segment),
          result.end,
          `the commit log ends here; position ${limit.position} was committed`,
        );
      }
      place = result.end;
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
  }

  #eventsOf(header: RecordHeader, buffer: Buffer, base: number, from: number, events: StoredEvent[]): void {
    readSections(buffer, header, base, (section) => {
      const stream = streamOfKey(section.key);
      const problem = this.#origin(stream, section.key).problem;
      let { position, version } = section;
      for (let start = section.start; start < section.end;) {
        const stop = buffer.indexOf("\n", start);
        const text = buffer.toString("utf8", start, stop);
        if (text.trim() !== "") {
          const at = position++;
          const offset = section.at + start - section.start;
          if (at >= from)
            events.push(new LineEvent(text, version, offset, { stream, problem, adoptedPosition: () => at }));
          version++;
        }
        start = stop + 1;
      }
    });
  }

  async listStreams(type?: string): Promise<readonly StreamName[]> {
    this.#checkOpen();
    await this.refresh();
    const known = this.#registry.read().streams;
    for (const { batch } of this.#pending.list) for (const { stream } of batch.created) known.push(stream);
    const streams = type === undefined ? known : known.filter((stream) => stream.type === type);
    return streams.sort((a, b) => compareCodePoints(a.type, b.type) || compareCodePoints(a.id, b.id));
  }

  checkName(stream: StreamName): void {
    encodeId(stream.id);
  }

  async refresh(): Promise<void> {
    this.#checkOpen();
    this.#catchUp();
  }

  watchForeign(listener: (stream: StreamName) => void): () => void {
    this.#foreignListeners.add(listener);
    return () => this.#foreignListeners.delete(listener);
  }

  async loadSnapshot(stream: StreamName, fingerprint: string): Promise<Snapshot | undefined> {
    this.#checkOpen();
    const key = this.#key(stream);
    try {
      const snapshot = decodeSnapshot(readWhole(this.#fs, this.#snapshotPath(key))?.toString("utf8") ?? "");
      if (snapshot === undefined || snapshot.fingerprint !== fingerprint) return undefined;
      const file = this.#files.openForReading(key);
      if (file === undefined) return undefined;
      try {
        const line = snapshot.offset <= file.size() ? lineBefore(file, snapshot.offset) : undefined;
        if (line === undefined || this.#hash(line.bytes) !== snapshot.hash) return undefined;
      } finally {
        file.close();
      }
      this.#catchUp();
      this.#table.get(key, this.#log.end.position, { version: snapshot.version, end: snapshot.offset });
      return snapshot;
    } catch (error) {
      // A damaged cache is not used; a disk that does not answer is another matter.
      if (error instanceof SyntaxError) return undefined;
      throw ioError(error, `reading the snapshot of ${key}`);
    }
  }

  async saveSnapshot(stream: StreamName, snapshot: Snapshot): Promise<void> {
    const key = this.#key(stream);
    const entry = this.#table.known(key);
    if (this.#closing !== undefined || entry === undefined || entry.version - snapshot.version > SNAPSHOT_REACH) return;
    try {
      const file = this.#files.openForReading(key);
      if (file === undefined) return;
      let place: { readonly offset: number; readonly hash: string } | undefined;
      try {
        place = this.#placeOf(file, entry.version - snapshot.version, entry.end);
      } finally {
        file.close();
      }
      const text = place === undefined ? undefined : encodeSnapshot({ ...snapshot, ...place });
      if (text === undefined) return;
      this.#fs.makeDirectory(`${this.#files.directory(key)}/views`);
      await replaceFile(this.#fs, this.#snapshotPath(key), text, false);
    } catch {
      // Only a cache: without it the next load reads more events.
    }
  }

  /** The place that is `back` lines before `end`, if the file has that much already. */
  #placeOf(
    file: ReadableFile,
    back: number,
    end: number,
  ): { readonly offset: number; readonly hash: string } | undefined {
    let offset = end;
    let line = lineBefore(file, offset);
    for (let i = 0; i < back && line !== undefined; i++) {
      offset = line.offset;
      line = lineBefore(file, offset);
    }
    return line === undefined ? undefined : { offset, hash: this.#hash(line.bytes) };
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
    clearTimeout(this.#checkpointTimer);
    try {
      await this.#committer.finish();
      await this.#checkpointing;
      await this.#checkpoint();
      await this.#lock.hold(async () => {
        this.#catchUp();
        if (this.#pending.isEmpty && !this.#log.hasMore()) await this.#log.cutTail();
      });
    } catch (error) {
      // Everything acknowledged is in the log; the next opening completes what is missing here.
      if (!this.#pending.isEmpty) throw ioError(error, "closing the store");
    } finally {
      this.#release();
    }
  }

  #release(): void {
    this.#files.close();
    this.#registry.close();
    this.#head.close();
    this.#log.close();
    this.#lock.close();
  }

  /** Takes note of what other processes have committed and applied. */
  #catchUp(): void {
    const head = this.#head.read();
    if (head === undefined || head.position <= this.#log.end.position) return;
    const result = this.#log.scan(this.#log.end, head, (header, buffer, base) => this.#absorb(header, buffer, base));
    if (result.invalid !== undefined)
      throw logCorruption(this.#log.segmentPath(result.end.segment), result.end, result.invalid);
    this.#log.moveTo(result.end);
  }

  #absorb(header: RecordHeader, buffer: Buffer, base: number): void {
    readSections(buffer, header, base, (section) => {
      this.#table.grow(section);
      this.#applier.markDirty(section.key, section.version === 1);
      if (this.#foreignListeners.size === 0) return;
      const stream = streamOfKey(section.key);
      for (const listener of this.#foreignListeners) listener(stream);
    });
  }

  /** Completes what a dead process has begun: accepts whole records, cuts torn ones, applies to the streams' files. */
  async #recoverFrom(from: LogPlace): Promise<void> {
    const registered = new Set<StreamKey>();
    let readRegistry = false;
    const streams = this.#registry;
    await recoverLog(this.#fs, this.#layout, this.#log, from, (header, buffer, base) => {
      if (!readRegistry) {
        readRegistry = true;
        for (const stream of streams.read().streams) registered.add(this.#key(stream));
      }
      this.#absorb(header, buffer, base);
      this.#applier.reapply(header, buffer, base, registered);
    });
    this.#head.write(this.#log.end);
    this.#scheduleCheckpoint();
  }

  #committed(end: LogPlace): void {
    this.#head.write(end);
    this.#scheduleCheckpoint();
  }

  #scheduleCheckpoint(): void {
    if (this.#checkpointing !== undefined || this.#closing !== undefined) return;
    const { segment, offset } = this.#log.end;
    const due = segment !== this.#checkpointed.segment || offset - this.#checkpointed.offset > CHECKPOINT_BYTES;
    if (due) this.#startCheckpoint();
    else this.#checkpointTimer ??= setTimeout(() => this.#startCheckpoint(), CHECKPOINT_DELAY_MS).unref();
  }

  #startCheckpoint(): void {
    clearTimeout(this.#checkpointTimer);
    this.#checkpointTimer = undefined;
    if (this.#checkpointing !== undefined || this.#closing !== undefined) return;
    this.#checkpointing = this.#checkpoint()
      // The marker stays where it is: the next opening has more to do, and nothing is lost.
      .catch(() => {})
      .finally(() => (this.#checkpointing = undefined));
  }

  /** Brings the streams' files to stable storage and moves the marker to where the log was when that began. */
  async #checkpoint(): Promise<void> {
    const end = this.#pending.list[0]?.place ?? this.#log.end;
    if (end.position === this.#checkpointed.position) return;
    await this.#applier.flush();
    await this.#lock.hold(() => writeMarker(this.#fs, this.#layout.marker, end));
    this.#checkpointed = end;
  }

  #key(stream: StreamName): StreamKey {
    return `${stream.type}/${directoryName(this.#fs, this.#layout, stream.type, stream.id)}`;
  }

  #snapshotPath(key: StreamKey): string {
    return `${this.#files.directory(key)}/views/state.snapshot.json`;
  }

  #origin(stream: StreamName, key: StreamKey): LineOrigin {
    const file = this.#files.path(key);
    return {
      stream,
      problem: (offset, why, cause) =>
        new CorruptionError("CORRUPT_STREAM", { file, line: this.#lineNumber(key, offset), offset }, why, { cause }),
      adoptedPosition: (version) => {
        const position = this.#table.index().position(key, version);
        if (position === undefined)
          throw new EventfoldError(
            "CORRUPT_STREAM",
            `${file}: version ${version} has no position, here or in the commit log`,
          );
        return position;
      },
    };
  }

  #lineNumber(key: StreamKey, offset: number): number {
    const bytes = readWhole(this.#fs, this.#files.path(key)) ?? Buffer.alloc(0);
    let line = 1;
    for (let at = bytes.indexOf("\n"); at >= 0 && at < offset; at = bytes.indexOf("\n", at + 1)) line++;
    return line;
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw closed();
  }
}

function closed(): EventfoldError {
  return new EventfoldError("STORE_CLOSED", "the store is closed");
}
