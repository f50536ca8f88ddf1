import { positionOfLine } from "../lines/line-scanner.ts";
import { isBlank } from "../lines/line-reader.ts";

const NEWLINE = 0x0a;
const OPENING_BRACE = 0x7b;

/**
 * Compares what a stream's file has from an offset on with the committed lines that belong there. Returns `undefined` if the file
 * agrees as far as it has both (missing bytes and zeros, which a power cut leaves, agree). Otherwise a process died before it
 * had written all committed lines, and the Rust crate has appended since: returns the crate's lines, which belong after the
 * committed ones. The bytes of a line that was never completed are not among them.
 */
export function foreignTail(found: Buffer, committed: Buffer): Buffer | undefined {
  const length = Math.min(found.length, committed.length);
  let same = 0;
  while (same < length && (found[same] === committed[same] || found[same] === 0)) same++;
  if (same === length) return undefined;
  const lines: Buffer[] = [];
  for (let at = same === 0 ? 0 : found.lastIndexOf(NEWLINE, same - 1) + 1; at < found.length;) {
    const stop = found.indexOf(NEWLINE, at);
    if (stop < 0) break;
    const start = startOfForeignLine(found, at, stop);
    if (start !== undefined) lines.push(found.subarray(start, stop + 1));
    // What follows the crate's first line is the crate's, too: an unreadable line is reported by its reader.
    else if (lines.length > 0 && !isBlank(found, at, stop)) lines.push(found.subarray(at, stop + 1));
    at = stop + 1;
  }
  if (lines.length > 0) return Buffer.concat(lines);
  // The committed lines are damaged, and no line of the crate is among them: what follows them stays.
  return found.subarray(Math.min(found.length, committed.length));
}

/**
 * Where a complete foreign line starts that ends at `stop`: at `from`, or later if it was appended to an unfinished line. At most
 * one start is possible, because the rest of a JSON object is not an object.
 */
function startOfForeignLine(bytes: Buffer, from: number, stop: number): number | undefined {
  for (let at = from; at >= 0 && at < stop; at = bytes.indexOf(OPENING_BRACE, at + 1))
    if (isForeignLine(bytes.toString("utf8", at, stop))) return at;
  return undefined;
}

function isForeignLine(text: string): boolean {
  if (positionOfLine(text) !== undefined) return false;
  try {
    const event: unknown = JSON.parse(text);
    return typeof event === "object" && event !== null && "type" in event && typeof event.type === "string";
  } catch {
    return false;
  }
}
