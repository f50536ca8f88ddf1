import type { StreamName } from "../../event-store/event-store.ts";
import { checkTypeName, isPlainName } from "../../stream-names.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import { readError } from "../disk/io-error.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import { keyOfStream, type StreamKey } from "../disk/stream-key.ts";

/** Finds the keys of streams, and remembers them: an instance always asks with the same object. */
export class StreamKeys {
  readonly #fs: FileSystem;
  readonly #paths: StorePaths;
  readonly #keys = new WeakMap<StreamName, StreamKey>();

  constructor(fs: FileSystem, paths: StorePaths) {
    this.#fs = fs;
    this.#paths = paths;
  }

  /** Throws for a stream that cannot be stored. */
  of(stream: StreamName): StreamKey {
    const known = this.#keys.get(stream);
    if (known !== undefined) return known;
    const key = this.#find(stream);
    // Whether another id is a directory's name depends on what the Rust crate has made.
    if (isPlainName(stream.id) === "safe" && isPlainName(stream.type) === "safe") this.#keys.set(stream, key);
    return key;
  }

  #find(stream: StreamName): StreamKey {
    checkTypeName(stream.type);
    try {
      return keyOfStream(this.#fs, this.#paths, stream);
    } catch (error) {
      throw readError(error, `${this.#paths.streams}/${stream.type}`);
    }
  }
}
