import { crc32 } from "node:zlib";
import { isChecksum, sealed } from "../disk/checksum.ts";
import type { Checkpoint, ConsumerKind } from "../../event-store/event-store.ts";
import type { FileHandle, FileSystem } from "../../fs/file-system.ts";
import { compareCodePoints } from "../../event-store/stream-order.ts";
import { isCount, isJsonValue } from "../../json.ts";
import { ioError } from "../disk/io-error.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import { readWhole, replaceFile } from "../disk/whole-file.ts";
import type { LogPlace } from "../log/log-place.ts";
import { readLines } from "../lines/line-reader.ts";
import { encodeId } from "../../event-store/stream-names.ts";
import { streamKey, type StreamKey } from "../disk/stream-key.ts";
import { isError } from "../../realm.ts";

const DIRECTORIES: Readonly<Record<ConsumerKind, string>> = {
  projection: "projections",
  "process-manager": "process_managers",
  subscription: "subscriptions",
  aggregate: "aggregates",
};

/** A checkpoint with what only this store knows of it. */
export interface SavedCheckpoint {
  readonly checkpoint: Checkpoint;
  /** A place in the log before the checkpoint's last event; only a hint. */
  readonly place: LogPlace | undefined;
  /** The sequence of a process manager's last note in the log when the checkpoint was saved. */
  readonly sequence: number | undefined;
}

/**
 * `projections/<name>/checkpoint.json` and `process_managers/<name>/checkpoint.json`: `state, position,
 * fingerprint, last, bookmark, sequence`, and `crc` over all before it. The Rust crate's form `{state, cursors}` is
 * read as well: its cursors tell how far each stream was read.
 */
export class CheckpointFiles {
  readonly #fs: FileSystem;
  readonly #paths: StorePaths;
  readonly #openStream: (key: StreamKey) => FileHandle | undefined;

  constructor(fs: FileSystem, paths: StorePaths, openStream: (key: StreamKey) => FileHandle | undefined) {
    this.#fs = fs;
    this.#paths = paths;
    this.#openStream = openStream;
  }

  load(kind: ConsumerKind, name: string): SavedCheckpoint | undefined {
    try {
      const text = readWhole(this.#fs, this.#path(kind, name))?.toString("utf8");
      if (text === undefined) return undefined;
      const match = /,"crc":"([0-9a-f]{8})"\}$/.exec(text.slice(-20));
      if (match === null) return this.#fromRustCrate(text);
      const checked = text.slice(0, -match[0].length);
      if (!isChecksum(match[1], crc32(checked))) return undefined;
      return savedCheckpoint(JSON.parse(`${checked}}`) as Checkpoint & Hints);
    } catch (error) {
      // A damaged cache is not used; a disk that does not answer is another matter.
      if (isError(error) && error.name === "SyntaxError") return undefined;
      throw ioError(error, `reading the checkpoint of ${name}`);
    }
  }

  /** Not kept (and so rebuilt at the next opening) when the state would not come back from JSON as it is. */
  async save(kind: ConsumerKind, name: string, { checkpoint, place, sequence }: SavedCheckpoint): Promise<void> {
    if (!isJsonValue(checkpoint.state)) return;
    const { state, position, fingerprint, last, samples } = checkpoint;
    const bookmark = place === undefined ? undefined : [place.segment, place.offset, place.position];
    const text = JSON.stringify({ state, position, fingerprint, last, samples, bookmark, sequence }).slice(0, -1);
    const path = this.#path(kind, name);
    try {
      this.#fs.makeDirectory(path.slice(0, path.lastIndexOf("/")));
      await replaceFile(this.#fs, path, sealed(text), false);
    } catch (error) {
      throw ioError(error, `writing the checkpoint of ${name}`);
    }
  }

  /** The names of those that have a checkpoint. */
  list(kind: ConsumerKind): readonly string[] {
    try {
      return this.#fs
        .readDirectory(`${this.#paths.base}/${DIRECTORIES[kind]}`)
        .filter(({ name, directory }) => directory && this.#fs.stat(this.#path(kind, name)) !== undefined)
        .map(({ name }) => name)
        .sort(compareCodePoints);
    } catch (error) {
      throw ioError(error, `reading the list of checkpoints`);
    }
  }

  #fromRustCrate(text: string): SavedCheckpoint | undefined {
    const value = JSON.parse(text) as { readonly state?: unknown; readonly cursors?: unknown } | null;
    if (typeof value?.cursors !== "object" || value.cursors === null || value.state === undefined) return undefined;
    const versions = new Map<string, number>();
    for (const [stream, cursor] of Object.entries(
      value.cursors as Record<string, { readonly offset?: unknown } | null>,
    )) {
      const slash = stream.indexOf("/");
      const offset = cursor?.offset;
      if (slash < 0 || !Number.isSafeInteger(offset)) return undefined;
      versions.set(stream, this.#linesBefore(stream, offset as number));
    }
    return { checkpoint: { state: value.state, position: 0, versions }, place: undefined, sequence: undefined };
  }

  /** How many events of a stream precede a byte offset. The Rust crate names streams by their plain ids. */
  #linesBefore(stream: string, offset: number): number {
    const slash = stream.indexOf("/");
    const type = stream.slice(0, slash);
    const id = stream.slice(slash + 1);
    const file = this.#openStream(streamKey(type, id)) ?? this.#openStream(streamKey(type, encodeId(id)));
    if (file === undefined) return 0;
    try {
      let count = 0;
      for (const lines of readLines(file, 0, Math.min(offset, file.size()))) count += lines.length;
      return count;
    } finally {
      file.close();
    }
  }

  #path(kind: ConsumerKind, name: string): string {
    return `${this.#paths.base}/${DIRECTORIES[kind]}/${encodeId(name)}/checkpoint.json`;
  }
}

/** What the file has besides the checkpoint itself. */
interface Hints {
  readonly bookmark?: unknown;
  readonly sequence?: unknown;
}

function savedCheckpoint({ bookmark, sequence, ...checkpoint }: Checkpoint & Hints): SavedCheckpoint {
  return { checkpoint, place: placeOf(bookmark), sequence: isCount(sequence) ? sequence : undefined };
}

function placeOf(bookmark: unknown): LogPlace | undefined {
  if (!Array.isArray(bookmark)) return undefined;
  const [segment, offset, position] = bookmark as readonly unknown[];
  if (!isCount(segment) || !isCount(offset) || !isCount(position) || offset === 0) return undefined;
  return { segment, offset, position };
}
