import { crc32 } from "node:zlib";
import type { FileHandle, FileSystem } from "../../fs/file-system.ts";
import { BLOCK_BYTES, CompressedSegment, encodeBlock } from "../log/segment-blocks.ts";
import { COMPRESSED } from "../log/segment-files.ts";

/** Writes a compressed segment beside the old one, and puts it in its place. */
export class SegmentWriter {
  readonly #fs: FileSystem;
  readonly #path: string;
  readonly #temporary: string;
  readonly #file: FileHandle;
  readonly #block = Buffer.alloc(BLOCK_BYTES);
  #blocks = 0;
  #filled = 0;
  #written = 0;
  #bytes = 0;
  #crc = 0;

  /** `fs` has the files as they are, `path` is that of the segment. */
  constructor(fs: FileSystem, path: string) {
    this.#fs = fs;
    this.#path = path;
    this.#temporary = `${path}${COMPRESSED}.tmp`;
    this.#file = fs.open(this.#temporary, "create");
    this.#file.truncate(0);
  }

  /** Bytes of the segment that were added. */
  get bytes(): number {
    return this.#bytes;
  }

  add(bytes: Buffer): void {
    this.#crc = crc32(bytes, this.#crc);
    this.#bytes += bytes.length;
    for (let at = 0; at < bytes.length;) {
      const count = bytes.copy(this.#block, this.#filled, at, Math.min(bytes.length, at + BLOCK_BYTES - this.#filled));
      at += count;
      this.#filled += count;
      if (this.#filled === BLOCK_BYTES) this.#writeBlock();
    }
  }

  #writeBlock(): void {
    const member = encodeBlock(this.#blocks++, this.#block.subarray(0, this.#filled));
    this.#file.write(member, 0, member.length, this.#written);
    this.#written += member.length;
    this.#filled = 0;
  }

  /**
   * Makes the new file durable, reads it again, and lets it take the place of the old one. Returns its length. Needs the store's lock:
   * no other process may repair or copy the log meanwhile.
   */
  async finish(): Promise<number> {
    if (this.#filled > 0) this.#writeBlock();
    await this.#file.flush();
    this.#compare();
    this.#file.close();
    this.#fs.rename(this.#temporary, this.#path + COMPRESSED);
    const directory = this.#path.slice(0, this.#path.lastIndexOf("/"));
    // The old file goes when the new one is certain to be there after a power cut.
    await this.#fs.syncDirectory(directory);
    if (this.#fs.stat(this.#path) === undefined) return this.#written;
    this.#fs.remove(this.#path);
    await this.#fs.syncDirectory(directory);
    return this.#written;
  }

  /** The old file is about to be removed, so nothing is left to chance. */
  #compare(): void {
    const segment = new CompressedSegment(this.#path, this.#file);
    let crc = 0;
    for (let at = 0; at < segment.size();) {
      const count = segment.read(this.#block, 0, BLOCK_BYTES, at);
      crc = crc32(this.#block.subarray(0, count), crc);
      at += count;
    }
    if (segment.size() !== this.#bytes || crc !== this.#crc)
      throw new Error(
        `expected ${this.#temporary} to have what was written to it, found other bytes; ${this.#path} stays`,
      );
  }

  /** Gives up. The old file stays. */
  discard(): void {
    this.#file.close();
    this.#fs.remove(this.#temporary);
  }
}
