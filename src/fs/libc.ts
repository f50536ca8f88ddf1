import { EventfoldError } from "../errors.ts";
import { messageOf } from "../realm.ts";
import { BUSY, loadNativeCalls, type NativeCalls } from "./native-calls.ts";

const LOCK_EX = 2;
const LOCK_NB = 4;
const LOCK_UN = 8;
const SEEK_END = 2;

/** What Node.js does not offer of the C library. */
export interface Libc {
  /** Takes the exclusive `flock(2)`; false if another open file description has it. The kernel frees it when the process dies, however it dies. */
  tryLock(descriptor: number): boolean;
  unlock(descriptor: number): void;
  /**
   * The size of a file. Unlike `fstat` this does not look at the file's times: Linux (since 6.13, multigrain timestamps) writes them
   * anew at the next write after a process has read them, and then each flush of the log took a third longer (ext4).
   */
  size(descriptor: number): number;
}

let loaded: Libc | undefined;

/** Loads it, once. It takes about 14 ms, so only opening a store on disk does it. */
export function loadLibc(): Libc {
  return (loaded ??= bind());
}

function bind(): Libc {
  const { flock, seek, errno } = calls();
  return {
    tryLock(descriptor) {
      if (flock(descriptor, LOCK_EX | LOCK_NB) === 0) return true;
      const reason = errno();
      if (BUSY.has(reason)) return false;
      throw new EventfoldError(
        "LOCKS_UNSUPPORTED",
        `this file system refuses locks (flock failed with errno ${reason}); put the store on a local disk`,
      );
    },
    unlock(descriptor) {
      flock(descriptor, LOCK_UN);
    },
    size(descriptor) {
      const size = Number(seek(descriptor, 0, SEEK_END));
      if (size >= 0) return size;
      throw Object.assign(new Error(`lseek failed with errno ${errno()}`), { code: "EIO" });
    },
  };
}

function calls(): NativeCalls {
  try {
    return loadNativeCalls();
  } catch (cause) {
    throw new EventfoldError(
      "LOCKS_UNSUPPORTED",
      "expected the package koffi, which gives access to the system's file locks, but could not load it. If your program is a bundle or " +
        "an archive, put node_modules/koffi and node_modules/@koromix beside it, or set EVENTFOLD_KOFFI to a directory that has them " +
        `(docs/guides/bundling.md). Otherwise install it again: npm install koffi. Looked for:\n${messageOf(cause)}`,
      { cause },
    );
  }
}
