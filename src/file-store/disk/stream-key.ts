import { decodeId, encodeId, isPlainName } from "../../event-store/stream-names.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import type { StreamName } from "../../event-store/event-store.ts";
import type { StorePaths } from "./store-paths.ts";

/** `<type>/<directory name>`: names a stream inside the store and in the commit log. */
export type StreamKey = string;

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
