import { turn } from "../event-loop.ts";
import type {
  BackupOptions,
  BackupReport,
  Checkpoint,
  Commit,
  CommitResult,
  ConsumerKind,
  EventStore,
  EventStoreCapabilities,
  NameLease,
  ReclaimOptions,
  ReclaimReport,
  Snapshot,
  StreamName,
} from "../event-store/event-store.ts";
import { queuedCommit } from "./commit/queued-commit.ts";
import { ioError } from "./disk/io-error.ts";
import type { StreamKey } from "./disk/stream-key.ts";
import { FileEventReader, storeClosed } from "./file-event-reader.ts";
import type { StoreParts } from "./store-parts.ts";

/**
 * Events in plain files under one directory.
 *
 * When `commit` resolves, the commit is on stable storage (with durability `"os"`: handed to the operating
 * system, so that it survives the death of the process but not a power cut). A commit is in the log whole or not at all. The
 * streams' own files follow the log and are completed from it after a crash. None of this holds on a disk that acknowledges
 * flushes that it has not done.
 */
export class FileEventStore extends FileEventReader implements EventStore {
  readonly #parts: StoreParts;
  #savingSnapshots: Promise<void> = Promise.resolve();
  #closing: Promise<void> | undefined;

  constructor(parts: StoreParts) {
    super(parts);
    this.#parts = parts;
  }

  get capabilities(): EventStoreCapabilities {
    return this.#parts.capabilities;
  }

  commit(commit: Commit): Promise<CommitResult> {
    if (this.#closing !== undefined) return Promise.reject(storeClosed());
    const { committer, keys } = this.#parts;
    return new Promise((resolve, reject) => {
      committer.add(queuedCommit(commit, (stream) => keys.of(stream), resolve, reject));
    });
  }

  async acquireName(name: string): Promise<NameLease | undefined> {
    this.checkOpen();
    return this.#parts.acquireName(name);
  }

  async saveCheckpoint(kind: ConsumerKind, name: string, checkpoint: Checkpoint): Promise<void> {
    if (this.#closing !== undefined) return;
    this.#parts.guard.check();
    await this.#parts.checkpoints.save(kind, name, checkpoint);
  }

  async backup(directory: string, options: BackupOptions): Promise<BackupReport> {
    await this.refresh();
    this.#parts.guard.check();
    try {
      return await this.#parts.backup(directory, options);
    } catch (error) {
      throw ioError(error, `the copy to ${directory}`, "make it again, and it goes on where it ended");
    }
  }

  async reclaim(options: ReclaimOptions): Promise<ReclaimReport> {
    await this.refresh();
    this.#parts.guard.check();
    try {
      return await this.#parts.reclaim(options);
    } catch (error) {
      throw ioError(error, "reclaiming", "call it again, and it goes on where it ended");
    }
  }

  /** Saves one after the other, with other work in between: instances that were used alike are due for a snapshot at the same time. */
  saveSnapshot(stream: StreamName, snapshot: Snapshot): Promise<void> {
    const saved = this.#savingSnapshots.then(() => this.#saveSnapshot(stream, snapshot));
    this.#savingSnapshots = saved.then(turn);
    return saved;
  }

  async #saveSnapshot(stream: StreamName, snapshot: Snapshot): Promise<void> {
    if (this.#closing !== undefined) return;
    const { keys, index, guard, snapshots, cuts } = this.#parts;
    try {
      guard.check();
      const key = keys.of(stream);
      const known = index.known(key);
      if (known !== undefined && snapshot.version > cuts.startOf(key).version)
        await snapshots.save(key, snapshot, known.end);
    } catch {
      // Only a cache.
    }
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

  protected override checkOpen(): void {
    if (this.#closing !== undefined) throw storeClosed();
  }

  protected override adopt(key: StreamKey): Promise<void> {
    return this.#parts.committer.adopt(key);
  }

  protected override async complete(key: StreamKey): Promise<boolean> {
    const { checkpointer, committer } = this.#parts;
    if (!checkpointer.isAnyUnsettled) return false;
    await committer.adopt(key, true);
    return true;
  }

  protected override lookForForeignLines(key?: StreamKey): Promise<void> {
    const { foreign } = this.#parts;
    return key === undefined ? foreign.look() : foreign.lookAt(key);
  }

  protected override isUnsettled(key: StreamKey): boolean {
    return this.#parts.unsettled.has(key);
  }
}
