import type { EventfoldError } from "../../errors.ts";
import { monotonicNow } from "../../real-timers.ts";
import type { StoreLock } from "../disk/store-lock.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import { storeReplaced } from "../disk/store-replaced.ts";
import type { CommitLog } from "./commit-log.ts";
import type { Head } from "./head.ts";

/** How long a reader may go on before it looks at the path again, in ms. */
const REACH_MS = 100;

export interface StoreGuardParts {
  readonly paths: StorePaths;
  readonly lock: Pick<StoreLock, "check">;
  readonly log: CommitLog;
  readonly head: Head;
  /** False while acknowledged records may have to be written again, because their flush failed. */
  readonly isLogTrusted: () => boolean;
}

/**
 * Makes sure that the open files are the ones at the store's path. A directory can be deleted, moved, or replaced by a backup while a
 * program has it open. Without this check, the program would go on writing to files without a name, and would mix new caches into
 * whatever is at the path now.
 */
export class StoreGuard {
  readonly #parts: StoreGuardParts;
  #checked = monotonicNow();

  constructor(parts: StoreGuardParts) {
    this.#parts = parts;
  }

  /** Compares the lock and the log's current segment with the path: two system calls. Throws `STORE_REPLACED`. */
  check(): void {
    const { lock, log } = this.#parts;
    lock.check();
    if (!log.isAtPath()) throw this.#replaced(log.path);
    if (monotonicNow() - this.#checked > REACH_MS) this.#checkRest();
  }

  /**
   * Compares the log's last record, for a reader who is about to read on after it: the records of another store may begin at the same
   * byte, with the same position. Throws `STORE_REPLACED`.
   */
  checkRecord(): void {
    const { log, isLogTrusted } = this.#parts;
    if (isLogTrusted() && !log.hasLastRecord()) throw this.#replaced(log.path);
  }

  /** For readers, as often as they like: checks all of it, but at most once in 100 ms. Throws `STORE_REPLACED`. */
  checkSometimes(): void {
    if (monotonicNow() - this.#checked > REACH_MS) this.checkAll();
  }

  /** Compares the files and the log's last record. For a batch, `hasMore` of the log compares the record. */
  checkAll(): void {
    this.#checked = Number.NEGATIVE_INFINITY;
    this.check();
  }

  /** The error to report when something could not be read: that the store was replaced explains any other error. */
  explain(error: unknown): unknown {
    try {
      this.checkAll();
      return error;
    } catch (replaced) {
      return replaced;
    }
  }

  #checkRest(): void {
    const { head, paths } = this.#parts;
    if (!head.isAtPath()) throw this.#replaced(paths.head);
    this.checkRecord();
    this.#checked = monotonicNow();
  }

  #replaced(path: string): EventfoldError {
    return storeReplaced(this.#parts.paths.base, path);
  }
}
