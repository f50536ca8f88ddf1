import type { StreamName } from "../../event-store/event-store.ts";
import { fullNameOf, isTypeName } from "../../stream-names.ts";
import { compareCodePoints } from "../../event-store/stream-order.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import { readError } from "../disk/io-error.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import {
  isNestedName,
  isUnreachableId,
  keyOfStream,
  streamKey,
  type StreamKey,
  streamOfKey,
} from "../disk/stream-key.ts";
import { readWhole } from "../disk/whole-file.ts";
import type { StreamFiles } from "./stream-files.ts";
import type { StreamIndex } from "./stream-index.ts";
import type { StreamKeys } from "./stream-keys.ts";
import { StreamRegistry } from "./stream-registry.ts";
import type { UnappliedRecords } from "./unapplied-records.ts";

export interface StreamListParts {
  readonly fs: FileSystem;
  readonly paths: StorePaths;
  readonly files: StreamFiles;
  readonly registry: StreamRegistry;
  readonly index: StreamIndex;
  readonly keys: StreamKeys;
  readonly unapplied: UnappliedRecords;
}

/** Lists the streams that exist. */
export class StreamList {
  readonly #parts: StreamListParts;

  constructor(parts: StreamListParts) {
    this.#parts = parts;
  }

  /** All streams, or all of one type, in the order of their types and ids. */
  read(type?: string): StreamName[] {
    const streams = this.#applied();
    const names = new Set(streams.map(fullNameOf));
    for (const { created } of this.#parts.unapplied.list)
      for (const { stream } of created)
        if (!names.has(fullNameOf(stream)) && !this.#isDeleted(stream)) streams.push(stream);
    const wanted = type === undefined ? streams : streams.filter((stream) => stream.type === type);
    return wanted.sort((a, b) => compareCodePoints(a.type, b.type) || compareCodePoints(a.id, b.id));
  }

  #applied(): StreamName[] {
    try {
      return this.#readDirectories();
    } catch (error) {
      throw readError(error, "the list of streams");
    }
  }

  /** The streams that have a directory; of those without events, the ones that are registered. */
  #readDirectories(): StreamName[] {
    const { fs, paths, files, registry, index } = this.#parts;
    const registered = new Map(registry.read().streams.map((stream) => [fullNameOf(stream), stream]));
    const streams: StreamName[] = [];
    // A damaged line of the registry can look like another stream's, so the directories decide.
    for (const type of fs.readDirectory(paths.streams)) {
      const path = `${paths.streams}/${type.name}`;
      for (const { name, directory } of type.directory ? fs.readDirectory(path) : []) {
        const key = streamKey(type.name, name);
        const stream = streamOfKey(key);
        const isRegistered = registered.delete(fullNameOf(stream));
        if (directory && (isRegistered || (files.size(key) ?? 0) > 0) && !index.isDeleted(key)) streams.push(stream);
      }
    }
    // A stream whose directory is gone is damaged, but it exists.
    for (const stream of registered.values()) if (this.#hasEvents(stream)) streams.push(stream);
    return streams;
  }

  #isDeleted(stream: StreamName): boolean {
    return this.#parts.index.isDeleted(this.#parts.keys.of(stream));
  }

  #hasEvents(stream: StreamName): boolean {
    try {
      const { index, keys } = this.#parts;
      const key = keys.of(stream);
      return (index.applied(key)?.version ?? 0) > 0 && !index.isDeleted(key);
    } catch {
      return false;
    }
  }
}

/**
 * The keys of all directories that hold a stream. The Rust crate makes directories in directories for ids such as `p/q`; only its
 * registry names those.
 */
export function findStreams(fs: FileSystem, paths: StorePaths): StreamKey[] {
  return streamDirectories(fs, paths).filter((key) => fs.stat(`${paths.streams}/${key}/app.jsonl`) !== undefined);
}

/** The same, with directories that have no file of events. */
export function streamDirectories(fs: FileSystem, paths: StorePaths): StreamKey[] {
  const keys: StreamKey[] = [];
  for (const type of fs.readDirectory(paths.streams)) {
    if (!type.directory) continue;
    for (const { name, directory } of fs.readDirectory(`${paths.streams}/${type.name}`))
      if (directory) keys.push(streamKey(type.name, name));
  }
  for (const stream of rawStreams(fs, paths)) {
    if (!isNestedName(stream.id)) continue;
    const key = keyOfStream(fs, paths, stream);
    if (key.endsWith(`/${stream.id}`)) keys.push(key);
  }
  return keys;
}

/** The registered streams whose ids cannot be directories' names as they are: only the Rust crate has used them so. */
export function rawStreams(fs: FileSystem, paths: StorePaths): StreamName[] {
  const bytes = readWhole(fs, paths.registry);
  // Reading the registry as a whole takes long in a large store, and hardly any has such ids.
  if (bytes === undefined || !RAW_ID.test(bytes.toString("latin1"))) return [];
  const { streams } = new StreamRegistry(fs, paths.registry).read();
  return streams.filter(({ type, id }) => isTypeName(type) && (isNestedName(id) || isUnreachableId(id)));
}

const RAW_ID = /"id"\s*:\s*"([^"]*\/|\.{0,2}")/;
