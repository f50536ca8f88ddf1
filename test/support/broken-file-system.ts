import type { FileHandle, FileSystem, LockFile } from "eventfold-es/testing";

/** The calls of a file that a breakage replaces. */
export type BrokenFile = (file: FileHandle, fileSystem: FileSystem) => Partial<FileHandle>;

/** A file system with some calls replaced, to see whether the explorer finds that. */
export function breakFileSystem(
  fileSystem: FileSystem,
  calls: Partial<FileSystem> = {},
  brokenFile: BrokenFile = () => ({}),
): FileSystem {
  const whole: FileSystem = {
    open: (path, mode, options) => {
      const file = fileSystem.open(path, mode, options);
      return { ...copyOfFile(file), ...brokenFile(file, fileSystem) };
    },
    openLock: (path) => fileSystem.openLock(path),
    stat: (path) => fileSystem.stat(path),
    makeDirectory: (path) => fileSystem.makeDirectory(path),
    readDirectory: (path) => fileSystem.readDirectory(path),
    realName: (path) => fileSystem.realName(path),
    rename: (from, to) => fileSystem.rename(from, to),
    remove: (path) => fileSystem.remove(path),
    syncDirectory: (path) => fileSystem.syncDirectory(path),
    resolve: (path) => fileSystem.resolve(path),
  };
  return { ...whole, ...calls };
}

function copyOfFile(file: FileHandle): FileHandle {
  return {
    path: file.path,
    size: () => file.size(),
    read: (buffer, offset, length, position) => file.read(buffer, offset, length, position),
    write: (buffer, offset, length, position) => file.write(buffer, offset, length, position),
    writeDurably: (...write) => file.writeDurably(...write),
    flush: () => file.flush(),
    flushNow: () => file.flushNow(),
    truncate: (size) => file.truncate(size),
    tryLock: () => file.tryLock(),
    unlock: () => file.unlock(),
    isAtPath: () => file.isAtPath(),
    close: () => file.close(),
  };
}

/** A lock that excludes only a second attempt at the same time, as a test of a lock may make. */
export function uselessLock(lock: LockFile, held: { count: number }): LockFile {
  return {
    tryAcquire: () => held.count++ !== 1,
    release: () => {},
    isAtPath: () => lock.isAtPath(),
    close: () => lock.close(),
  };
}
