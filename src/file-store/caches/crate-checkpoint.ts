import type { FileHandle } from "../../fs/file-system.ts";
import { encodeId } from "../../stream-names.ts";
import { streamKey, type StreamKey } from "../disk/stream-key.ts";
import { readLines } from "../lines/line-reader.ts";
import { isError } from "../../realm.ts";

/** A checkpoint of the Rust crate. */
export interface CrateCheckpoint {
  readonly state: unknown;
  /** How many events of each stream (`<type>/<id>`) it includes. */
  readonly versions: ReadonlyMap<string, number>;
}

type OpenStream = (key: StreamKey) => FileHandle | undefined;

/** Reads `{state, cursors}`; nothing if it is damaged. A cursor is the offset in a stream's file up to which it was read. */
export function readCrateCheckpoint(bytes: Buffer, openStream: OpenStream): CrateCheckpoint | undefined {
  const content = parse(bytes);
  if (content === undefined) return undefined;
  const versions = new Map<string, number>();
  for (const [stream, cursor] of Object.entries(content.cursors)) {
    const offset = cursor?.offset;
    if (!stream.includes("/") || !Number.isSafeInteger(offset)) return undefined;
    versions.set(stream, linesBefore(stream, offset as number, openStream));
  }
  return { state: content.state, versions };
}

/** Whether a file has the form of the Rust crate's checkpoints. */
export function isCrateCheckpoint(bytes: Buffer): boolean {
  return parse(bytes) !== undefined;
}

interface Content {
  readonly state: unknown;
  readonly cursors: Readonly<Record<string, { readonly offset?: unknown } | null>>;
}

function parse(bytes: Buffer): Content | undefined {
  try {
    const { state, cursors } = (JSON.parse(bytes.toString("utf8")) ?? {}) as Partial<Content>;
    return typeof cursors === "object" && cursors !== null && state !== undefined ? { state, cursors } : undefined;
  } catch (error) {
    if (isError(error) && error.name === "SyntaxError") return undefined;
    throw error;
  }
}

/** How many events of a stream precede a byte offset. The Rust crate names streams by their plain ids. */
function linesBefore(stream: string, offset: number, openStream: OpenStream): number {
  const slash = stream.indexOf("/");
  const type = stream.slice(0, slash);
  const id = stream.slice(slash + 1);
  const file = openStream(streamKey(type, id)) ?? openStream(streamKey(type, encodeId(id)));
  if (file === undefined) return 0;
  try {
    let count = 0;
    for (const lines of readLines(file, 0, Math.min(offset, file.size()))) count += lines.length;
    return count;
  } finally {
    file.close();
  }
}
