import { cutOfLine } from "../lines/cut-line.ts";
import { positionOfLine } from "../lines/line-scanner.ts";
import { endOfLastLine, isBlank, lineBefore, type ReadableFile, readLines } from "../lines/line-reader.ts";

/** A place between two lines of a stream's file: where the stream ends, or ended. */
export interface StreamEnd {
  readonly version: number;
  /** Byte offset after the line with this version. */
  readonly end: number;
  /** CRC-32 of the lines before it with their LFs, blank lines left out; `undefined` when unknown. */
  readonly crc: number | undefined;
}

/** Where a stream without events ends. */
export const STREAM_START: StreamEnd = { version: 0, end: 0, crc: 0 };

/**
 * Whether a file has anything but blank lines after the committed events: foreign lines, a commit that another process is
 * writing, or events that the commit log has lost. Only the holder of the store's lock can tell these apart.
 */
export function hasLinesAfter(file: ReadableFile, committed: number, size: number): boolean {
  let end = endOfLastLine(file, size);
  while (end > committed) {
    const line = lineBefore(file, end);
    if (line === undefined) return false;
    if (!isBlank(line.bytes, 0, line.bytes.length)) return true;
    end = line.offset;
  }
  return false;
}

/** The version of a line that follows one with a version. A cut says its own: lines before it may be reclaimed. */
export function versionAfter(version: number, text: string | undefined): number {
  return Math.max(version + 1, cutOfLine(text ?? "")?.version ?? 0);
}

/**
 * Where a stream ends by its file alone, for when neither the index nor the log knows. Lines with a position beyond `head` do
 * not count: they are not committed yet.
 */
export function endOfFile(file: ReadableFile | undefined, head: number): StreamEnd {
  if (file === undefined) return STREAM_START;
  let end = endOfLastLine(file, file.size());
  for (let line = lineBefore(file, end); line !== undefined; line = lineBefore(file, end)) {
    const position = positionOfLine(line.bytes.toString("latin1", Math.max(0, line.bytes.length - 80)));
    if (position === undefined || position <= head) break;
    end = line.offset;
  }
  let version = 0;
  for (const lines of readLines(file, 0, end)) for (const { text } of lines) version = versionAfter(version, text);
  return { version, end, crc: undefined };
}
