import { hash } from "node:crypto";
import { crc32 } from "node:zlib";
import type { FileSystem } from "../../fs/file-system.ts";
import { checksumEnd } from "../disk/checksum.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import type { StreamKey } from "../disk/stream-key.ts";
import { readWhole, replaceFile } from "../disk/whole-file.ts";

/** A change of a stream's file that cannot be made in one step: foreign lines move to after the committed ones. */
export interface LineMove {
  readonly stream: StreamKey;
  /** Offset in the stream's file from which the bytes change. */
  readonly at: number;
  /** How many bytes the file had from there on. Until the move is done, they may be a mixture of old and new ones. */
  readonly found: number;
  /** What the file is to have from there on. */
  readonly bytes: Buffer;
}

const NEWLINE = 0x0a;

/**
 * `meta/moves/`: the moves that have begun. A move is noted here, durably, before its stream's file changes, so that the next
 * opening completes it if the process dies in between. Doing a move twice changes nothing.
 */
export class LineMoves {
  readonly #fs: FileSystem;
  readonly #directory: string;

  constructor(fs: FileSystem, paths: StorePaths) {
    this.#fs = fs;
    this.#directory = paths.moves;
  }

  /** The moves that a dead process has begun. */
  list(): LineMove[] {
    return this.#fs.readDirectory(this.#directory).flatMap(({ name }) => {
      const move = name.endsWith(".tmp") ? undefined : this.#read(`${this.#directory}/${name}`);
      return move === undefined ? [] : [move];
    });
  }

  /** The move of a stream's lines that has begun. */
  of(stream: StreamKey): LineMove | undefined {
    return this.#read(this.#path(stream));
  }

  /** Notes a move durably, in place of an earlier one of the same stream. */
  async begin({ stream, at, found, bytes }: LineMove): Promise<void> {
    this.#fs.makeDirectory(this.#directory);
    await this.#fs.syncDirectory(this.#directory.slice(0, this.#directory.lastIndexOf("/")));
    const start = `{"stream":${JSON.stringify(stream)},"at":${at},"found":${found},"bytes":${bytes.length}`;
    const header = Buffer.from(`${start}${checksumEnd(crc32(bytes, crc32(start)))}\n`);
    await replaceFile(this.#fs, this.#path(stream), Buffer.concat([header, bytes]), true);
  }

  /** Forgets a move that is done and durable. */
  async end(stream: StreamKey): Promise<void> {
    this.#fs.remove(this.#path(stream));
    await this.#fs.syncDirectory(this.#directory);
  }

  #path(stream: StreamKey): string {
    return `${this.#directory}/${hash("sha256", stream).slice(0, 24)}`;
  }

  /** A note that is damaged is of no use: the quarantine has its bytes, too. */
  #read(path: string): LineMove | undefined {
    const file = readWhole(this.#fs, path);
    const end = file?.indexOf(NEWLINE) ?? -1;
    if (file === undefined || end < 0) return undefined;
    const text = file.toString("utf8", 0, end);
    const bytes = file.subarray(end + 1);
    const start = text.slice(0, text.lastIndexOf(',"crc":'));
    if (text !== start + checksumEnd(crc32(bytes, crc32(start)))) return undefined;
    const { stream, at, found } = JSON.parse(text) as LineMove;
    return { stream, at, found, bytes };
  }
}
