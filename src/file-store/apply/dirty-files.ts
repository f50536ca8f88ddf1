import type { FileSystem } from "../../fs/file-system.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import type { StreamKey } from "../disk/stream-key.ts";
import type { CommitObserver, CommittedRecord } from "../log/committed-record.ts";
import type { NoteSection } from "../log/record-sections.ts";
import { hasLettersFile } from "../progress/dead-letter-files.ts";
import type { StreamFiles } from "../streams/stream-files.ts";
import type { StreamRegistry } from "../streams/stream-registry.ts";

/** Flushes that run at once: the thread pool has four threads, and one stays free for commits. */
const FLUSHES_AT_ONCE = 3;

/** The files that follow the log and may not be durable yet, whichever process wrote them. */
export class DirtyFiles implements CommitObserver {
  readonly #fs: FileSystem;
  readonly #paths: StorePaths;
  readonly #files: StreamFiles;
  readonly #registry: StreamRegistry;
  /** True for a stream whose directory may not be durable either. */
  #streams = new Map<StreamKey, boolean>();
  #registryIsDirty = false;
  /** Names of process managers. */
  #letters = new Set<string>();

  constructor(fs: FileSystem, paths: StorePaths, files: StreamFiles, registry: StreamRegistry) {
    this.#fs = fs;
    this.#paths = paths;
    this.#files = files;
    this.#registry = registry;
  }

  onApplied({ sections, notes }: CommittedRecord): void {
    for (const { key, version, adopted } of sections) this.addStream(key, version === 1 || adopted);
    for (const note of notes) this.#addLetters(note);
  }

  /** `created`: the stream's directory may not be durable. */
  addStream(key: StreamKey, created: boolean): void {
    if (created || !this.#streams.has(key)) this.#streams.set(key, created);
    // The process that made the stream may have died before its line in the registry was durable.
    if (created) this.#registryIsDirty = true;
  }

  /** Makes all of them durable. After a failure all of them are still dirty. */
  async flush(): Promise<void> {
    const streams = this.#streams;
    const registryIsDirty = this.#registryIsDirty;
    const letters = this.#letters;
    this.#streams = new Map();
    this.#registryIsDirty = false;
    this.#letters = new Set();
    try {
      await this.#flushStreams(streams);
      for (const name of letters) await this.#flushLetters(name);
      if (registryIsDirty) {
        await this.#registry.flush();
        await this.#fs.syncDirectory(this.#paths.meta);
      }
    } catch (error) {
      for (const [key, created] of streams) this.addStream(key, created);
      this.#registryIsDirty ||= registryIsDirty;
      for (const name of letters) this.#letters.add(name);
      throw error;
    }
  }

  #addLetters({ name, deadLetters, settledLetters }: NoteSection): void {
    if (hasLettersFile(name) && (deadLetters !== undefined || settledLetters !== undefined)) this.#letters.add(name);
  }

  async #flushStreams(streams: ReadonlyMap<StreamKey, boolean>): Promise<void> {
    const directories = new Set<string>();
    const waiting = [...streams];
    const worker = async (): Promise<void> => {
      for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
        const [key, created] = next;
        await this.#flushFile(this.#files.path(key));
        if (!created) continue;
        directories.add(this.#files.directory(key)).add(`${this.#paths.streams}/${key.slice(0, key.indexOf("/"))}`);
      }
    };
    await Promise.all(Array.from({ length: FLUSHES_AT_ONCE }, worker));
    if (directories.size > 0) directories.add(this.#paths.streams).add(this.#paths.base);
    for (const directory of directories) await this.#fs.syncDirectory(directory);
  }

  async #flushLetters(name: string): Promise<void> {
    const managers = `${this.#paths.base}/process_managers`;
    await this.#flushFile(`${managers}/${name}/dead_letters.jsonl`);
    for (const directory of [`${managers}/${name}`, managers, this.#paths.base])
      await this.#fs.syncDirectory(directory);
  }

  async #flushFile(path: string): Promise<void> {
    const file = this.#fs.open(path, "update");
    try {
      await file.flush();
    } finally {
      file.close();
    }
  }
}
