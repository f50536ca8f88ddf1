import { type FileHandle, type FileSystem, openNodeFileSystem } from "eventfold-es/testing";

type DurableWrite = (length: number) => Promise<void>;

/** The real file system with a hook at every durable write. */
export class InterceptedFileSystem {
  durableWrites = 0;
  /** Replaces a write; `write(length)` writes its first bytes. */
  onDurableWrite: (write: DurableWrite, length: number) => Promise<void> = (write, length) => write(length);
  readonly fileSystem: FileSystem;

  private constructor(real: FileSystem) {
    this.fileSystem = withMethod(real, "open", (...args) => this.#intercept(real.open(...args)));
  }

  static async create(): Promise<InterceptedFileSystem> {
    return new InterceptedFileSystem(await openNodeFileSystem());
  }

  #intercept(file: FileHandle): FileHandle {
    return withMethod(file, "writeDurably", (buffer, offset, length, position) => {
      this.durableWrites++;
      return this.onDurableWrite(async (bytes) => file.writeDurably(buffer, offset, bytes, position), length);
    });
  }
}

/** A gate at which durable writes wait until it is opened. */
export function gate(): { readonly wait: () => Promise<void>; readonly open: () => void } {
  let open = (): void => {};
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { wait: () => opened, open };
}

/** A system error, as Node.js raises it. */
export function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: made by a test`), { code });
}

function withMethod<T extends object, K extends keyof T & string>(target: T, name: K, method: T[K]): T {
  return new Proxy(target, {
    get(_, key) {
      if (key === name) return method;
      // Private fields are the target's own: methods must not run on the proxy.
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
}
