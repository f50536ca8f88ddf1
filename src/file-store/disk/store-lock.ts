import { EventfoldError } from "../../errors.ts";
import type { FileSystem, LockFile } from "../../fs/file-system.ts";
import { monotonicNow, sleep } from "../../real-timers.ts";
import { lockAwaited } from "../../tracing/tracing.ts";
import { describeHolder, findHolder, type HeldLock } from "./held-lock.ts";
import { storeReplaced } from "./store-replaced.ts";
import { turn } from "../../event-loop.ts";

/** The lock is held for one batch, so a process that holds it this long is stuck. */
export const DEFAULT_PATIENCE_MS = 30_000;
/** After this long, a notice says who has the lock. */
const NOTICE_AFTER_MS = 1000;
/** A pause between two attempts that took longer than this was a pause of this process, which does not count. */
const LONGEST_PAUSE_MS = 1000;
/**
 * How often a process that went through the turnstile, and met no other process, may take the lock again without the turnstile. A number
 * and no time: the crash explorer needs the same calls in each run.
 */
export const TIMES_AGAIN = 4;
/** Turns of the event loop to spend before waiting on a timer. More would take the processor from the process that has the lock. */
const EAGER_TURNS = 3;

export interface StoreLockOptions {
  /** Path of the turnstile, which is created when missing. Without one, waiting may take long while other processes are busy. */
  readonly turn?: string;
  /** How long to wait for other processes, in milliseconds; 30,000 if left out. */
  readonly patience?: number | undefined;
}

/** One attempt to get the lock. */
interface Wait {
  /** In milliseconds. Time in which this process was stopped itself does not count. */
  waited: number;
  isAnnounced: boolean;
}

/**
 * The store's lock: a kernel lock between processes, and a queue within this one.
 *
 * A process that releases the lock and takes it again at once would keep it from all that only try now and then. So each goes
 * through a turnstile first, a second lock, and leaves it when it has the first: while one waits for the lock, the last holder
 * finds the turnstile taken, and waits as the others do. A process that met no other process there takes the lock again without it a few times,
 * because a lone process would only make two calls more for each batch. The kernel frees both when a process dies.
 */
export class StoreLock {
  readonly #fs: FileSystem;
  readonly #file: LockFile;
  readonly #path: string;
  readonly #turnstile: LockFile | undefined;
  readonly #turnPath: string | undefined;
  readonly #patience: number;
  #last: Promise<void> = Promise.resolve();
  /** When this process last gave up, on the monotonic clock. */
  #gaveUp = Number.NEGATIVE_INFINITY;
  /** How often this process may still take the lock again without the turnstile. */
  #timesAgain = 0;

  /** Whether the last attempt met another process. */
  contended = false;

  /** Called each time that the lock was taken. If it throws, `hold` throws the same error and does not call its work. */
  onAcquired: () => void = () => this.check();

  private constructor(fs: FileSystem, file: LockFile, path: string, { turn: turnPath, patience }: StoreLockOptions) {
    this.#fs = fs;
    this.#file = file;
    this.#path = path;
    this.#turnPath = turnPath;
    this.#turnstile = turnPath === undefined ? undefined : fs.openLock(turnPath);
    this.#patience = patience ?? DEFAULT_PATIENCE_MS;
  }

  /** Refuses a file system on which a second holder is not kept out. */
  static open(fs: FileSystem, path: string, options: StoreLockOptions = {}): StoreLock {
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
      return new StoreLock(fs, first, path, options);
    } catch (error) {
      first.close();
      throw error;
    } finally {
      second.close();
    }
  }

  /** Runs `work` with the lock held. */
  async hold<T>(work: () => Promise<T>): Promise<T> {
    const asked = monotonicNow();
    const before = this.#last;
    let done = (): void => {};
    this.#last = new Promise((resolve) => (done = resolve));
    await before;
    try {
      // Those who waited here for the same holder give up together.
      if (!this.#takeAgain()) await this.#acquire(this.#gaveUp > asked ? monotonicNow() - asked : 0);
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
    throw storeReplaced(this.#directory, this.#path);
  }

  #takeAgain(): boolean {
    return this.#timesAgain-- > 0 && this.#file.tryAcquire();
  }

  async #acquire(waited: number): Promise<void> {
    this.contended = false;
    this.#timesAgain = 0;
    const wait: Wait = { waited, isAnnounced: false };
    await this.#take(this.#turnstile, wait);
    try {
      await this.#take(this.#file, wait);
    } finally {
      this.#turnstile?.release();
    }
    if (!this.contended) this.#timesAgain = TIMES_AGAIN;
  }

  async #take(file: LockFile | undefined, wait: Wait): Promise<void> {
    let last = 0;
    for (let attempt = 0; file?.tryAcquire() === false; attempt++) {
      this.contended = true;
      const now = monotonicNow();
      if (attempt > 0) wait.waited += Math.min(now - last, LONGEST_PAUSE_MS);
      last = now;
      if (wait.waited >= NOTICE_AFTER_MS && !wait.isAnnounced) this.#announce(wait);
      if (wait.waited > this.#patience) {
        this.#gaveUp = now;
        throw this.#busy();
      }
      await (attempt < EAGER_TURNS ? turn() : sleep(1));
    }
  }

  #announce(wait: Wait): void {
    wait.isAnnounced = true;
    lockAwaited.publish(() => {
      const { holder, unknown } = this.#holder();
      return {
        directory: this.#directory,
        waited: wait.waited,
        pid: holder?.pid,
        command: holder?.command,
        state: holder?.state,
        unknown,
      };
    });
  }

  #busy(): EventfoldError {
    const { found, remedy } = describeHolder(this.#holder());
    return new EventfoldError(
      "STORE_BUSY",
      `expected the lock of the store in ${this.#directory} within ${this.#patience / 1000} s, found that ${found}; ${remedy}. ` +
        "The commands that waited for it were not written",
    );
  }

  #holder(): HeldLock {
    // Who has the turnstile may itself wait for the lock.
    return findHolder(this.#fs, this.#turnPath === undefined ? [this.#path] : [this.#path, this.#turnPath]);
  }

  get #directory(): string {
    return this.#path.slice(0, this.#path.lastIndexOf("/meta/"));
  }

  close(): void {
    this.#file.close();
    this.#turnstile?.close();
  }
}
