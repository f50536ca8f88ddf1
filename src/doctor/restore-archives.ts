import { execFileSync } from "node:child_process";
import { EventfoldError, isEventfoldError } from "../errors.ts";
import type { FileHandle, FileSystem } from "../fs/file-system.ts";
import { openNodeFileSystem } from "../fs/node-file-system.ts";
import { CRATE_CHECKPOINT } from "../file-store/caches/checkpoint-files.ts";
import { type LineHash, loadLineHash } from "../file-store/caches/snapshot-format.ts";
import { ioError } from "../file-store/disk/io-error.ts";
import { quarantine } from "../file-store/disk/quarantine.ts";
import { SegmentFiles } from "../file-store/log/segment-files.ts";
import { StoreLock } from "../file-store/disk/store-lock.ts";
import { type StorePaths, storePaths } from "../file-store/disk/store-paths.ts";
import { type StreamKey, streamOfKey } from "../file-store/disk/stream-key.ts";
import { readWhole, replaceFile } from "../file-store/disk/whole-file.ts";
import { streamDirectories } from "../file-store/streams/stream-list.ts";
import { isError } from "../realm.ts";

const ARCHIVE = "archive.jsonl.zst";
const LF = 0x0a;

type Decompress = (archive: Uint8Array) => Uint8Array | Promise<Uint8Array>;

export interface RestoreArchivesOptions {
  /** Decompresses a file of zstd frames. Default: the command `zstd`, which must be installed. */
  readonly decompress?: Decompress;
  /** Another implementation of the file port, for tests. */
  readonly fileSystem?: FileSystem;
}

export interface RestoreArchivesReport {
  /** Absolute path of the store. */
  readonly directory: string;
  /** The streams whose archived events are in `app.jsonl` again. */
  readonly restored: readonly {
    readonly file: string;
    /** Bytes that were inserted. */
    readonly bytes: number;
    /** Where the archive is kept. */
    readonly quarantined: string;
  }[];
  /** Checkpoints of the Rust crate whose cursors were moved by as many bytes. */
  readonly checkpoints: readonly string[];
}

/**
 * Puts events that eventfold, the library below the Rust crate, has moved to `archive.jsonl.zst` back before the first line of
 * `app.jsonl`, so that both this library and the crate read all of them. Snapshots of these streams are removed, because the crate
 * would add the events to them once more, and cursors in checkpoints of the crate are moved. No program may have the directory open. It
 * can be run again after a failure. Throws `STREAM_LOCKED`, `CORRUPT_STREAM` for an archive that cannot be read, and
 * `INVALID_ARGUMENT` if there is no such directory, or no `zstd`.
 */
export async function restoreArchives(
  directory: string,
  options: RestoreArchivesOptions = {},
): Promise<RestoreArchivesReport> {
  const { decompress = runZstd, fileSystem = await openNodeFileSystem() } = options;
  const fs = SegmentFiles.on(fileSystem);
  const paths = storePaths(fs.resolve(directory));
  if (fs.stat(paths.base)?.directory !== true)
    throw new EventfoldError("INVALID_ARGUMENT", `there is no directory ${paths.base}`);
  try {
    fs.makeDirectory(paths.meta);
    const lock = StoreLock.open(fs, paths.lock, { turn: paths.turn });
    try {
      return await lock.hold(() => new Archives(fs, paths, decompress).restore());
    } finally {
      lock.close();
    }
  } catch (error) {
    throw ioError(error, `restoring the archives in ${paths.base}`, "run it again");
  }
}

class Archives {
  readonly #fs: FileSystem;
  readonly #paths: StorePaths;
  readonly #decompress: Decompress;

  constructor(fs: FileSystem, paths: StorePaths, decompress: Decompress) {
    this.#fs = fs;
    this.#paths = paths;
    this.#decompress = decompress;
  }

  async restore(): Promise<RestoreArchivesReport> {
    const restored: { file: string; bytes: number; quarantined: string }[] = [];
    const checkpoints = new Set<string>();
    const hash = await loadLineHash();
    for (const key of streamDirectories(this.#fs, this.#paths)) {
      const archive = readWhole(this.#fs, this.#archive(key));
      if (archive === undefined) continue;
      const file = this.#lock(key);
      try {
        const archived = await this.#read(key, archive);
        const present = readWhole(this.#fs, this.#events(key)) ?? Buffer.alloc(0);
        // Otherwise an earlier run did not come to removing the archive.
        const isMissing = !present.subarray(0, archived.length).equals(archived);
        const whole = isMissing ? Buffer.concat([archived, present]) : present;
        this.#fs.remove(`${this.#paths.streams}/${key}/views`);
        for (const path of await this.#moveCursors(key, whole, archived.length, hash)) checkpoints.add(path);
        if (isMissing) await replaceFile(this.#fs, this.#events(key), whole, true);
        const quarantined = await quarantine(this.#fs, this.#paths, `${key}/${ARCHIVE}`, archive);
        this.#fs.remove(this.#archive(key));
        await this.#fs.syncDirectory(`${this.#paths.streams}/${key}`);
        restored.push({ file: this.#events(key), bytes: isMissing ? archived.length : 0, quarantined });
      } finally {
        file?.close();
      }
    }
    return { directory: this.#paths.base, restored, checkpoints: [...checkpoints] };
  }

  #archive(key: StreamKey): string {
    return `${this.#paths.streams}/${key}/${ARCHIVE}`;
  }

  #events(key: StreamKey): string {
    return `${this.#paths.streams}/${key}/app.jsonl`;
  }

  #lock(key: StreamKey): FileHandle | undefined {
    if (this.#fs.stat(this.#events(key)) === undefined) return undefined;
    const file = this.#fs.open(this.#events(key), "update");
    if (file.tryLock()) return file;
    file.close();
    throw new EventfoldError(
      "STREAM_LOCKED",
      `expected that no program uses ${this.#paths.base}, but another one has locked ${this.#events(key)}; close it`,
    );
  }

  async #read(key: StreamKey, archive: Buffer): Promise<Buffer> {
    let archived: Buffer;
    try {
      archived = Buffer.from(await this.#decompress(archive));
    } catch (cause) {
      if (isEventfoldError(cause)) throw cause;
      throw new EventfoldError(
        "CORRUPT_STREAM",
        `expected zstd frames in ${this.#archive(key)}, which cannot be decompressed; restore the file from a backup`,
        { cause },
      );
    }
    if (archived.length > 0 && archived.at(-1) !== LF)
      throw new EventfoldError(
        "CORRUPT_STREAM",
        `expected whole lines in ${this.#archive(key)}, found an unfinished one at its end; complete or remove that line in the archive`,
      );
    return archived;
  }

  /** Moves the cursors of a stream that were made after the rotation. The hash of the line before a cursor tells. Returns the files. */
  async #moveCursors(key: StreamKey, whole: Buffer, bytes: number, hash: LineHash): Promise<string[]> {
    const { type, id } = streamOfKey(key);
    const stream = `${type}/${id}`;
    const changed: string[] = [];
    for (const kind of ["projections", "process_managers"]) {
      for (const { name } of this.#fs.readDirectory(`${this.#paths.base}/${kind}`)) {
        const path = `${this.#paths.base}/${kind}/${name}/${CRATE_CHECKPOINT}`;
        const checkpoint = parsed(readWhole(this.#fs, path));
        const cursor = checkpoint?.cursors?.[stream];
        if (checkpoint === undefined || cursor === undefined) continue;
        if (isAt(whole, cursor.offset, cursor.hash, hash) || !isAt(whole, cursor.offset + bytes, cursor.hash, hash))
          continue;
        cursor.offset += bytes;
        await replaceFile(this.#fs, path, JSON.stringify(checkpoint, undefined, 2), true);
        changed.push(path);
      }
    }
    return changed;
  }
}

interface CrateFile {
  readonly cursors?: Readonly<Record<string, { offset: number; readonly hash: string } | undefined>>;
}

function parsed(bytes: Buffer | undefined): CrateFile | undefined {
  try {
    const value = bytes === undefined ? undefined : (JSON.parse(bytes.toString("utf8")) as CrateFile | null);
    return value ?? undefined;
  } catch {
    // The crate begins anew with such a file, and so do we.
    return undefined;
  }
}

/** Whether the line that ends at an offset has a hash. */
function isAt(bytes: Buffer, offset: number, expected: string, hash: LineHash): boolean {
  if (offset === 0) return expected === "";
  if (!(offset <= bytes.length) || bytes[offset - 1] !== LF) return false;
  const start = offset < 2 ? 0 : bytes.lastIndexOf(LF, offset - 2) + 1;
  return hash(bytes.subarray(start, offset - 1)) === expected;
}

function runZstd(archive: Uint8Array): Uint8Array {
  try {
    return execFileSync("zstd", ["--decompress", "--stdout", "--quiet"], {
      input: archive,
      maxBuffer: 2 ** 31 - 1,
      stdio: ["pipe", "pipe", "pipe"],
    });
  } catch (error) {
    if (!isError(error) || !("code" in error) || error.code !== "ENOENT") throw error;
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      "expected the command zstd, which decompresses archives, found none; install zstd, or pass decompress",
      { cause: error },
    );
  }
}
