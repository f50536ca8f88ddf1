import { type FileSystem, openNodeFileSystem } from "eventfold-es/testing";
import { breakFileSystem } from "./broken-file-system.ts";

/** A file system that counts opened files and read bytes, and can refuse to write. */
export class CountedFileSystem {
  readonly fileSystem: FileSystem;
  /** Files that were opened for reading, except those that a checkpoint in the background opens to flush them. */
  openedToRead: string[] = [];
  /** Bytes read from the commit log. */
  logBytes = 0;
  /** The error for a write to a file; `undefined` to allow the write. */
  refuse: (path: string) => Error | undefined = () => undefined;
  /** The same for opening a file for reading. */
  refuseToRead: (path: string) => Error | undefined = () => undefined;

  private constructor(inner: FileSystem) {
    this.fileSystem = breakFileSystem(
      inner,
      {
        open: (path, mode, options) => {
          if (mode === "read") {
            this.openedToRead.push(path);
            const error = this.refuseToRead(path);
            if (error !== undefined) throw error;
          }
          if (mode === "create") this.#check(path);
          return counted.open(path, mode, options);
        },
        rename: (from, to) => {
          this.#check(to);
          inner.rename(from, to);
        },
      },
      () => ({}),
    );
    const counted = breakFileSystem(inner, {}, (file) => ({
      read: (buffer, offset, length, position) => {
        const bytes = file.read(buffer, offset, length, position);
        if (file.path.includes("/commit_log/")) this.logBytes += bytes;
        return bytes;
      },
      write: (buffer, offset, length, position) => {
        this.#check(file.path);
        file.write(buffer, offset, length, position);
      },
      writeDurably: (...write) => {
        this.#check(file.path);
        return file.writeDurably(...write);
      },
    }));
  }

  /** Counts the calls to the real file system, or to another. */
  static async create(inner?: FileSystem): Promise<CountedFileSystem> {
    return new CountedFileSystem(inner ?? (await openNodeFileSystem()));
  }

  /** Resets all counts. */
  reset(): void {
    this.openedToRead = [];
    this.logBytes = 0;
  }

  /** Files of streams that were opened for reading. */
  get openedStreams(): string[] {
    return this.openedToRead.filter((path) => path.includes("/streams/"));
  }

  #check(path: string): void {
    const error = this.refuse(path);
    if (error !== undefined) throw error;
  }
}
