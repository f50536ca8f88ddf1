import { EventfoldError } from "../errors.ts";

const LOCK_EX = 2;
const LOCK_NB = 4;
const LOCK_UN = 8;

/** `flock(2)` on a file descriptor. The kernel frees the lock when the process dies, however it dies. */
export interface Flock {
  /** Takes the exclusive lock; false if another open file description has it. */
  tryLock(descriptor: number): boolean;
  unlock(descriptor: number): void;
}

let loaded: Promise<Flock> | undefined;

/** Loads `flock` from the C library, once. It takes about 14 ms, so only opening a store on disk does it. */
export function loadFlock(): Promise<Flock> {
  loaded ??= bind();
  return loaded;
}

async function bind(): Promise<Flock> {
  try {
    const { default: koffi } = await import("koffi");
    const flock = koffi.load(null).func("int flock(int fd, int operation)");
    const busy = new Set([koffi.os.errno["EWOULDBLOCK"], koffi.os.errno["EAGAIN"], koffi.os.errno["EINTR"]]);
    return {
      tryLock(descriptor) {
        if (flock(descriptor, LOCK_EX | LOCK_NB) === 0) return true;
        const errno = koffi.errno();
        if (busy.has(errno)) return false;
        throw new EventfoldError(
          "LOCKS_UNSUPPORTED",
          `this file system refuses locks (flock failed with errno ${errno}); put the store on a local disk`,
        );
      },
      unlock(descriptor) {
        flock(descriptor, LOCK_UN);
      },
    };
  } catch (cause) {
    throw new EventfoldError(
      "LOCKS_UNSUPPORTED",
      "the system's flock could not be loaded through the package koffi; without it two processes would damage each other's writes",
      { cause },
    );
  }
}
