import { crc32 } from "node:zlib";
import { present } from "../../assert-invariant.ts";

/** A CRC-32 as our files write it: 8 hexadecimal digits. */
export function checksumText(crc: number): string {
  return crc.toString(16).padStart(8, "0");
}

/** Whether a CRC-32 is the one that a file says. `text` is a group of a pattern that matched. */
export function isChecksum(text: string | undefined, crc: number): boolean {
  return Number.parseInt(present(text, "a pattern that matches has its groups"), 16) === crc;
}

/** The end of a JSON object whose last key is the checksum of all that comes before it. */
export function checksumEnd(crc: number): string {
  return `,"crc":"${checksumText(crc)}"}`;
}

/** Completes the text of a JSON object, of which only that end is missing. */
export function sealed(text: string): string {
  return text + checksumEnd(crc32(text));
}
