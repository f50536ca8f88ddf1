import { checksumEnd } from "../../file-store/disk/checksum.ts";
import { crc32 } from "node:zlib";
import { readRecord } from "../../file-store/log/record-format.ts";

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc >>> 0;
});
/** The table's entry by its highest byte, which is another one for each. */
const BY_HIGH_BYTE = new Uint8Array(256);
for (const [index, entry] of TABLE.entries()) BY_HIGH_BYTE[entry >>> 24] = index;

/**
 * A CRC-32 does not only tell that bytes are damaged: if it is a single byte, it tells which one and what it was. Gives the
 * bytes as they were; nothing if no single byte, or more than one, could be it.
 */
export function correctOneByte(bytes: Buffer, checksum: number): Buffer | undefined {
  let corrected: Buffer | undefined;
  // The checksum is linear: a wrong byte changes it by what that byte alone would give, carried through the bytes
  // after it. So carry the difference back, byte by byte; where it fits into one byte, that is the wrong one.
  let difference = (crc32(bytes) ^ checksum) >>> 0;
  if (difference === 0) return undefined;
  for (let at = bytes.length - 1; at >= 0; at--) {
    const index = BY_HIGH_BYTE[difference >>> 24] ?? 0;
    difference = (((difference ^ (TABLE[index] ?? 0)) << 8) | index) >>> 0;
    if (difference > 0xff) continue;
    if (corrected !== undefined) return undefined;
    corrected = Buffer.from(bytes);
    corrected[at] = (corrected[at] ?? 0) ^ difference;
  }
  return corrected;
}

/** Up to this many bytes, it is safe to believe a correction that nothing else confirms: another damage would fit by chance in 1 of 4,000 cases. */
export const SURE_BYTES = 4096;

const CHECKSUM_LENGTH = ',"crc":"00000000"}\n'.length;

/** The whole record that begins `bytes` if at most one of its bytes is damaged, and where it ends; nothing if that cannot be. */
export function correctRecord(bytes: Buffer, position: number): Buffer | undefined {
  for (const candidate of candidates(bytes)) {
    const read = readRecord(candidate, 0, candidate.length, 0);
    if (read.kind === "record" && read.header.position === position && read.header.end === candidate.length)
      return candidate;
  }
  return undefined;
}

function* candidates(bytes: Buffer): Generator<Buffer> {
  const start = bytes.toString("latin1", 0, 160);
  const checksum = /,"crc":"([0-9a-f]{8})"\}\n/.exec(start);
  // The damage is in what the checksum covers …
  if (checksum !== null) {
    const end = checksum.index + CHECKSUM_LENGTH;
    const covered = Buffer.concat([bytes.subarray(0, checksum.index), bytes.subarray(end)]);
    const corrected = correctOneByte(covered, Number.parseInt(checksum[1] ?? "", 16));
    if (corrected !== undefined) {
      yield Buffer.concat([
        corrected.subarray(0, checksum.index),
        bytes.subarray(checksum.index, end),
        corrected.subarray(checksum.index),
      ]);
    }
  }
  // … or in the checksum's own place.
  const head =
    /^\{"commit":\d{1,16},"events":\d{1,16},"bytes":\d{1,16},"flushed":\d{1,16}(?:,"adopted":true)?/.exec(start)?.[0] ??
    "";
  for (let length = head.length; length > 0 && length > head.length - 2; length--) {
    const covered = Buffer.concat([bytes.subarray(0, length), bytes.subarray(length + CHECKSUM_LENGTH)]);
    const whole = Buffer.concat([
      bytes.subarray(0, length),
      Buffer.from(`${checksumEnd(crc32(covered))}\n`),
      bytes.subarray(length + CHECKSUM_LENGTH),
    ]);
    if (differingBytes(whole, bytes) <= 1) yield whole;
  }
}

/** A snapshot's or checkpoint's text, `{…,"crc":"…"}`, with a single damaged byte put right; nothing if that cannot be. */
export function correctText(bytes: Buffer): Buffer | undefined {
  const length = bytes.length - CHECKSUM_LENGTH + 1;
  if (length <= 0) return undefined;
  const covered = bytes.subarray(0, length);
  const end = bytes.toString("latin1", length);
  const checksum = /^,"crc":"([0-9a-f]{8})"\}$/.exec(end);
  const corrected = checksum === null ? undefined : correctOneByte(covered, Number.parseInt(checksum[1] ?? "", 16));
  if (corrected !== undefined) return Buffer.concat([corrected, bytes.subarray(length)]);
  const whole = Buffer.concat([covered, Buffer.from(checksumEnd(crc32(covered)))]);
  return differingBytes(whole, bytes) <= 1 ? whole : undefined;
}

/** How many bytes differ, up to 9; 9 also for another length. */
export function differingBytes(a: Uint8Array, b: Uint8Array): number {
  if (a.length !== b.length) return 9;
  let count = 0;
  for (let i = 0; i < a.length && count < 9; i++) if (a[i] !== b[i]) count++;
  return count;
}
