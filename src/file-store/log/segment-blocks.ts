import { crc32, deflateRawSync, inflateRawSync } from "node:zlib";
import type { FileHandle } from "../../fs/file-system.ts";

/**
 * A compressed segment: the segment's bytes in blocks of one size, each a member of a gzip file. The extra field of each member's
 * header says how long the member is, so that a reader finds a block without decompressing those before it.
 */

/** Bytes of the segment in a block. The last one has what is left. */
export const BLOCK_BYTES: number = 256 << 10;
/** A member's bytes before the compressed ones: the fixed header of gzip, and an extra field with one subfield of 12 bytes. */
const HEADER = 28;
const TRAILER = 8;
/** gzip, deflate, with an extra field; no time, unknown system; 16 bytes of extra field, the subfield `ef` with 12 bytes. */
const MAGIC = Buffer.from([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 16, 0, 0x65, 0x66, 12, 0]);
/** Blocks that a reader keeps: a record may begin in one and end in the next. */
const KEPT = 2;

/** The member with the block number `index`, from 0. */
export function encodeBlock(index: number, bytes: Buffer): Buffer {
  const deflated = deflateRawSync(bytes);
  const member = Buffer.alloc(HEADER + deflated.length + TRAILER);
  MAGIC.copy(member);
  member.writeUInt32LE(member.length, MAGIC.length);
  member.writeUInt32LE(index, MAGIC.length + 4);
  member.writeUInt32LE(BLOCK_BYTES, MAGIC.length + 8);
  deflated.copy(member, HEADER);
  member.writeUInt32LE(crc32(bytes), member.length - TRAILER);
  member.writeUInt32LE(bytes.length, member.length - 4);
  return member;
}

/** Where a member is in the file. */
interface Block {
  readonly at: number;
  readonly length: number;
}

/**
 * A compressed segment that reads like the segment itself, at the same offsets. A block that is damaged reads as zeros: a segment has
 * none, so its reader reports them as damage.
 */
export class CompressedSegment implements FileHandle {
  /** That of the segment, not of the file that has its bytes. */
  readonly path: string;
  readonly #file: FileHandle;
  readonly #blocks: (Block | undefined)[] = [];
  readonly #blockBytes: number;
  readonly #size: number;
  /** The last used last. */
  readonly #kept = new Map<number, Buffer>();

  constructor(path: string, file: FileHandle) {
    this.path = path;
    this.#file = file;
    this.#blockBytes = this.#find();
    const last = this.#blocks.at(-1);
    const tail = Buffer.alloc(4);
    if (last !== undefined) file.read(tail, 0, 4, last.at + last.length - 4);
    const lastBytes = Math.min(tail.readUInt32LE(0), this.#blockBytes);
    this.#size = last === undefined ? 0 : (this.#blocks.length - 1) * this.#blockBytes + lastBytes;
  }

  /** Finds the members. Returns the bytes of a block. */
  #find(): number {
    const end = this.#file.size();
    const header = Buffer.alloc(HEADER);
    let blockBytes = 0;
    for (let at = 0; at + HEADER + TRAILER <= end;) {
      this.#file.read(header, 0, HEADER, at);
      const length = header.readUInt32LE(MAGIC.length);
      const index = header.readUInt32LE(MAGIC.length + 4);
      const isSound =
        header.subarray(0, MAGIC.length).equals(MAGIC) &&
        at + length <= end &&
        length > HEADER + TRAILER &&
        index >= this.#blocks.length &&
        index <= this.#blocks.length + end;
      if (isSound) {
        this.#blocks.length = index;
        this.#blocks.push({ at, length });
        blockBytes ||= header.readUInt32LE(MAGIC.length + 8);
      }
      at = isSound ? at + length : this.#nextMember(at + 1, end);
    }
    return blockBytes;
  }

  /** After damage: where the next member may begin. */
  #nextMember(from: number, end: number): number {
    const rest = Buffer.alloc(end - from);
    this.#file.read(rest, 0, rest.length, from);
    const found = rest.indexOf(MAGIC);
    return found < 0 ? end : from + found;
  }

  size(): number {
    return this.#size;
  }

  /** Whether all blocks are there and sound. */
  get isSound(): boolean {
    for (let index = 0; index < this.#blocks.length; index++) if (this.#inflate(index) === undefined) return false;
    return this.#blocks.length > 0;
  }

  read(buffer: Uint8Array, offset: number, length: number, position: number): number {
    const end = Math.min(position + length, this.#size);
    for (let at = position; at < end;) {
      const index = Math.floor(at / this.#blockBytes);
      const from = at - index * this.#blockBytes;
      const count = Math.min(end - at, this.#blockBytes - from);
      const target = offset + at - position;
      const block = this.#block(index);
      buffer.set(block.subarray(from, from + count), target);
      if (block.length < from + count) buffer.fill(0, target + Math.max(0, block.length - from), target + count);
      at += count;
    }
    return Math.max(0, end - position);
  }

  #block(index: number): Buffer {
    let block = this.#kept.get(index);
    if (block === undefined) {
      block = this.#inflate(index) ?? Buffer.alloc(0);
      const [oldest] = this.#kept.keys();
      if (this.#kept.size >= KEPT && oldest !== undefined) this.#kept.delete(oldest);
    } else this.#kept.delete(index);
    this.#kept.set(index, block);
    return block;
  }

  #inflate(index: number): Buffer | undefined {
    const block = this.#blocks[index];
    if (block === undefined) return undefined;
    const member = Buffer.alloc(block.length);
    if (this.#file.read(member, 0, member.length, block.at) < member.length) return undefined;
    try {
      const bytes = inflateRawSync(member.subarray(HEADER, -TRAILER), { maxOutputLength: this.#blockBytes });
      const end = member.length - TRAILER;
      return crc32(bytes) === member.readUInt32LE(end) && bytes.length === member.readUInt32LE(end + 4)
        ? bytes
        : undefined;
    } catch {
      return undefined;
    }
  }

  write(): void {
    throw readOnly(this.path);
  }

  writeDurably(): void {
    throw readOnly(this.path);
  }

  truncate(): void {
    throw readOnly(this.path);
  }

  flush(): Promise<void> {
    return this.#file.flush();
  }

  flushNow(): void {
    this.#file.flushNow();
  }

  tryLock(): boolean {
    return this.#file.tryLock();
  }

  unlock(): void {
    this.#file.unlock();
  }

  isAtPath(): boolean {
    return this.#file.isAtPath();
  }

  close(): void {
    this.#file.close();
  }
}

/** Only segments that nothing is appended to are compressed. */
function readOnly(path: string): Error {
  return new Error(`expected a segment that is not compressed, found ${path}.gz`);
}
