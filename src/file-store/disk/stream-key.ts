import { decodeId, encodeId, isPlainName } from "../../event-store/stream-names.ts";
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
  return { type: key.slice(0, slash), id: decodeId(key.slice(slash + 1)) };
}

/** The name of the directory that holds an id: the plain id if that is safe, or if the Rust crate has created that directory. */
export function directoryName(fs: FileSystem, paths: StorePaths, type: string, id: string): string {
  const plain = isPlainName(id);
  if (plain === "safe") return id;
  if (plain === "possible" && fs.stat(`${paths.streams}/${type}/${id}`)?.directory === true) return id;
  return encodeId(id);
}
