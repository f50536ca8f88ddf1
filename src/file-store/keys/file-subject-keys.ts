import { readOnlyStore } from "../../event-store/read-only.ts";
import type { SubjectKey, SubjectKeys } from "../../event-store/subject-keys.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import { ioError } from "../disk/io-error.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import { KeyFile } from "./key-file.ts";

/** The keys of a store in a directory. */
export class FileSubjectKeys implements SubjectKeys {
  readonly #file: KeyFile;
  readonly #path: string;
  /** Runs work with the store's lock; missing in a store that only reads. */
  readonly #locked: (<T>(work: () => Promise<T>) => Promise<T>) | undefined;

  constructor(fs: FileSystem, paths: StorePaths, locked: (<T>(work: () => Promise<T>) => Promise<T>) | undefined) {
    this.#file = new KeyFile(fs, paths);
    this.#path = paths.subjectKeys;
    this.#locked = locked;
  }

  obtain(subjects: readonly string[], create: () => SubjectKey): Promise<ReadonlyMap<string, SubjectKey>> {
    return this.#write(async () => {
      await this.#file.readDurably();
      const missing = subjects.filter((subject) => this.#file.ofSubject(subject) === undefined);
      if (missing.length > 0) await this.#file.append(missing.map((subject) => ({ subject, ...create() })));
      const found = new Map<string, SubjectKey>();
      for (const subject of subjects) {
        const key = this.#file.ofSubject(subject);
        if (key !== undefined) found.set(subject, { id: key.id, key: key.key });
      }
      return found;
    });
  }

  async find(subject: string): Promise<SubjectKey | undefined> {
    this.#read();
    return this.#file.ofSubject(subject);
  }

  async withIds(ids: readonly string[]): Promise<ReadonlyMap<string, Uint8Array>> {
    if (ids.some((id) => this.#file.withId(id) === undefined)) this.#read();
    const found = new Map<string, Uint8Array>();
    for (const id of ids) {
      const key = this.#file.withId(id);
      if (key !== undefined) found.set(id, key.key);
    }
    return found;
  }

  destroy(ids: readonly string[]): Promise<void> {
    return this.#write(async () => {
      this.#file.read("update");
      await this.#file.destroy(new Set(ids));
    });
  }

  async count(): Promise<number> {
    this.#read();
    return this.#file.size;
  }

  close(): void {
    this.#file.close();
  }

  #read(): void {
    try {
      this.#file.read();
    } catch (error) {
      throw ioError(error, `reading ${this.#path}`, "try again");
    }
  }

  async #write<T>(work: () => Promise<T>): Promise<T> {
    if (this.#locked === undefined) throw readOnlyStore("a change of the keys");
    try {
      return await this.#locked(work);
    } catch (error) {
      throw ioError(error, `writing ${this.#path}`);
    }
  }
}
