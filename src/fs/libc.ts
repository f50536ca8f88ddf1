import { EventfoldError } from "../errors.ts";

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

let loaded: Promise<Libc> | undefined;

/** Loads it, once. It takes about 14 ms, so only opening a store on disk does it. */
export function loadLibc(): Promise<Libc> {
  loaded ??= bind();
  return loaded;
}

async function bind(): Promise<Libc> {
  try {
    const { default: koffi } = await import("koffi");
    const library = koffi.load(null);
    const flock = library.func("int flock(int fd, int operation)") as (descriptor: number, operation: number) => number;
    const lseek = seekOf(library);
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
      size(descriptor) {
        const size = Number(lseek(descriptor, 0, SEEK_END));
        if (size >= 0) return size;
        throw Object.assign(new Error(`lseek failed with errno ${koffi.errno()}`), { code: "EIO" });
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

type Seek = (descriptor: number, offset: number, whence: number) => number | bigint;

/** `lseek` with 64 bits: where the plain one has fewer, there is another. */
function seekOf(library: { func(definition: string): unknown }): Seek {
  try {
    return library.func("int64_t lseek64(int fd, int64_t offset, int whence)") as Seek;
  } catch {
    return library.func("int64_t lseek(int fd, int64_t offset, int whence)") as Seek;
  }
}
