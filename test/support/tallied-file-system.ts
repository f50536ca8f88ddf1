import { type FileSystem, openNodeFileSystem } from "eventfold-es/testing";

/** The file-system calls of a piece of work. */
export interface Tally {
  /** Calls by name; those of open files begin with `file.`. */
  readonly byName: Readonly<Record<string, number>>;
  readonly calls: number;
  /** Calls that wait for the disk. */
  readonly flushes: number;
  readonly bytesWritten: number;
  readonly bytesRead: number;
  /** Opened files of streams. */
  readonly streamsOpened: number;
}

const WAITS_FOR_DISK = /^(file\.writeDurably|file\.flush\w*|sync\w*)$/;

/** The real file system. Counts every call of the port, also of future methods. */
export class TalliedFileSystem {
  readonly fileSystem: FileSystem;
  #byName: Record<string, number> = {};
  #bytesWritten = 0;
  #bytesRead = 0;
  #streamsOpened = 0;

  private constructor(real: FileSystem) {
    this.fileSystem = this.#counting(real, "");
  }

  static async create(): Promise<TalliedFileSystem> {
    return new TalliedFileSystem(await openNodeFileSystem());
  }

  /** The calls of some work. */
  async during(work: () => Promise<unknown>): Promise<Tally> {
    this.#byName = {};
    this.#bytesWritten = 0;
    this.#bytesRead = 0;
    this.#streamsOpened = 0;
    await work();
    const counts = Object.entries(this.#byName);
    const sum = (wanted: (name: string) => boolean): number =>
      counts.reduce((total, [name, count]) => (wanted(name) ? total + count : total), 0);
    return {
      byName: this.#byName,
      calls: sum(() => true),
      flushes: sum((name) => WAITS_FOR_DISK.test(name)),
      bytesWritten: this.#bytesWritten,
      bytesRead: this.#bytesRead,
      streamsOpened: this.#streamsOpened,
    };
  }

  #counting<T extends object>(target: T, prefix: string): T {
    return new Proxy(target, {
      get: (_, key) => {
        // Private fields are the target's own: methods must not run on the proxy.
        const value: unknown = Reflect.get(target, key, target);
        if (typeof value !== "function" || typeof key !== "string") return value;
        return (...args: readonly unknown[]): unknown => {
          const result: unknown = Reflect.apply(value, target, args);
          this.#count(prefix + key, args, result);
          if (key === "open" || key === "openLock") return this.#counting(result as object, "file.");
          return result;
        };
      },
    });
  }

  #count(name: string, args: readonly unknown[], result: unknown): void {
    // Pure path arithmetic.
    if (name === "resolve") return;
    this.#byName[name] = (this.#byName[name] ?? 0) + 1;
    if (name === "file.read") this.#bytesRead += Number(result);
    if (name.startsWith("file.write")) this.#bytesWritten += Number(args[2]);
    if (name === "open" && String(args[0]).includes("/streams/")) this.#streamsOpened++;
  }
}
