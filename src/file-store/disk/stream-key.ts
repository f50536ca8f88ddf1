import { decodeId, encodeId, isPlainName } from "../../stream-names.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import type { StreamName } from "../../event-store/event-store.ts";
import type { StorePaths } from "./store-paths.ts";

declare const brand: unique symbol;

/** `<type>/<directory name>`: names a stream inside the store and in the commit log. Not `<type>/<id>`, which is a `FullName`. */
export type StreamKey = string & { readonly [brand]: "StreamKey" };

export function streamKey(type: string, directory: string): StreamKey {
  return `${type}/${directory}` as StreamKey;
}

/** A key as a file of the store has it. `StreamFiles` refuses a text that is none. */
export function storedKey(text: string): StreamKey {
  return text as StreamKey;
}

export function streamOfKey(key: StreamKey): StreamName {
  const slash = key.indexOf("/");
  return { type: decodeId(key.slice(0, slash)), id: decodeId(key.slice(slash + 1)) };
}

/** The key of a stream: its directory is the Rust crate's where the crate has made one, else the one that we make. */
export function keyOfStream(fs: FileSystem, paths: StorePaths, { type, id }: StreamName): StreamKey {
  const directory = directoryName(fs, paths.streams, type);
  return streamKey(directory, directoryName(fs, `${paths.streams}/${directory}`, id));
}

/** The name of the directory in `parent` for a type or an id: the plain text if that is safe or the Rust crate has made it so. */
function directoryName(fs: FileSystem, parent: string, text: string): string {
  const plain = isPlainName(text);
  if (plain === "safe") return text;
  if (plain === "possible" && fs.stat(`${parent}/${text}`)?.directory === true) return text;
  if (plain === "never" && isNestedName(text)) {
    // The Rust crate makes a directory in a directory of it.
    const isOurs = text.length * 3 < MAX_NAME && fs.stat(`${parent}/${encodeId(text)}`) !== undefined;
    if (!isOurs && fs.stat(`${parent}/${text}/app.jsonl`) !== undefined) return text;
  }
  return encodeId(text);
}

/** In bytes. An escaped id is at most three times as long as the id. */
const MAX_NAME = 255;

/** Whether an id is a path to a directory of its own, several levels down: `p/q`. */
export function isNestedName(id: string): boolean {
  return id.includes("/") && !id.includes("\0") && id.split("/").every((part) => !["", ".", ".."].includes(part));
}

/** Whether an id names a directory that the Rust crate would use for it, and that cannot be one of ours: outside, or shared. */
export function isUnreachableId(id: string): boolean {
  return id === "" || id === "." || id === ".." || (id.includes("/") && !isNestedName(id));
}
