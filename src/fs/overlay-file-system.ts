import type { FileHandle, FileSystem, LockFile } from "./file-system.ts";

/**
 * Another file system with changes in memory: writes, renames and removals here never reach the other one.
 * Locks and durability mean nothing.
 */
export class OverlayFileSystem implements FileSystem {
  readonly #inner: FileSystem;
  /** Files that were made or changed here; `undefined` for a path that was removed here, with all below it. */
  readonly #files = new Map<string, MemoryFile | undefined>();
  readonly #directories = new Set<string>();

  constructor(inner: FileSystem) {
    this.#inner = inner;
  }

  open(path: string, mode: "read" | "update" | "create"): FileHandle {
    const known = this.#files.get(path);
    if (known !== undefined) return known;
    const isThere = !this.#isRemoved(path) && this.#inner.stat(path) !== undefined;
    if (mode === "read" && isThere) return this.#inner.open(path, "read");
    if (mode !== "create" && !isThere)
      throw Object.assign(new Error(`ENOENT: no such file or directory, open '${path}'`), { code: "ENOENT" });
    const file = new MemoryFile(path, isThere ? this.#contentOf(path) : Buffer.alloc(0));
    this.#files.set(path, file);
    return file;
  }

  openLock(): LockFile {
    return { tryAcquire: () => true, release: () => {}, isAtPath: () => true, close: () => {} };
  }

  stat(path: string): { readonly size: number; readonly directory: boolean } | undefined {
    const file = this.#files.get(path);
    if (file !== undefined) return { size: file.size(), directory: false };
    if (this.#directories.has(path)) return { size: 0, directory: true };
    return this.#isRemoved(path) ? undefined : this.#inner.stat(path);
  }

  makeDirectory(path: string): string | undefined {
    if (this.stat(path) !== undefined) return undefined;
    const topmost = this.makeDirectory(path.slice(0, path.lastIndexOf("/"))) ?? path;
    this.#directories.add(path);
    return topmost;
  }

  readDirectory(path: string): readonly { readonly name: string; readonly directory: boolean }[] {
    const entries = new Map<string, boolean>();
    if (!this.#isRemoved(path))
      for (const { name, directory } of this.#inner.readDirectory(path))
        if (!this.#isRemoved(`${path}/${name}`)) entries.set(name, directory);
    const add = (entry: string, directory: boolean): void => {
      const slash = entry.lastIndexOf("/");
      if (entry.slice(0, slash) === path) entries.set(entry.slice(slash + 1), directory);
    };
    for (const [file, content] of this.#files) if (content !== undefined) add(file, false);
    for (const directory of this.#directories) add(directory, true);
    return Array.from(entries, ([name, directory]) => ({ name, directory }));
  }

  realName(path: string): string {
    return this.#inner.realName(path);
  }

  /** Moves what was made here. */
  rename(from: string, to: string): void {
    this.remove(to);
    const moved = (path: string): string => `${to}${path.slice(from.length)}`;
    for (const [path, file] of [...this.#files]) {
      if (file === undefined || !isWithin(path, from)) continue;
      this.#files.delete(path);
      this.#files.set(moved(path), file);
    }
    for (const path of [...this.#directories]) {
      if (!isWithin(path, from)) continue;
      this.#directories.delete(path);
      this.#directories.add(moved(path));
    }
  }

  remove(path: string): void {
    for (const file of [...this.#files.keys()]) if (isWithin(file, path)) this.#files.delete(file);
    for (const directory of [...this.#directories]) if (isWithin(directory, path)) this.#directories.delete(directory);
    this.#files.set(path, undefined);
  }

  async syncDirectory(): Promise<void> {}

  resolve(path: string): string {
    return this.#inner.resolve(path);
  }

  realPath(path: string): string {
    return this.#inner.realPath?.(path) ?? path;
  }

  #isRemoved(path: string): boolean {
    for (let at = path; at !== ""; at = at.slice(0, at.lastIndexOf("/")))
      if (this.#files.has(at) && this.#files.get(at) === undefined) return true;
    return false;
  }

  #contentOf(path: string): Buffer {
    const file = this.#inner.open(path, "read");
    try {
      const content = Buffer.alloc(file.size());
      return content.subarray(0, file.read(content, 0, content.length, 0));
    } finally {
      file.close();
    }
  }
}

function isWithin(path: string, directory: string): boolean {
  return path === directory || path.startsWith(`${directory}/`);
}

class MemoryFile implements FileHandle {
  readonly path: string;
  #bytes: Buffer;
  #size: number;

  constructor(path: string, content: Buffer) {
    this.path = path;
    this.#bytes = content;
    this.#size = content.length;
  }

  size(): number {
    return this.#size;
  }

  read(buffer: Uint8Array, offset: number, length: number, position: number): number {
    return this.#bytes.copy(buffer, offset, position, Math.min(position + length, this.#size));
  }

  write(buffer: Uint8Array, offset: number, length: number, position: number): void {
    const end = position + length;
    if (end > this.#bytes.length) {
      const larger = Buffer.alloc(Math.max(end, this.#bytes.length * 2));
      this.#bytes.copy(larger, 0, 0, this.#size);
      this.#bytes = larger;
    }
    this.#bytes.set(buffer.subarray(offset, offset + length), position);
    this.#size = Math.max(this.#size, end);
  }

  writeDurably(buffer: Uint8Array, offset: number, length: number, position: number): void {
    this.write(buffer, offset, length, position);
  }

  async flush(): Promise<void> {}

  flushNow(): void {}

  truncate(size: number): void {
    if (size < this.#size) this.#bytes.fill(0, size, this.#size);
    else this.write(Buffer.alloc(0), 0, 0, size);
    this.#size = size;
  }

  tryLock(): boolean {
    return true;
  }

  unlock(): void {}

  isAtPath(): boolean {
    return true;
  }

  /** The content outlives the handle. */
  close(): void {}
}
