import { crc32 } from "node:zlib";
import { CorruptionError } from "../../errors.ts";
import type { SubjectKey } from "../../event-store/subject-keys.ts";
import { type FileHandle, type FileSystem, systemErrorCode } from "../../fs/file-system.ts";
import { checksumText } from "../disk/checksum.ts";
import { makeDirectoryDurably, parentOf } from "../disk/durable-directory.ts";
import type { StorePaths } from "../disk/store-paths.ts";

/** A key with the person to whom it belongs. */
export interface OwnedKey extends SubjectKey {
  readonly subject: string;
}

const LINE_FEED = 0x0a;

/**
 * `keys/subjects.jsonl`: the keys of personal fields. Keys are appended; to destroy some, the file is replaced by one without them, and
 * its bytes are overwritten. All that writes needs the store's lock.
 */
export class KeyFile {
  readonly #fs: FileSystem;
  readonly #paths: StorePaths;
  #file: FileHandle | undefined;
  #isWritable = false;
  readonly #bySubject = new Map<string, OwnedKey>();
  readonly #byId = new Map<string, OwnedKey>();
  /** Where the lines end that are read. */
  #end = 0;
  /** How many lines are read, for messages. */
  #lines = 0;
  /** Up to here, this process knows the file to be on stable storage. */
  #flushed = 0;
  /** A flush has failed: nothing that was appended can be relied on before it is written again. */
  #isSuspect = false;

  constructor(fs: FileSystem, paths: StorePaths) {
    this.#fs = fs;
    this.#paths = paths;
  }

  get size(): number {
    return this.#byId.size;
  }

  get all(): readonly OwnedKey[] {
    return [...this.#byId.values()];
  }

  ofSubject(subject: string): OwnedKey | undefined {
    return this.#bySubject.get(subject);
  }

  withId(id: string): OwnedKey | undefined {
    return this.#byId.get(id);
  }

  /** Reads what is new. Throws `CORRUPT_KEYS` for a line that cannot be read and is not the end of a write that was cut off. */
  read(mode: "read" | "update" = "read"): void {
    for (;;) {
      if (this.#file !== undefined && (!this.#file.isAtPath() || (mode === "update" && !this.#isWritable)))
        this.close();
      this.#file ??= this.#open(mode);
      if (this.#file === undefined) return;
      this.#readLines(this.#file);
      // One that was replaced meanwhile has been overwritten.
      if (this.#file.isAtPath()) return;
    }
  }

  #open(mode: "read" | "update"): FileHandle | undefined {
    try {
      // A durable handle stays the file that it was opened on, also when another one takes its path.
      const file = this.#fs.open(this.#paths.subjectKeys, mode, { durable: true });
      this.#isWritable = mode === "update";
      return file;
    } catch (error) {
      if (systemErrorCode(error) === "ENOENT") return undefined;
      throw error;
    }
  }

  #readLines(file: FileHandle): void {
    const buffer = Buffer.alloc(Math.max(file.size() - this.#end, 0));
    const bytes = buffer.subarray(0, file.read(buffer, 0, buffer.length, this.#end));
    for (let at = 0; ;) {
      const end = bytes.indexOf(LINE_FEED, at);
      if (end < 0) return;
      const line = bytes.subarray(at, end);
      const keys = parseLine(line);
      if (keys === undefined) {
        // The end of a write that was cut off by a power cut may have blocks of zeros, and its last block.
        if (line.includes(0) && bytes.indexOf(LINE_FEED, end + 1) < 0) return;
        throw this.#damage(this.#end);
      }
      for (const key of keys) {
        this.#bySubject.set(key.subject, key);
        this.#byId.set(key.id, key);
      }
      this.#lines++;
      this.#end += end + 1 - at;
      at = end + 1;
    }
  }

  #damage(offset: number): CorruptionError {
    const where = { file: this.#paths.subjectKeys, line: this.#lines + 1, offset };
    return new CorruptionError(
      "CORRUPT_KEYS",
      where,
      "expected a line with keys and their checksum, found other bytes; restore the file from a copy of it. Without its keys, personal fields cannot be read",
    );
  }

  /** Reads what is new, and makes what was read durable: the process that has written it may have died before its flush. */
  async readDurably(): Promise<void> {
    this.read("update");
    if (this.#isSuspect) await this.#replace(this.all);
    else if (this.#file !== undefined && this.#flushed < this.#end) {
      await this.#flush(this.#file);
      await this.#fs.syncDirectory(parentOf(this.#paths.subjectKeys));
      this.#flushed = this.#end;
    }
  }

  /** Appends keys. Durable when it resolves. Call `readDurably` before. */
  async append(keys: readonly OwnedKey[]): Promise<void> {
    const isNew = this.#file === undefined;
    if (isNew) {
      await this.#makeDirectory();
      this.#file = this.#fs.open(this.#paths.subjectKeys, "create", { durable: true, isPrivate: true });
      this.#isWritable = true;
    }
    const file = this.#file as FileHandle;
    const line = Buffer.from(lineOf(keys));
    try {
      if (file.size() > this.#end) file.truncate(this.#end);
      file.write(line, 0, line.length, this.#end);
      await this.#flush(file);
      if (isNew) await this.#fs.syncDirectory(parentOf(this.#paths.subjectKeys));
    } catch (error) {
      this.#takeBack(file);
      throw error;
    }
    this.#readLines(file);
    this.#flushed = this.#end;
  }

  #makeDirectory(): Promise<void> {
    return makeDirectoryDurably(this.#fs, parentOf(this.#paths.subjectKeys), this.#paths.base);
  }

  /** No other process may find keys that are perhaps not on the disk. */
  #takeBack(file: FileHandle): void {
    this.#isSuspect = true;
    try {
      file.truncate(this.#end);
    } catch {
      // The file is replaced before the next key is made.
    }
  }

  async #flush(file: FileHandle): Promise<void> {
    try {
      await file.flush();
    } catch (error) {
      this.#isSuspect = true;
      throw error;
    }
  }

  /** Destroys keys. Durable when it resolves. Call `read` before. */
  async destroy(ids: ReadonlySet<string>): Promise<void> {
    const kept = this.all.filter(({ id }) => !ids.has(id));
    if (this.#file === undefined) return;
    // A process that has died may have replaced the file, and not made that durable.
    if (kept.length === this.#byId.size) await this.#fs.syncDirectory(parentOf(this.#paths.subjectKeys));
    else await this.#replace(kept);
  }

  /** Makes this the file of other keys. Durable when it resolves. */
  async replaceBy(keys: readonly OwnedKey[]): Promise<void> {
    await this.#makeDirectory();
    this.read("update");
    await this.#replace(keys);
  }

  /** Replaces the file. After a crash, the old or the new one is there. The bytes of the old one are overwritten. */
  async #replace(keys: readonly OwnedKey[]): Promise<void> {
    const path = this.#paths.subjectKeys;
    const temporary = `${path}.tmp`;
    const text = Buffer.from(keys.map((key) => lineOf([key])).join(""));
    const file = this.#fs.open(temporary, "create", { isPrivate: true });
    try {
      file.truncate(0);
      file.write(text, 0, text.length, 0);
      await file.flush();
    } finally {
      file.close();
    }
    this.#fs.rename(temporary, path);
    await this.#fs.syncDirectory(parentOf(path));
    const old = this.#file;
    this.#file = undefined;
    this.#forget();
    try {
      // Never the new file.
      if (old?.isAtPath() === false) {
        const zeros = Buffer.alloc(old.size());
        old.write(zeros, 0, zeros.length, 0);
        old.flushNow();
      }
    } finally {
      old?.close();
    }
    this.read("update");
    this.#flushed = this.#end;
    this.#isSuspect = false;
  }

  #forget(): void {
    this.#bySubject.clear();
    this.#byId.clear();
    this.#end = this.#lines = this.#flushed = 0;
  }

  close(): void {
    this.#file?.close();
    this.#file = undefined;
    this.#forget();
  }
}

/** A line with some keys. These keys are part of the format on disk: see docs/format.md. */
function lineOf(keys: readonly OwnedKey[]): string {
  const list = keys.map(({ subject, id, key }) => ({ subject, id, key: Buffer.from(key).toString("base64") }));
  const text = `{"keys":${JSON.stringify(list)}`;
  return `${text},"crc":"${checksumText(crc32(text))}"}\n`;
}

function parseLine(line: Buffer): readonly OwnedKey[] | undefined {
  const text = line.toString();
  const [, checked = "", crc] = /^(.*),"crc":"([0-9a-f]{8})"\}$/s.exec(text) ?? [];
  if (crc === undefined || checksumText(crc32(checked)) !== crc) return undefined;
  const { keys } = JSON.parse(text) as { readonly keys: readonly { subject: string; id: string; key: string }[] };
  return keys.map(({ subject, id, key }) => ({ subject, id, key: new Uint8Array(Buffer.from(key, "base64")) }));
}
