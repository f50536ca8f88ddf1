import type { FileHandle, FileSystem } from "eventfold-es/testing";

const READING = new Set([
  "open",
  "stat",
  "readDirectory",
  "realName",
  "resolve",
  "realPath",
  "lockHolders",
  "mostLocks",
]);
const READING_FILES = new Set(["path", "size", "read", "tryLock", "unlock", "isAtPath", "close"]);

/** Another file system without the calls that write. `refused` gets the name of each such call, which throws. */
export function refusingWrites(inner: FileSystem, refused: string[] = []): FileSystem {
  const refuse = (call: string): never => {
    refused.push(call);
    throw Object.assign(new Error(`EROFS: read-only file system, ${call}`), { code: "EROFS" });
  };
  const only = <T extends object>(target: T, allowed: ReadonlySet<string>, replaced: Partial<T>): T =>
    new Proxy(target, {
      get(_, key) {
        if (key in replaced) return Reflect.get(replaced, key) as unknown;
        // Private fields are the target's own: methods must not run on the proxy.
        const value: unknown = Reflect.get(target, key, target);
        if (typeof key === "symbol" || value === undefined) return value;
        if (!allowed.has(key)) return () => refuse(key);
        return typeof value === "function" ? (value as (...args: unknown[]) => unknown).bind(target) : value;
      },
    });
  return only<FileSystem>(inner, READING, {
    open: (path, mode) =>
      mode === "read" ? only<FileHandle>(inner.open(path, mode), READING_FILES, {}) : refuse(`open to ${mode} ${path}`),
  });
}
