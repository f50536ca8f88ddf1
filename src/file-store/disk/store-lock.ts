import { EventfoldError } from "../../errors.ts";
import type { FileSystem, LockFile } from "../../fs/file-system.ts";
import { monotonicNow, sleep } from "../../real-timers.ts";
import { storeReplaced } from "./store-replaced.ts";
import { turn } from "../../event-loop.ts";

/** The lock is held for one batch, so a process that holds it this long is stuck. */
const PATIENCE_MS = 30_000;
/** Turns of the event loop to spend before waiting on a timer. More would take the processor from the process that has the lock. */
const EAGER_TURNS = 3;

/**
 * The store's lock: a kernel lock between processes, and a queue within this one.
 *
 * A process that releases the lock and takes it again at once would keep it from all that only try now and then. So each goes
 * through a turnstile first, a second lock, and leaves it when it has the first: while one waits for the lock, the last holder
 * finds the turnstile taken, and waits as the others do. The kernel frees both when a process dies.
 */
export class StoreLock {
  readonly #file: LockFile;
  readonly #path: string;
  readonly #turnstile: LockFile | undefined;
  #last: Promise<void> = Promise.resolve();

  /** Whether the last attempt met another process. */
  contended = false;

  /** Called each time that the lock was taken. If it throws, `hold` throws the same error and does not call its work. */
  onAcquired: () => void = () => this.check();

  constructor(file: LockFile, path: string, turnstile?: LockFile) {
    this.#file = file;
    this.#path = path;
    this.#turnstile = turnstile;
  }

  /**
   * Refuses a file system on which a second holder is not kept out. Without a turnstile at `turn`, which is created when missing, waiting
   * may take long while other processes are busy.
   */
  static open(fs: FileSystem, path: string, turn?: string): StoreLock {
    const first = fs.openLock(path);
    const second = fs.openLock(path);
    try {
      // Another process may have the lock just now; then it works.
      if (first.tryAcquire()) {
        const excluded = !second.tryAcquire();
        if (!excluded) second.release();
        first.release();
        if (!excluded) {
          throw new EventfoldError(
            "LOCKS_UNSUPPORTED",
            `locks have no effect on the file system of ${path}; put the store on a local disk`,
          );
        }
      }
      return new StoreLock(first, path, turn === undefined ? undefined : fs.openLock(turn));
    } catch (error) {
      first.close();
      throw error;
    } finally {
      second.close();
    }
  }

  /** Runs `work` with the lock held. */
  async hold<T>(work: () => Promise<T>): Promise<T> {
    const before = this.#last;
    let done = (): void => {};
    this.#last = new Promise((resolve) => (done = resolve));
    await before;
    try {
      await this.#acquire();
      try {
        this.onAcquired();
        return await work();
      } finally {
        this.#file.release();
      }
    } finally {
      done();
    }
  }

  /** Throws `STORE_REPLACED` if the lock is not the file at its path any more: then it keeps no other process away. */
  check(): void {
    if (this.#file.isAtPath()) return;
    throw storeReplaced(this.#path.slice(0, this.#path.lastIndexOf("/meta/")), this.#path);
  }

  async #acquire(): Promise<void> {
    this.contended = false;
    const started = monotonicNow();
    await this.#take(this.#turnstile, started);
    try {
      await this.#take(this.#file, started);
    } finally {
      this.#turnstile?.release();
    }
  }

  async #take(file: LockFile | undefined, started: number): Promise<void> {
    for (let attempt = 0; file?.tryAcquire() === false; attempt++) {
      this.contended = true;
      if (monotonicNow() - started > PATIENCE_MS) throw busy();
      await (attempt < EAGER_TURNS ? turn() : sleep(1));
    }
  }

  close(): void {
    this.#file.close();
    this.#turnstile?.close();
  }
}

function busy(): EventfoldError {
  return new EventfoldError(
    "STORE_BUSY",
    `another process has held the store's lock for ${PATIENCE_MS / 1000} s; it may be stopped in a debugger`,
  );
}
