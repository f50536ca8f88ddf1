import type { EventStorage, StorageOptions } from "../event-store/event-storage.ts";
import type { EventStore } from "../event-store/event-store.ts";
import type { FileSystem } from "../fs/file-system.ts";

/** The storage of a store in plain files. It loads the file store when it opens one, and not before. */
export class DirectoryStorage implements EventStorage {
  readonly #directory: string;
  readonly #fileSystem: FileSystem | undefined;

  constructor(directory: string, fileSystem?: FileSystem) {
    this.#directory = directory;
    this.#fileSystem = fileSystem;
  }

  get name(): string {
    return `the directory ${JSON.stringify(this.#directory)}`;
  }

  /** The same directory on another implementation of the file port. */
  on(fileSystem: FileSystem): DirectoryStorage {
    return new DirectoryStorage(this.#directory, fileSystem);
  }

  async open({ durability, foreignEvents = "auto", lockTimeout }: StorageOptions): Promise<EventStore> {
    const { openDirectory } = await import("#open-directory");
    const fileSystem = this.#fileSystem;
    return openDirectory(this.#directory, { durability, foreignEvents, lockTimeout, fileSystem });
  }

  async openReadOnly(): Promise<EventStore> {
    const { openDirectoryReadOnly } = await import("#open-directory");
    return openDirectoryReadOnly(this.#directory, this.#fileSystem);
  }
}
