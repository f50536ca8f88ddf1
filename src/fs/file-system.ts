import { isError } from "../realm.ts";
/**
 * The file port: every call that the store makes to a disk goes through here, so that a recording,
 * failing or power-cutting implementation can take its place. Errors are Node's system errors
 * (`error.code` is `"ENOSPC"`, `"ENOENT"` …). Paths use `/`.
 *
 * Small calls are synchronous on purpose: a write to the page cache takes 2–5 µs, the same through
 * the thread pool 30 µs. Calls that may wait for the disk itself (a flush, a durable write) are asynchronous, unless the caller asks otherwise.
 */
export interface FileSystem {
  /** How many files may be locked at the same time, where the system limits that. */
  readonly mostLocks?: number;
  /**
   * `"read"`: must exist. `"update"`: read and write, must exist. `"create"`: read and write, created
   * when missing. With `durable`, `writeDurably` reaches stable storage in one system call. With `isPrivate`, a file that is created may be
   * read by its owner only.
   */
  open(
    path: string,
    mode: "read" | "update" | "create",
    options?: { readonly durable?: boolean; readonly isPrivate?: boolean },
  ): FileHandle;
  /** Opens (creating it when missing) a file that serves as a lock between processes. */
  openLock(path: string): LockFile;
  /** Size and kind, or nothing if there is no such entry. */
  stat(path: string): { readonly size: number; readonly directory: boolean } | undefined;
  /** Creates a directory and its missing parents; returns the topmost one that it created. */
  makeDirectory(path: string): string | undefined;
  /** The entries of a directory; none if it does not exist. */
  readDirectory(path: string): readonly { readonly name: string; readonly directory: boolean }[];
  /** The name under which the directory really keeps this entry: differs on case-insensitive or normalising file systems. */
  realName(path: string): string;
  rename(from: string, to: string): void;
  remove(path: string): void;
  /** Makes the entries of a directory durable. */
  syncDirectory(path: string): Promise<void>;
  /** Makes `path` absolute. */
  resolve(path: string): string;
  /** The one path of a file that exists, without symbolic links. Left out where a file has no other path. */
  realPath?(path: string): string;
  /** Who has the lock of the file at `path`, for messages. Left out where the system cannot tell. */
  lockHolders?(path: string): LockHolders;
}

/** A process that has a lock. */
export interface LockHolder {
  readonly pid: number;
  /** The name of its program; `undefined` if the system does not show it. */
  readonly command: string | undefined;
  /** `"traced"`: stopped in a debugger. `undefined` if the system does not show it. */
  readonly state: "stopped" | "traced" | "waiting for a disk" | "running" | undefined;
}

export interface LockHolders {
  readonly holders: readonly LockHolder[];
  /** Why no holder is known. */
  readonly unknown: string | undefined;
}

export interface FileHandle {
  readonly path: string;
  size(): number;
  /** Reads up to `length` bytes; returns how many there were. */
  read(buffer: Uint8Array, offset: number, length: number, position: number): number;
  /** Writes all of it to the page cache; not durable before `flush`. */
  write(buffer: Uint8Array, offset: number, length: number, position: number): void;
  /**
   * Writes all of it; it is on stable storage when this resolves. Needs `durable` at `open`. With `onTheSpot` it may do so before it
   * returns, and then gives no promise: that saves the way to the thread pool and back, which is a quarter of the time on a fast disk.
   */
  writeDurably(
    buffer: Uint8Array,
    offset: number,
    length: number,
    position: number,
    onTheSpot?: boolean,
  ): Promise<void> | void;
  /** Makes all writes to this file durable, also those of other processes. */
  flush(): Promise<void>;
  /** Does the same before it returns: for what is small and rare, where nothing else can go on anyway. */
  flushNow(): void;
  truncate(size: number): void;
  /** Takes the file's `flock` if it is free. Returns whether it did. */
  tryLock(): boolean;
  unlock(): void;
  /** Whether the file at `path` is still this one: not deleted, moved or replaced. One system call. */
  isAtPath(): boolean;
  close(): void;
}

export interface LockFile {
  tryAcquire(): boolean;
  release(): void;
  /** Whether the file at the lock's path is still this one. Only the holder may ask. One system call. */
  isAtPath(): boolean;
  close(): void;
}

/** The `code` of a system error, or nothing. */
export function systemErrorCode(error: unknown): string | undefined {
  return isError(error) && "code" in error && typeof error.code === "string" ? error.code : undefined;
}
