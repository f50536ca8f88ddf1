import type { FileSystem } from "../fs/file-system.ts";
import { openNodeFileSystem } from "../fs/node-file-system.ts";
import type { EventStore } from "../event-store/event-store.ts";
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
