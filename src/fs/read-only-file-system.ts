import { EventfoldError } from "../errors.ts";
import { type FileHandle, type FileSystem, type LockFile, systemErrorCode } from "./file-system.ts";

/** Reads another file system. Every call that would change something throws `READ_ONLY` before it reaches the other one. */
export class ReadOnlyFileSystem implements FileSystem {
  readonly #inner: FileSystem;

  constructor(inner: FileSystem) {
    this.#inner = inner;
  }

  /** Opens for reading, whatever the mode. With `"create"`, the file may be missing: it is empty until it is there. */
  open(path: string, mode: "read" | "update" | "create"): FileHandle {
    return mode === "create" ? new AwaitedFile(this.#inner, path) : new ReadOnlyFile(this.#inner.open(path, "read"));
  }

  stat(path: string): { readonly size: number; readonly directory: boolean } | undefined {
    return this.#inner.stat(path);
  }

  readDirectory(path: string): readonly { readonly name: string; readonly directory: boolean }[] {
    return this.#inner.readDirectory(path);
  }

  realName(path: string): string {
    return this.#inner.realName(path);
  }

  resolve(path: string): string {
    return this.#inner.resolve(path);
  }

  realPath(path: string): string {
    return this.#inner.realPath?.(path) ?? path;
  }

  openLock(path: string): LockFile {
    throw readOnly(path);
  }

  makeDirectory(path: string): never {
    throw readOnly(path);
  }

  rename(from: string): never {
    throw readOnly(from);
  }

  remove(path: string): never {
    throw readOnly(path);
  }

  syncDirectory(path: string): Promise<never> {
    return Promise.reject(readOnly(path));
  }
}

/** The calls that would change a file. */
abstract class RefusesWrites {
  abstract readonly path: string;

  write(): never {
    throw readOnly(this.path);
  }

  writeDurably(): never {
    throw readOnly(this.path);
  }

  flush(): Promise<never> {
    return Promise.reject(readOnly(this.path));
  }

  flushNow(): never {
    throw readOnly(this.path);
  }

  truncate(): never {
    throw readOnly(this.path);
  }
}

class ReadOnlyFile extends RefusesWrites implements FileHandle {
  readonly #inner: FileHandle;

  constructor(inner: FileHandle) {
    super();
    this.#inner = inner;
  }

  get path(): string {
    return this.#inner.path;
  }

  size(): number {
    return this.#inner.size();
  }

  read(buffer: Uint8Array, offset: number, length: number, position: number): number {
    return this.#inner.read(buffer, offset, length, position);
  }

  tryLock(): boolean {
    return this.#inner.tryLock();
  }

  unlock(): void {
    this.#inner.unlock();
  }

  isAtPath(): boolean {
    return this.#inner.isAtPath();
  }

  close(): void {
    this.#inner.close();
  }
}

/** A file that another process may make later. */
class AwaitedFile extends RefusesWrites implements FileHandle {
  readonly #fs: FileSystem;
  readonly path: string;
  #file: ReadOnlyFile | undefined;

  constructor(fs: FileSystem, path: string) {
    super();
    this.#fs = fs;
    this.path = path;
    this.#open();
  }

  size(): number {
    return this.#open()?.size() ?? 0;
  }

  read(buffer: Uint8Array, offset: number, length: number, position: number): number {
    return this.#open()?.read(buffer, offset, length, position) ?? 0;
  }

  tryLock(): boolean {
    return this.#open()?.tryLock() ?? true;
  }

  unlock(): void {
    this.#file?.unlock();
  }

  isAtPath(): boolean {
    return this.#open()?.isAtPath() ?? true;
  }

  close(): void {
    this.#file?.close();
  }

  #open(): ReadOnlyFile | undefined {
    if (this.#file !== undefined) return this.#file;
    try {
      return (this.#file = new ReadOnlyFile(this.#fs.open(this.path, "read")));
    } catch (error) {
      if (systemErrorCode(error) !== "ENOENT") throw error;
      return undefined;
    }
  }
}

function readOnly(path: string): EventfoldError {
  return new EventfoldError(
    "READ_ONLY",
    `the store was opened with readOnly(); expected only reads, found a call that changes ${path}. Open the store without readOnly() to change it`,
  );
}
