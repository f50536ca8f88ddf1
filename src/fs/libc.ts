import * as fs from "node:fs";
import { EventfoldError } from "../errors.ts";
import { messageOf } from "../realm.ts";
import { systemErrorCode } from "./file-system.ts";
import { BUSY, GONE, loadNativeCalls, type NativeCalls } from "./native-calls.ts";

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
  /** Tells a file from all others that exist: device and inode. Like `size` it does not look at the file's times. */
  identityAt(path: string): string | undefined;
  identityOf(descriptor: number): string | undefined;
}

let loaded: Libc | undefined;

/** Loads it, once. It takes about 14 ms, so only opening a store on disk does it. */
export function loadLibc(): Libc {
  return (loaded ??= bind());
}

function bind(): Libc {
  const { flock, seek, statx, errno } = calls();
  return {
    ...(statx === undefined ? identityByStat : identityByStatx(statx, errno)),
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

type IdentityCalls = Pick<Libc, "identityAt" | "identityOf">;

/** For systems without `statx`, and for Windows. Missing files have no identity. */
export const identityByStat: IdentityCalls = {
  identityAt(path) {
    try {
      return identity(fs.statSync(path, { bigint: true }));
    } catch (error) {
      if (["ENOENT", "ENOTDIR", "ESTALE"].includes(systemErrorCode(error) ?? "")) return undefined;
      throw error;
    }
  },
  identityOf: (descriptor) => identity(fs.fstatSync(descriptor, { bigint: true })),
};

function identity({ dev, ino }: fs.BigIntStats): string {
  return `${dev}:${ino}`;
}

const AT_FDCWD = -100;
const AT_EMPTY_PATH = 0x1000;
const STATX_INO = 0x100;

function identityByStatx(statx: NonNullable<NativeCalls["statx"]>, errno: () => number): IdentityCalls {
  const result = Buffer.alloc(256);
  const call = (descriptor: number, path: string, flags: number, otherwise: () => string | undefined) => {
    if (statx(descriptor, path, flags, STATX_INO, result) === 0)
      // `stx_dev_major`, `stx_dev_minor`, `stx_ino`.
      return `${result.readUInt32LE(136)}:${result.readUInt32LE(140)}:${result.readBigUInt64LE(32)}`;
    // Old containers forbid `statx`; then Node.js has its own ways, and so do both sides of the comparison.
    return GONE.has(errno()) ? undefined : otherwise();
  };
  return {
    identityAt: (path) => call(AT_FDCWD, path, 0, () => identityByStat.identityAt(path)),
    identityOf: (descriptor) => call(descriptor, "", AT_EMPTY_PATH, () => identityByStat.identityOf(descriptor)),
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
