import { constants } from "node:os";
import { findKoffi } from "./find-koffi.ts";

/** Calls of the C library that Node.js does not offer. */
export interface NativeCalls {
  flock(descriptor: number, operation: number): number;
  seek(descriptor: number, offset: number, whence: number): number | bigint;
  /** Linux only. */
  readonly statx:
    | ((directory: number, path: string, flags: number, mask: number, result: Uint8Array) => number)
    | undefined;
  /** Why the last call failed. */
  errno(): number;
}

/** Bun has what is needed built in, also in a compiled program; elsewhere koffi gives it. */
export function loadNativeCalls(): NativeCalls {
  return throughBun() ?? throughKoffi();
}

function throughKoffi(): NativeCalls {
  const koffi = findKoffi();
  const library = koffi.load(null);
  const declared = (definition: string): unknown => library.func(definition);
  let seek: unknown;
  try {
    // `lseek` with 64 bits: where the plain one has fewer, there is another.
    seek = declared("int64_t lseek64(int fd, int64_t offset, int whence)");
  } catch {
    seek = declared("int64_t lseek(int fd, int64_t offset, int whence)");
  }
  let statx: unknown;
  try {
    statx = declared("int statx(int directory, const char *path, int flags, unsigned int mask, void *result)");
  } catch {
    // Not Linux, or an old C library.
  }
  return {
    statx: statx as NativeCalls["statx"],
    flock: declared("int flock(int fd, int operation)") as NativeCalls["flock"],
    seek: seek as NativeCalls["seek"],
    errno: () => koffi.errno(),
  };
}

/** What of `bun:ffi` is used. */
interface BunFfi {
  dlopen(
    library: string,
    symbols: Readonly<Record<string, { readonly args: readonly string[]; readonly returns: string }>>,
  ): { readonly symbols: Readonly<Record<string, (...values: number[]) => number | bigint>> };
  readonly read: { i32(pointer: number, offset: number): number };
}

function throughBun(): NativeCalls | undefined {
  if (process.versions["bun"] === undefined) return undefined;
  const { dlopen, read } = process.getBuiltinModule("bun:ffi") as unknown as BunFfi;
  const isMac = process.platform === "darwin";
  const errnoPlace = isMac ? "__error" : "__errno_location";
  const symbols = {
    flock: { args: ["i32", "i32"], returns: "i32" },
    lseek: { args: ["i32", "i64", "i32"], returns: "i64" },
    [errnoPlace]: { args: [], returns: "ptr" },
  };
  const musl = { x64: "x86_64", arm64: "aarch64" }[process.arch as string] ?? process.arch;
  const names = isMac ? ["libSystem.B.dylib"] : ["libc.so.6", `libc.musl-${musl}.so.1`, "libc.so"];
  for (const name of names) {
    try {
      const { flock, lseek, [errnoPlace]: place } = dlopen(name, symbols).symbols;
      if (flock === undefined || lseek === undefined || place === undefined) continue;
      return {
        statx: undefined,
        flock: flock as NativeCalls["flock"],
        seek: lseek,
        errno: () => read.i32(Number(place()), 0),
      };
    } catch {
      // Another C library.
    }
  }
  return undefined;
}

/** What `flock` says while another holder has the lock, or when a signal came. */
export const BUSY: ReadonlySet<number> = new Set([
  constants.errno.EWOULDBLOCK,
  constants.errno.EAGAIN,
  constants.errno.EINTR,
]);

/** What `statx` says of a file that does not exist. */
export const GONE: ReadonlySet<number> = new Set([
  constants.errno.ENOENT,
  constants.errno.ENOTDIR,
  constants.errno.ESTALE,
]);
