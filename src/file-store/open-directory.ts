import type { FileSystem } from "../fs/file-system.ts";
import { openNodeFileSystem } from "../fs/node-file-system.ts";
import type { BackupReport, EventStore } from "../event-store/event-store.ts";
import {
  type FollowDirectoryOptions,
  followDirectory as follow,
  type RestoreDirectoryOptions,
  restoreDirectory as restore,
} from "./directory-copies.ts";
import { ioError } from "./disk/io-error.ts";
import { openReadOnlyFileStore } from "./open-read-only.ts";
import { type Durability, openFileEventStore } from "./open-store.ts";

/**
 * Opens the event store in a directory, with Node's file system unless another is given. Imported as `#open-directory`, in whose
 * place a browser gets `aggregate-store/no-directory.ts`.
 */
export async function openDirectory(
  directory: string,
  options: {
    readonly durability: Durability;
    readonly foreignEvents: "auto" | "await";
    readonly lockTimeout: number | undefined;
    readonly fileSystem: FileSystem | undefined;
  },
): Promise<EventStore> {
  const { fileSystem = await openNodeFileSystem(), ...rest } = options;
  return openFileEventStore(fileSystem, directory, rest);
}

/** Opens the event store in a directory and writes nothing. */
export async function openDirectoryReadOnly(
  directory: string,
  fileSystem: FileSystem | undefined,
): Promise<EventStore> {
  return openReadOnlyFileStore(fileSystem ?? (await openNodeFileSystem()), directory);
}

/** Makes a store in an empty directory from the store in another, with Node's file system unless another is given. */
export async function restoreDirectory(
  source: string,
  target: string,
  options: RestoreDirectoryOptions,
  fileSystem?: FileSystem,
): Promise<BackupReport> {
  try {
    return await restore(fileSystem ?? (await openNodeFileSystem()), source, target, options);
  } catch (error) {
    throw ioError(error, `restoring ${source} to ${target}`, "make it again");
  }
}

/** Keeps a copy of the store in a directory up to date, with Node's file system unless another is given. */
export async function followDirectory(
  source: string,
  target: string,
  options: FollowDirectoryOptions,
  fileSystem?: FileSystem,
): Promise<{ readonly position: number }> {
  try {
    return await follow(fileSystem ?? (await openNodeFileSystem()), source, target, options);
  } catch (error) {
    throw ioError(error, `copying ${source} to ${target}`, "follow it again, and the copy goes on where it ended");
  }
}
