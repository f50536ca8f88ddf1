import {
  type FileHandle,
  type FileSystem,
  type LockFile,
  type LockHolders,
  systemErrorCode,
} from "../../fs/file-system.ts";
import { replaceFileNow } from "../disk/whole-file.ts";
import { CompressedSegment } from "./segment-blocks.ts";

const SEGMENT = /\/\d{16}\.jsonl$/;
/** What a compressed segment's name ends with after that of the segment. */
export const COMPRESSED = ".gz";

/**
 * A file system in which compressed segments are segments like others: they have the same names, and the same bytes at the same
 * offsets. So nothing else has to know which ones are compressed. If a segment has both files, the compressed one does not count: a
 * process died before it had removed the other.
 */
export class SegmentFiles implements FileSystem {
  declare readonly mostLocks?: number;
  declare readonly realPath?: (path: string) => string;
  declare readonly lockHolders?: (path: string) => LockHolders;
  /** The files as they are. */
  readonly physical: FileSystem;

  /** A file system that has them already is returned as it is. */
  static on(fs: FileSystem): SegmentFiles {
    return fs instanceof SegmentFiles ? fs : new SegmentFiles(fs);
  }

  private constructor(fs: FileSystem) {
    this.physical = fs;
    const { mostLocks } = fs;
    if (mostLocks !== undefined) Object.defineProperty(this, "mostLocks", { get: () => fs.mostLocks });
    if (fs.realPath !== undefined) this.realPath = (path) => fs.realPath?.(path) ?? path;
    if (fs.lockHolders !== undefined)
      this.lockHolders = (path) => fs.lockHolders?.(path) ?? { holders: [], unknown: undefined };
  }

  open(path: string, mode: "read" | "update" | "create", options?: { readonly durable?: boolean }): FileHandle {
    if (!SEGMENT.test(path)) return this.physical.open(path, mode, options);
    if (mode === "create" && this.physical.stat(path) === undefined) this.#expand(path);
    try {
      return this.physical.open(path, mode, options);
    } catch (error) {
      if (systemErrorCode(error) !== "ENOENT" || this.physical.stat(path + COMPRESSED) === undefined) throw error;
      return this.#openCompressed(path, mode);
    }
  }

  #openCompressed(path: string, mode: "read" | "update" | "create"): CompressedSegment {
    const file = this.physical.open(path + COMPRESSED, mode);
    try {
      return new CompressedSegment(path, file);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** A segment that is to be written to, as `repair` does, must not be compressed. */
  #expand(path: string): void {
    if (this.physical.stat(path + COMPRESSED) === undefined) return;
    const compressed = this.#openCompressed(path, "read");
    const bytes = Buffer.alloc(compressed.size());
    try {
      compressed.read(bytes, 0, bytes.length, 0);
    } finally {
      compressed.close();
    }
    replaceFileNow(this.physical, path, bytes);
  }

  stat(path: string): { readonly size: number; readonly directory: boolean } | undefined {
    const found = this.physical.stat(path);
    if (found !== undefined || !SEGMENT.test(path) || this.physical.stat(path + COMPRESSED) === undefined) return found;
    try {
      const file = this.#openCompressed(path, "read");
      file.close();
      return { size: file.size(), directory: false };
    } catch (error) {
      if (systemErrorCode(error) === "ENOENT") return this.physical.stat(path);
      throw error;
    }
  }

  readDirectory(path: string): readonly { readonly name: string; readonly directory: boolean }[] {
    const entries = this.physical.readDirectory(path);
    if (!entries.some(({ name }) => name.endsWith(COMPRESSED))) return entries;
    const names = new Map(
      entries.map(({ name, directory }) => [
        /^\d{16}\.jsonl\.gz$/.test(name) ? name.slice(0, -COMPRESSED.length) : name,
        directory,
      ]),
    );
    return Array.from(names, ([name, directory]) => ({ name, directory }));
  }

  openLock(path: string): LockFile {
    return this.physical.openLock(path);
  }

  makeDirectory(path: string): string | undefined {
    return this.physical.makeDirectory(path);
  }

  realName(path: string): string {
    return this.physical.realName(path);
  }

  rename(from: string, to: string): void {
    this.physical.rename(from, to);
    if (SEGMENT.test(to)) this.physical.remove(to + COMPRESSED);
  }

  remove(path: string): void {
    this.physical.remove(path);
    if (SEGMENT.test(path)) this.physical.remove(path + COMPRESSED);
  }

  syncDirectory(path: string): Promise<void> {
    return this.physical.syncDirectory(path);
  }

  resolve(path: string): string {
    return this.physical.resolve(path);
  }
}
