import { isAscii, isUtf8 } from "node:buffer";
import { crc32 } from "node:zlib";
import type { FileHandle } from "../../fs/file-system.ts";

/** What reading lines needs of a file. */
export type ReadableFile = Pick<FileHandle, "size" | "read">;

/** Small, so that objects made from a chunk die young and the chunk fits into the processor's cache. */
const CHUNK = 64 << 10;
const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const SPACE = 0x20;
const TAB = 0x09;

/** One non-blank line of a file. */
export interface Line {
  /** Its text; `undefined` if its bytes are not UTF-8. */
  readonly text: string | undefined;
  /** Byte offset of its first byte. */
  readonly offset: number;
  /** Byte offset after its LF. */
  readonly end: number;
}

/** Some complete lines of a file. The buffer is used again for the next ones. */
export interface LineChunk {
  readonly buffer: Buffer;
  /** Offset after the last LF in the buffer. */
  readonly end: number;
  /** Byte offset of the first line in the file. */
  readonly base: number;
}

/** Reads the complete lines of a file from a byte offset up to `limit`, a chunk at a time; what follows the last LF is not a line. */
export function* readChunks(file: ReadableFile, from: number, limit: number): Generator<LineChunk, void, undefined> {
  let buffer = Buffer.allocUnsafe(Math.max(1, Math.min(CHUNK, limit - from)));
  let base = from;
  let kept = 0;
  while (base + kept < limit) {
    if (kept === buffer.length) buffer = Buffer.concat([buffer, Buffer.allocUnsafe(buffer.length)]);
    const count = file.read(buffer, kept, Math.min(buffer.length - kept, limit - base - kept), base + kept);
    if (count === 0) return;
    const length = kept + count;
    const end = buffer.lastIndexOf(NEWLINE, length - 1) + 1;
    if (end > 0) yield { buffer, end, base };
    buffer.copyWithin(0, end, length);
    kept = length - end;
    base += end;
  }
}

/** Reads the complete lines of a file from a byte offset up to `limit`, but for blank ones. */
export function* readLines(
  file: ReadableFile,
  from: number,
  limit: number,
): Generator<readonly Line[], void, undefined> {
  for (const chunk of readChunks(file, from, limit)) yield linesOf(chunk);
}

/** The lines of a chunk, but for blank ones. */
export function linesOf({ buffer, end, base }: LineChunk): Line[] {
  const lines: Line[] = [];
  // Most lines are ASCII, which is decoded in a third of the time.
  const ascii = isAscii(buffer.subarray(0, end));
  const sound = ascii || isUtf8(buffer.subarray(0, end));
  const encoding = ascii ? "latin1" : "utf8";
  for (let start = 0; start < end;) {
    const stop = buffer.indexOf(NEWLINE, start);
    if (!isBlank(buffer, start, stop)) {
      const text = sound || isUtf8(buffer.subarray(start, stop)) ? buffer.toString(encoding, start, stop) : undefined;
      lines.push({ text, offset: base + start, end: base + stop + 1 });
    }
    start = stop + 1;
  }
  return lines;
}

/** Carries a CRC-32 on over complete lines with their LFs; blank lines do not count. */
export function crcOfLines(buffer: Buffer, start: number, end: number, before: number): number {
  let crc = before;
  let from = start;
  for (let at = start; at < end;) {
    const stop = buffer.indexOf(NEWLINE, at);
    const next = stop < 0 || stop >= end ? end : stop + 1;
    if (isBlank(buffer, at, next - 1)) {
      crc = crc32(buffer.subarray(from, at), crc);
      from = next;
    }
    at = next;
  }
  return crc32(buffer.subarray(from, end), crc);
}

/** Carries a stream's CRC on over a section. */
export function crcOfSection(buffer: Buffer, start: number, end: number, adopted: boolean, before: number): number {
  // Only the Rust crate leaves blank lines.
  return adopted ? crcOfLines(buffer, start, end, before) : crc32(buffer.subarray(start, end), before);
}

/** Whether there is nothing but blanks between two offsets. */
export function isBlank(buffer: Buffer, start: number, end: number): boolean {
  for (let i = start; i < end; i++) {
    const byte = buffer[i];
    if (byte !== SPACE && byte !== TAB && byte !== CARRIAGE_RETURN) return false;
  }
  return true;
}

/** The line that ends (with its LF) at byte `end`; nothing at the start of the file. */
export function lineBefore(
  file: ReadableFile,
  end: number,
): { readonly offset: number; readonly bytes: Buffer } | undefined {
  if (end === 0) return undefined;
  for (let room = 4096; ; room *= 4) {
    const from = Math.max(0, end - room);
    const buffer = Buffer.alloc(end - from);
    const length = file.read(buffer, 0, buffer.length, from);
    if (length < buffer.length || buffer[length - 1] !== NEWLINE) return undefined;
    const start = length < 2 ? 0 : buffer.lastIndexOf(NEWLINE, length - 2) + 1;
    if (start > 0 || from === 0) return { offset: from + start, bytes: buffer.subarray(start, length - 1) };
  }
}

/** Byte offset after the last LF at or before `size`. */
export function endOfLastLine(file: ReadableFile, size: number): number {
  for (let room = 4096; ; room *= 4) {
    const from = Math.max(0, size - room);
    const buffer = Buffer.alloc(size - from);
    const length = file.read(buffer, 0, buffer.length, from);
    const end = buffer.subarray(0, length).lastIndexOf(NEWLINE) + 1;
    if (end > 0) return from + end;
    if (from === 0) return 0;
  }
}
