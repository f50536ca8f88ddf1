import { versionAfter } from "../streams/stream-end.ts";
import type { FileHandle } from "../../fs/file-system.ts";
import type { StreamName } from "../../event-store/event-store.ts";
import { checkStreamName, isTypeName } from "../../stream-names.ts";
import { isUnreachableId } from "../disk/stream-key.ts";
import { isBlank, lineBefore, type ReadableFile, readLines } from "../lines/line-reader.ts";
import { isCount } from "../../json.ts";
import { isError } from "../../realm.ts";
import type { LineHash } from "./snapshot-format.ts";

/** A checkpoint of the Rust crate. */
export interface CrateCheckpoint {
  readonly state: unknown;
  /** How many events of each stream (`<type>/<id>`) it includes. */
  readonly versions: ReadonlyMap<string, number>;
}

/** What to read a checkpoint with. */
export interface CrateFiles {
  /** Opens a stream's file to read it; nothing if there is none. */
  readonly openStream: (stream: StreamName) => FileHandle | undefined;
  readonly hash: LineHash;
}

interface Cursor {
  /** The offset in a stream's file up to which it was read. */
  readonly offset: number;
  /** Hash of the last line before it; empty at the start of the file. */
  readonly hash: string;
}

/**
 * Reads `{state, cursors}`. The crate neither flushes the file nor compares its hashes, so the file may be cut off, or may
 * belong to other streams than those that are there. Returns the reason why it cannot be trusted then.
 */
export function readCrateCheckpoint(bytes: Buffer, files: CrateFiles): CrateCheckpoint | { readonly problem: string } {
  const content = parse(bytes);
  if ("problem" in content) return content;
  const versions = new Map<string, number>();
  for (const [stream, cursor] of Object.entries(content.cursors)) {
    const name = nameOf(stream);
    if (name === undefined || !isCursor(cursor))
      return { problem: `its cursor of ${stream} has no stream, offset and hash` };
    // Its events are not part of the store.
    if (isUnreachableId(name.id)) continue;
    const version = versionAt(name, cursor, files);
    if (typeof version === "string")
      return { problem: `its cursor of ${stream} is at byte ${cursor.offset}, but ${version}` };
    versions.set(stream, version);
  }
  return { state: content.state, versions };
}

interface Content {
  readonly state: unknown;
  readonly cursors: Readonly<Record<string, unknown>>;
}

function parse(bytes: Buffer): Content | { readonly problem: string } {
  if (bytes.length === 0) return { problem: "it is empty" };
  try {
    const { state, cursors } = (JSON.parse(bytes.toString("utf8")) ?? {}) as Partial<Content>;
    return typeof cursors === "object" && cursors !== null && !Array.isArray(cursors) && state !== undefined
      ? { state, cursors }
      : { problem: "it has no state and cursors" };
  } catch (error) {
    if (isError(error) && error.name === "SyntaxError") return { problem: "it is not JSON" };
    throw error;
  }
}

/** The crate names streams by their plain ids. */
function nameOf(stream: string): StreamName | undefined {
  const slash = stream.indexOf("/");
  const type = stream.slice(0, Math.max(0, slash));
  return isTypeName(type) ? { type, id: stream.slice(slash + 1) } : undefined;
}

function isCursor(cursor: unknown): cursor is Cursor {
  const { offset, hash } = (cursor ?? {}) as Partial<Cursor>;
  return isCount(offset) && typeof hash === "string";
}

/** How many events of a stream precede a cursor, or why the cursor does not belong to this stream. */
function versionAt(
  stream: StreamName,
  { offset, hash: expected }: Cursor,
  { openStream, hash }: CrateFiles,
): number | string {
  const file = isStorable(stream) ? openStream(stream) : undefined;
  if (file === undefined) return offset === 0 && expected === "" ? 0 : "the stream has no file";
  try {
    const size = file.size();
    if (offset > size) return `the stream's file has ${size} bytes`;
    const line = lastLine(file, offset);
    if (line === "middle") return "no line of the stream's file ends there";
    const found = line === undefined ? "" : hash(line);
    if (found !== expected)
      return `the line before it has the hash ${JSON.stringify(found)}, not ${JSON.stringify(expected)}`;
    let count = 0;
    for (const lines of readLines(file, 0, offset)) for (const { text } of lines) count = versionAfter(count, text);
    return count;
  } finally {
    file.close();
  }
}

function isStorable(stream: StreamName): boolean {
  try {
    checkStreamName(stream);
    return true;
  } catch {
    return false;
  }
}

/** The last line before an offset that is not blank; nothing if there is none. */
function lastLine(file: ReadableFile, offset: number): Buffer | "middle" | undefined {
  for (let end = offset; end > 0;) {
    const line = lineBefore(file, end);
    if (line === undefined) return "middle";
    if (!isBlank(line.bytes, 0, line.bytes.length)) return line.bytes;
    end = line.offset;
  }
  return undefined;
}
