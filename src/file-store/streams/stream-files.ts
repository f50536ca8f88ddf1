import { EventfoldError } from "../../errors.ts";
import { type FileHandle, type FileSystem, systemErrorCode } from "../../fs/file-system.ts";
import { describeHolder, findHolder } from "../disk/held-lock.ts";
import { readWhole } from "../disk/whole-file.ts";
import { monotonicNow } from "../../real-timers.ts";
import type { StreamKey } from "../disk/stream-key.ts";

/** Two path segments, none of which is empty, `.` or `..`; more for an id of the Rust crate such as `p/q`. */
// oxlint-disable-next-line no-control-regex -- NUL is what it is about
const SAFE_KEY = /^(?!\.{1,2}\/)[^/\0]+(\/(?!\.{1,2}(\/|$))[^/\0]+)+$/;

/** Open descriptors that are kept for streams that are written again and again. */
const MAX_OPEN = 200;
/** Streams that a batch keeps locked, where the system allows as many. */
const MAX_LOCKED = 180;

/** For how long, in ms, an open file is taken for the one at its path. The log, which is the truth, is checked with each batch. */
const REACH_MS = 100;
/** How many open files are compared with their paths in one batch. A batch of many streams checks some, and the next one others. */
const CHECKS = 8;

interface OpenFile {
  readonly file: FileHandle;
  /** When it was last the file at its path, in ms of the monotonic clock. */
  checked: number;
}

/**
 * The streams' own files, `streams/<type>/<id>/app.jsonl`. Keeps the descriptors of the most recently
 * written ones.
 */
export class StreamFiles {
  readonly #fs: FileSystem;
  readonly #directory: string;
  /** Whether names that differ only in case (or Unicode form) are one entry on this file system. */
  readonly #mergesNames: boolean;
  /** Least recently used first. */
  readonly #open = new Map<StreamKey, OpenFile>();
  #checksLeft = CHECKS;

  constructor(fs: FileSystem, directory: string, mergesNames: boolean) {
    this.#fs = fs;
    this.#directory = directory;
    this.#mergesNames = mergesNames;
  }

  /** Throws for a key that would lead anywhere but to a directory of its own below `streams/`. */
  directory(key: StreamKey): string {
    if (!SAFE_KEY.test(key)) throw new EventfoldError("INVALID_ID", `${JSON.stringify(key)} does not name a stream`);
    return `${this.#directory}/${key}`;
  }

  path(key: StreamKey): string {
    return `${this.directory(key)}/app.jsonl`;
  }

  /** The stream's size on disk; nothing if it has no file. */
  size(key: StreamKey): number | undefined {
    const file = this.#open.get(key)?.file;
    return file === undefined ? this.#fs.stat(this.path(key))?.size : file.size();
  }

  /** Closes the open file of a stream whose directory was deleted or replaced, so that it is opened again. */
  forgetReplaced(key: StreamKey): void {
    const open = this.#open.get(key);
    if (open === undefined || this.#checksLeft === 0) return;
    const now = monotonicNow();
    if (now - open.checked < REACH_MS) return;
    this.#checksLeft--;
    if (open.file.isAtPath()) open.checked = now;
    else this.forget(key);
  }

  /** Opens for writing, creating directories and file when missing. `created` tells whether the directory is new. */
  acquire(key: StreamKey): { readonly file: FileHandle; readonly created: boolean } {
    const known = this.#open.get(key);
    if (known !== undefined) {
      this.#open.delete(key);
      this.#open.set(key, known);
      return { file: known.file, created: false };
    }
    let file: FileHandle;
    let created = false;
    try {
      file = this.#fs.open(this.path(key), "update");
    } catch (error) {
      if (systemErrorCode(error) !== "ENOENT") throw error;
      created = this.#fs.makeDirectory(this.directory(key)) !== undefined;
      file = this.#fs.open(this.path(key), "create");
    }
    try {
      this.checkRealName(key);
    } catch (error) {
      file.close();
      throw error;
    }
    this.#open.set(key, { file, checked: monotonicNow() });
    return { file, created };
  }

  /** How many streams a batch may keep locked. */
  get mostLocked(): number {
    return Math.min(MAX_LOCKED, this.#fs.mostLocks ?? MAX_LOCKED);
  }

  /** Ends a batch: closes descriptors that are too many; with them go the locks on their files. */
  trim(): void {
    this.#checksLeft = CHECKS;
    for (const key of this.#open.keys()) {
      if (this.#open.size <= MAX_OPEN) return;
      this.forget(key);
    }
  }

  /** Opens for reading; nothing if there is no file. The caller closes it. */
  openForReading(key: StreamKey): FileHandle | undefined {
    let file: FileHandle;
    try {
      file = this.#fs.open(this.path(key), "read");
    } catch (error) {
      if (systemErrorCode(error) === "ENOENT") return undefined;
      throw error;
    }
    try {
      this.checkRealName(key);
      return file;
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** Which process has the lock of a stream's file, and what to do about it, as a clause of an error message. */
  lockedBy(key: StreamKey): string {
    const { found, remedy } = describeHolder(findHolder(this.#fs, [this.path(key)]));
    return `${found}; ${remedy}`;
  }

  /** The number of the line in which a byte stands. */
  lineNumber(key: StreamKey, offset: number): number {
    const bytes = readWhole(this.#fs, this.path(key)) ?? Buffer.alloc(0);
    let line = 1;
    for (let at = bytes.indexOf("\n"); at >= 0 && at < offset; at = bytes.indexOf("\n", at + 1)) line++;
    return line;
  }

  forget(key: StreamKey): void {
    this.#open.get(key)?.file.close();
    this.#open.delete(key);
  }

  close(): void {
    for (const key of [...this.#open.keys()]) this.forget(key);
  }

  checkRealName(key: StreamKey): void {
    if (!this.#mergesNames) return;
    const name = key.slice(key.indexOf("/") + 1);
    const real = this.#fs.realName(this.directory(key));
    if (real !== name) {
      throw new EventfoldError(
        "ID_COLLISION",
        `this file system keeps ${JSON.stringify(name)} and ${JSON.stringify(real)} in one directory; both cannot be ids of one store here`,
      );
    }
  }
}
