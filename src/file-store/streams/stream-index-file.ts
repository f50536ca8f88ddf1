import { hash } from "node:crypto";
import { crc32 } from "node:zlib";
import type { FileHandle, FileSystem } from "../../fs/file-system.ts";
import { systemErrorCode } from "../../fs/file-system.ts";
import { Slice } from "../../event-loop.ts";
import { present } from "../../assert-invariant.ts";
import type { StreamKey } from "../disk/stream-key.ts";
import type { StreamEnd } from "./stream-end.ts";

/**
 * `meta/stream_ends`: a hash table with a slot for each stream, so that a stream's version is known, and
 * its bytes can be checked, without reading the log. StorePaths (numbers are big-endian):
 *
 *     header, 64 bytes: 16 "eventfold ends 1", 8 slots, 8 used slots, 8 position, 4 CRC-32 of these; zeros
 *     slot,   32 bytes: 12 SHA-256 of the key (its beginning), 5 version, 6 end, 4 crc, 1 zero, 4 CRC-32 of these; all zeros when free
 *
 * A stream's slot is the first free one (or its own) from `first 4 bytes of the hash modulo slots` on. Everything up to
 * `position` is in here; later ends follow from the log after the marker. A slot never crosses a sector, so a power cut tears none.
 * Only a cache: when it is missing, damaged or older than the marker it is made again from the log.
 */
const MAGIC = "eventfold ends 1";
const HEADER = 64;
const SLOT = 32;
const CHECKED = 28;
const HASH = 12;
const FIRST_SLOTS = 256;
/** Slots that are read at once: a search seldom needs more. */
const PROBE = 4;

/** The table says something about itself that cannot be. */
export class DamagedStreamIndexError extends Error {
  override readonly name = "DamagedStreamIndexError";
}

interface Header {
  readonly slots: number;
  readonly used: number;
  readonly position: number;
}

export class StreamIndexFile {
  readonly #fs: FileSystem;
  readonly #path: string;
  readonly #file: FileHandle;
  #header: Header;

  private constructor(fs: FileSystem, path: string, file: FileHandle, header: Header) {
    this.#fs = fs;
    this.#path = path;
    this.#file = file;
    this.#header = header;
  }

  /** Opens the table; nothing if there is none that can be used. */
  static open(fs: FileSystem, path: string): StreamIndexFile | undefined {
    let file: FileHandle;
    try {
      file = fs.open(path, "update");
    } catch (error) {
      if (systemErrorCode(error) === "ENOENT") return undefined;
      throw error;
    }
    const header = readHeader(file);
    if (header !== undefined) return new StreamIndexFile(fs, path, file, header);
    file.close();
    return undefined;
  }

  /** Makes the table anew, durably, from `ends` and what an older one has of other streams. */
  static async create(
    fs: FileSystem,
    path: string,
    older: StreamIndexFile | undefined,
    ends: ReadonlyMap<StreamKey, StreamEnd>,
    position: number,
  ): Promise<void> {
    const [buffer, used] = await build(older, ends);
    const slots = (buffer.length - HEADER) / SLOT;
    encodeHeader({ slots, used, position: Math.max(position, older?.position ?? 0) }).copy(buffer);
    const temporary = `${path}.tmp`;
    const file = fs.open(temporary, "create");
    try {
      file.truncate(0);
      file.write(buffer, 0, buffer.length, 0);
      await file.flush();
    } finally {
      file.close();
    }
    fs.rename(temporary, path);
    await fs.syncDirectory(path.slice(0, path.lastIndexOf("/")));
  }

  /** Everything up to here is in the table. */
  get position(): number {
    return this.#header.position;
  }

  /** Throws `DamagedStreamIndexError`. */
  find(key: StreamKey): StreamEnd | undefined {
    const name = nameOf(key);
    const { end } = this.#search(name);
    return end;
  }

  /** Writes these ends, durably, unless the table has newer ones. Needs the store's lock. */
  async write(ends: ReadonlyMap<StreamKey, StreamEnd>, position: number): Promise<void> {
    if (this.#header.used + ends.size > this.#header.slots * MAX_LOAD) {
      await StreamIndexFile.create(this.#fs, this.#path, this, ends, position);
      return;
    }
    let { used } = this.#header;
    const slice = new Slice();
    for (const [key, end] of ends) {
      const name = nameOf(key);
      const { end: there, slot } = this.#search(name);
      if (there !== undefined && there.version >= end.version) continue;
      if (there === undefined) used++;
      this.#file.write(encodeSlot(name, end), 0, SLOT, HEADER + slot * SLOT);
      if (slice.isOver) await slice.next();
    }
    this.#header = { ...this.#header, used, position: Math.max(position, this.#header.position) };
    this.#file.write(encodeHeader(this.#header), 0, HEADER, 0);
    await this.#file.flush();
  }

  /** All slots that are in use. Throws `DamagedStreamIndexError`. */
  *slots(): Generator<Buffer, void, undefined> {
    const { slots } = this.#header;
    const buffer = Buffer.alloc(1024 * SLOT);
    for (let first = 0; first < slots; first += 1024) {
      const length = Math.min(1024, slots - first) * SLOT;
      if (this.#file.read(buffer, 0, length, HEADER + first * SLOT) < length)
        throw new DamagedStreamIndexError("the table is cut short");
      for (let at = 0; at < length; at += SLOT) {
        const slot = buffer.subarray(at, at + SLOT);
        if (isFree(slot)) continue;
        checkSlot(slot);
        yield slot;
      }
    }
  }

  close(): void {
    this.#file.close();
  }

  #search(name: Buffer): { readonly end: StreamEnd | undefined; readonly slot: number } {
    const { slots } = this.#header;
    const buffer = Buffer.alloc(PROBE * SLOT);
    let slot = name.readUInt32BE(0) % slots;
    for (let probed = 0; probed < slots;) {
      const count = Math.min(PROBE, slots - slot);
      if (this.#file.read(buffer, 0, count * SLOT, HEADER + slot * SLOT) < count * SLOT)
        throw new DamagedStreamIndexError("the table is cut short");
      for (let i = 0; i < count; i++, slot++, probed++) {
        const found = buffer.subarray(i * SLOT, (i + 1) * SLOT);
        if (isFree(found)) return { end: undefined, slot };
        checkSlot(found);
        if (found.compare(name, 0, HASH, 0, HASH) === 0) return { end: decodeSlot(found), slot };
      }
      if (slot === slots) slot = 0;
    }
    throw new DamagedStreamIndexError("the table has no free slot");
  }
}

const MAX_LOAD = 0.7;

async function build(
  older: StreamIndexFile | undefined,
  ends: ReadonlyMap<StreamKey, StreamEnd>,
): Promise<readonly [buffer: Buffer, used: number]> {
  const slotsByName = new Map<string, Buffer>();
  for (const slot of older?.slots() ?? []) slotsByName.set(slot.toString("latin1", 0, HASH), Buffer.from(slot));
  for (const [key, end] of ends) {
    const name = nameOf(key);
    const there = slotsByName.get(name.toString("latin1"));
    if (there === undefined || decodeSlot(there).version < end.version)
      slotsByName.set(name.toString("latin1"), encodeSlot(name, end));
  }
  let slots = FIRST_SLOTS;
  // Room to grow by half before the next time.
  while (slotsByName.size * 1.5 > slots * MAX_LOAD) slots *= 2;
  const buffer = Buffer.alloc(HEADER + slots * SLOT);
  const slice = new Slice();
  for (const slot of slotsByName.values()) {
    let at = slot.readUInt32BE(0) % slots;
    while (!isFree(buffer.subarray(HEADER + at * SLOT, HEADER + (at + 1) * SLOT))) at = (at + 1) % slots;
    slot.copy(buffer, HEADER + at * SLOT);
    if (slice.isOver) await slice.next();
  }
  return [buffer, slotsByName.size];
}

function nameOf(key: StreamKey): Buffer {
  return hash("sha256", key, "buffer").subarray(0, HASH);
}

function isFree(slot: Buffer): boolean {
  for (let i = 0; i < SLOT; i += 4) if (slot.readUInt32BE(i) !== 0) return false;
  return true;
}

function checkSlot(slot: Buffer): void {
  if (crc32(slot.subarray(0, CHECKED)) !== slot.readUInt32BE(CHECKED))
    throw new DamagedStreamIndexError("the checksum of a slot does not match");
}

function encodeSlot(name: Buffer, { version, end, crc }: StreamEnd): Buffer {
  const slot = Buffer.alloc(SLOT);
  name.copy(slot, 0, 0, HASH);
  slot.writeUIntBE(Math.floor(version / 2 ** 32), 12, 1);
  slot.writeUInt32BE(version % 2 ** 32, 13);
  slot.writeUIntBE(end, 17, 6);
  slot.writeUInt32BE(present(crc, "a stream's end is saved with its checksum only"), 23);
  slot.writeUInt32BE(crc32(slot.subarray(0, CHECKED)), CHECKED);
  return slot;
}

function decodeSlot(slot: Buffer): StreamEnd {
  return {
    version: slot.readUIntBE(12, 5),
    end: slot.readUIntBE(17, 6),
    crc: slot.readUInt32BE(23),
  };
}

function encodeHeader({ slots, used, position }: Header): Buffer {
  const header = Buffer.alloc(HEADER);
  header.write(MAGIC, 0, "latin1");
  for (const [i, value] of [slots, used, position].entries()) header.writeBigUInt64BE(BigInt(value), 16 + 8 * i);
  header.writeUInt32BE(crc32(header.subarray(0, 40)), 40);
  return header;
}

function readHeader(file: FileHandle): Header | undefined {
  const header = Buffer.alloc(HEADER);
  if (file.read(header, 0, HEADER, 0) < HEADER || header.toString("latin1", 0, MAGIC.length) !== MAGIC)
    return undefined;
  if (crc32(header.subarray(0, 40)) !== header.readUInt32BE(40)) return undefined;
  const [slots = 0, used = 0, position = 0] = [16, 24, 32].map((at) => Number(header.readBigUInt64BE(at)));
  return file.size() < HEADER + slots * SLOT ? undefined : { slots, used, position };
}
