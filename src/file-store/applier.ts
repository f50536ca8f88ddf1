import type { StreamName } from "../event-store/event-store.ts";
import type { FileHandle, FileSystem } from "../fs/file-system.ts";
import { type RecordHeader, readSections, type Section } from "./commit-record.ts";
import { parseLine } from "./event-line.ts";
import type { Layout } from "./layout.ts";
import type { Registry } from "./registry.ts";
import { type StreamKey, streamOfKey } from "./stream-directory.ts";
import type { StreamFiles } from "./stream-files.ts";

/** Flushes that run at once: the thread pool has four threads, and one stays free for commits. */
const FLUSHES_AT_ONCE = 3;

/**
 * Carries what the commit log holds over to the streams' files and the registry, and remembers which of
 * them are not flushed yet. Writing the same record again changes nothing.
 */
export class Applier {
  readonly #fs: FileSystem;
  readonly #layout: Layout;
  readonly #files: StreamFiles;
  readonly #registry: Registry;
  /** Streams with bytes that may not be durable; true when their directory may not be either. */
  #dirty = new Map<StreamKey, boolean>();
  #registryDirty = false;

  constructor(fs: FileSystem, layout: Layout, files: StreamFiles, registry: Registry) {
    this.#fs = fs;
    this.#layout = layout;
    this.#files = files;
    this.#registry = registry;
  }

  get hasDirty(): boolean {
    return this.#dirty.size > 0 || this.#registryDirty;
  }

  markDirty(key: StreamKey, created: boolean): void {
    if (created || !this.#dirty.has(key)) this.#dirty.set(key, created);
  }

  /** Writes the slices of a durable record to their files. */
  apply(
    slices: readonly Section[],
    buffer: Buffer,
    created: readonly { readonly stream: StreamName; readonly seconds: number }[],
  ): void {
    for (const slice of slices) {
      if (slice.adopted) continue;
      const { file, created: isNew } = this.#files.acquire(slice.key);
      file.write(buffer, slice.start, slice.end - slice.start, slice.at);
      this.markDirty(slice.key, isNew || slice.at === 0);
    }
    if (created.length > 0) {
      this.#registry.append(created);
      this.#registryDirty = true;
    }
  }

  /** Writes a record again that may have been written to its files before, in part or in whole. */
  reapply(header: RecordHeader, buffer: Buffer, base: number, registered: Set<StreamKey>): void {
    const slices: Section[] = [];
    const created: { stream: StreamName; seconds: number }[] = [];
    readSections(buffer, header, base, (section) => {
      slices.push(section);
      if (section.version !== 1 || registered.has(section.key)) return;
      registered.add(section.key);
      const line = buffer.toString("utf8", section.start, buffer.indexOf("\n", section.start));
      const { ts } = parseLine(line, (why) => new Error(why));
      created.push({ stream: streamOfKey(section.key), seconds: ts });
    });
    this.apply(slices, buffer, created);
    for (const slice of slices) this.markDirty(slice.key, true);
  }

  /** Makes everything that was applied so far durable. */
  async flush(): Promise<void> {
    const dirty = this.#dirty;
    const registryDirty = this.#registryDirty;
    this.#dirty = new Map();
    this.#registryDirty = false;
    try {
      const directories = new Set<string>();
      const waiting = [...dirty];
      const worker = async (): Promise<void> => {
        for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
          const [key, created] = next;
          await this.#flushStream(key);
          if (!created) continue;
          directories.add(this.#files.directory(key)).add(`${this.#layout.streams}/${key.slice(0, key.indexOf("/"))}`);
        }
      };
      await Promise.all(Array.from({ length: FLUSHES_AT_ONCE }, worker));
      if (directories.size > 0) directories.add(this.#layout.streams).add(this.#layout.base);
      for (const directory of directories) await this.#fs.syncDirectory(directory);
      if (registryDirty) {
        await this.#registry.flush();
        await this.#fs.syncDirectory(this.#layout.meta);
      }
    } catch (error) {
      for (const [key, created] of dirty) this.markDirty(key, created);
      this.#registryDirty ||= registryDirty;
      throw error;
    }
  }

  async #flushStream(key: StreamKey): Promise<void> {
    const file: FileHandle = this.#fs.open(this.#files.path(key), "update");
    try {
      await file.flush();
    } finally {
      file.close();
    }
  }
}
