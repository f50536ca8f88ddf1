import * as fs from "node:fs";
import * as path from "node:path";
import { DescriptorPool, PooledDescriptor } from "./descriptor-pool.ts";
import type { FileHandle, FileSystem, LockFile, LockHolders } from "./file-system.ts";
import { systemErrorCode } from "./file-system.ts";
import { identityByStat, type Libc, loadLibc } from "./libc.ts";
import { lockHolders } from "./lock-holders.ts";

/** libuv's flag for opening a file exclusively (Windows). */
const WINDOWS_EXCLUSIVE = 0x10000000;

const pool = new DescriptorPool();

/** The real file system. */
export async function openNodeFileSystem(): Promise<FileSystem> {
  return new NodeFileSystem(process.platform === "win32" ? undefined : loadLibc());
}

class NodeFileSystem implements FileSystem {
  /** Missing on Windows, which has no `flock`: there an exclusive open serves as the store's lock. */
  readonly #libc: Libc | undefined;

  readonly mostLocks: number = pool.mostLocks;

  constructor(libc: Libc | undefined) {
    this.#libc = libc;
  }

  open(
    file: string,
    mode: "read" | "update" | "create",
    options?: { readonly durable?: boolean; readonly isPrivate?: boolean },
  ): FileHandle {
    const { O_RDONLY, O_RDWR, O_CREAT, O_DSYNC } = fs.constants;
    const access = mode === "read" ? O_RDONLY : mode === "update" ? O_RDWR : O_RDWR | O_CREAT;
    const isDurable = options?.durable === true;
    const descriptor = pool.open(
      file,
      access | (isDurable ? (O_DSYNC ?? 0) : 0),
      options?.isPrivate === true ? 0o600 : 0o644,
    );
    const pooled = new PooledDescriptor(pool, file, access & ~O_CREAT, descriptor);
    // The log's own descriptor: it is in use all the time, and must stay the one whose flush failed or did not.
    if (isDurable) pooled.pin();
    return new NodeFile(file, pooled, this.#libc, O_DSYNC !== undefined && process.platform !== "darwin");
  }

  openLock(file: string): LockFile {
    if (this.#libc === undefined) return new ExclusiveOpenLock(file);
    return new FlockFile(file, pool.open(file, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o644), this.#libc);
  }

  stat(file: string): { readonly size: number; readonly directory: boolean } | undefined {
    const found = fs.statSync(file, { throwIfNoEntry: false });
    return found === undefined ? undefined : { size: found.size, directory: found.isDirectory() };
  }

  makeDirectory(directory: string): string | undefined {
    // Not `recursive`: where a directory cannot be made although its parent is there (/proc), Node.js tries for ever.
    try {
      fs.mkdirSync(directory);
      return directory;
    } catch (error) {
      const parent = path.dirname(directory);
      if (systemErrorCode(error) === "ENOENT" && parent !== directory && this.stat(parent) === undefined) {
        const topmost = this.makeDirectory(parent);
        return this.makeDirectory(directory) === undefined ? topmost : (topmost ?? directory);
      }
      if (systemErrorCode(error) === "EEXIST" && this.stat(directory)?.directory === true) return undefined;
      throw error;
    }
  }

  readDirectory(directory: string): readonly { readonly name: string; readonly directory: boolean }[] {
    try {
      return pool
        .withRoom(() => fs.readdirSync(directory, { withFileTypes: true }))
        .map((entry) => ({ name: entry.name, directory: entry.isDirectory() }));
    } catch (error) {
      if (systemErrorCode(error) === "ENOENT") return [];
      throw error;
    }
  }

  realName(file: string): string {
    return path.basename(fs.realpathSync.native(file));
  }

  rename(from: string, to: string): void {
    fs.renameSync(from, to);
  }

  remove(file: string): void {
    pool.withRoom(() => fs.rmSync(file, { recursive: true, force: true }));
  }

  async syncDirectory(directory: string): Promise<void> {
    // Windows cannot open a directory for flushing; NTFS journals its entries.
    if (process.platform === "win32") return;
    await pool.flushing(async () => {
      const descriptor = pool.open(directory, fs.constants.O_RDONLY);
      try {
        await callback((done) => fs.fsync(descriptor, done));
      } finally {
        fs.closeSync(descriptor);
      }
    });
  }

  resolve(file: string): string {
    return path.resolve(file).replaceAll(path.sep, "/");
  }

  realPath(file: string): string {
    return fs.realpathSync.native(file);
  }

  lockHolders(file: string): LockHolders {
    return lockHolders(file);
  }
}

class NodeFile implements FileHandle {
  readonly path: string;
  readonly #descriptor: PooledDescriptor;
  #isLocked = false;
  readonly #libc: Libc | undefined;
  /** Whether a write to a descriptor opened with `O_DSYNC` is durable; macOS promises it only for `F_FULLFSYNC`. */
  readonly #synchronousWrites: boolean;
  /** As long as the file is open, no other file gets its identity. */
  #identity: string | undefined;

  constructor(file: string, descriptor: PooledDescriptor, libc: Libc | undefined, synchronousWrites: boolean) {
    this.path = file;
    this.#descriptor = descriptor;
    this.#libc = libc;
    this.#synchronousWrites = synchronousWrites;
  }

  size(): number {
    const descriptor = this.#descriptor.get();
    return this.#libc === undefined ? fs.fstatSync(descriptor).size : this.#libc.size(descriptor);
  }

  read(buffer: Uint8Array, offset: number, length: number, position: number): number {
    const descriptor = this.#descriptor.get();
    let done = 0;
    while (done < length) {
      const count = fs.readSync(descriptor, buffer, offset + done, length - done, position + done);
      if (count === 0) break;
      done += count;
    }
    return done;
  }

  write(buffer: Uint8Array, offset: number, length: number, position: number): void {
    const descriptor = this.#descriptor.get();
    let done = 0;
    // A short write is no error by itself; the next one tells why (a full disk, a quota).
    while (done < length) done += fs.writeSync(descriptor, buffer, offset + done, length - done, position + done);
  }

  writeDurably(
    buffer: Uint8Array,
    offset: number,
    length: number,
    position: number,
    onTheSpot = false,
  ): Promise<void> | void {
    if (!onTheSpot) return this.#writeDurablyInBackground(buffer, offset, length, position);
    this.write(buffer, offset, length, position);
    if (!this.#synchronousWrites) this.flushNow();
  }

  async #writeDurablyInBackground(buffer: Uint8Array, offset: number, length: number, position: number): Promise<void> {
    const descriptor = this.#descriptor.pin();
    try {
      let done = 0;
      while (done < length) {
        const start = done;
        done += await new Promise<number>((resolve, reject) => {
          fs.write(descriptor, buffer, offset + start, length - start, position + start, (error, written) =>
            error === null ? resolve(written) : reject(error),
          );
        });
      }
    } finally {
      this.#descriptor.unpin();
    }
    if (!this.#synchronousWrites) await this.flush();
  }

  async flush(): Promise<void> {
    const descriptor = this.#descriptor.pin();
    try {
      // On macOS libuv turns both calls into F_FULLFSYNC, which is what reaches the medium.
      await callback((done) => fs.fdatasync(descriptor, done));
    } finally {
      this.#descriptor.unpin();
    }
  }

  flushNow(): void {
    fs.fdatasyncSync(this.#descriptor.get());
  }

  truncate(size: number): void {
    fs.ftruncateSync(this.#descriptor.get(), size);
  }

  tryLock(): boolean {
    if (this.#libc === undefined) return true;
    const isTaken = this.#libc.tryLock(this.#descriptor.get());
    // A second lock of one descriptor changes nothing, and one call unlocks it.
    if (isTaken && !this.#isLocked) this.#descriptor.pin();
    this.#isLocked ||= isTaken;
    return isTaken;
  }

  unlock(): void {
    if (!this.#isLocked) return;
    this.#isLocked = false;
    this.#libc?.unlock(this.#descriptor.get());
    this.#descriptor.unpin();
  }

  isAtPath(): boolean {
    const { identityAt, identityOf } = this.#libc ?? identityByStat;
    this.#identity ??= identityOf(this.#descriptor.get());
    return identityAt(this.path) === this.#identity;
  }

  close(): void {
    this.#descriptor.close();
  }
}

class FlockFile implements LockFile {
  readonly #path: string;
  readonly #descriptor: number;
  readonly #libc: Libc;
  readonly #identity: string | undefined;

  constructor(path: string, descriptor: number, libc: Libc) {
    this.#path = path;
    this.#descriptor = descriptor;
    this.#libc = libc;
    this.#identity = libc.identityOf(descriptor);
  }

  tryAcquire(): boolean {
    return this.#libc.tryLock(this.#descriptor);
  }

  release(): void {
    this.#libc.unlock(this.#descriptor);
  }

  isAtPath(): boolean {
    return this.#libc.identityAt(this.#path) === this.#identity;
  }

  close(): void {
    fs.closeSync(this.#descriptor);
  }
}

class ExclusiveOpenLock implements LockFile {
  readonly #file: string;
  #descriptor: number | undefined;

  constructor(file: string) {
    this.#file = file;
  }

  tryAcquire(): boolean {
    try {
      this.#descriptor = fs.openSync(this.#file, fs.constants.O_RDWR | fs.constants.O_CREAT | WINDOWS_EXCLUSIVE, 0o644);
      return true;
    } catch (error) {
      if (["EBUSY", "EPERM", "EACCES"].includes(systemErrorCode(error) ?? "")) return false;
      throw error;
    }
  }

  release(): void {
    if (this.#descriptor !== undefined) fs.closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }

  isAtPath(): boolean {
    if (this.#descriptor === undefined) return false;
    return identityByStat.identityAt(this.#file) === identityByStat.identityOf(this.#descriptor);
  }

  close(): void {
    this.release();
  }
}

function callback(call: (done: (error: Error | null) => void) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    call((error) => (error === null ? resolve() : reject(error)));
  });
}
