import type { Snapshot } from "../../event-store/event-store.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import { readWhole, replaceFile } from "../disk/whole-file.ts";
import { lineBefore, type ReadableFile } from "../lines/line-reader.ts";
import { decodeSnapshot, encodeSnapshot, type LineHash, type SnapshotFile } from "./snapshot-format.ts";
import type { StreamKey } from "../disk/stream-key.ts";
import type { StreamFiles } from "../streams/stream-files.ts";
import type { StreamEnd } from "../streams/stream-end.ts";

/** A snapshot that is this many versions older than the stream's end is not saved: finding its offset would take too long. */
const REACH = 1000;

/** The snapshots beside the streams: caches that are checked before they are used. */
export class SnapshotFiles {
  readonly #fs: FileSystem;
  readonly #files: StreamFiles;
  readonly #hash: LineHash;

  constructor(fs: FileSystem, files: StreamFiles, hash: LineHash) {
    this.#fs = fs;
    this.#files = files;
    this.#hash = hash;
  }

  /** The snapshot if it is intact, made by the given code, and still fits the stream's file. */
  load(key: StreamKey, fingerprint: string): SnapshotFile | undefined {
    try {
      const snapshot = decodeSnapshot(readWhole(this.#fs, this.#path(key))?.toString("utf8") ?? "");
      if (snapshot === undefined || snapshot.fingerprint !== fingerprint) return undefined;
      const file = this.#files.openForReading(key);
      if (file === undefined) return undefined;
      try {
        const line = snapshot.offset <= file.size() ? lineBefore(file, snapshot.offset) : undefined;
        return line !== undefined && this.#hash(line.bytes) === snapshot.hash ? snapshot : undefined;
      } finally {
        file.close();
      }
    } catch {
      // Only a cache: the stream is read instead, and reports the error if it is damaged too.
      return undefined;
    }
  }

  /** Keeps a snapshot of a stream that ends at `end` now. Not being able to is no error. */
  async save(key: StreamKey, snapshot: Snapshot, end: StreamEnd): Promise<void> {
    if (end.version - snapshot.version > REACH) return;
    try {
      const file = this.#files.openForReading(key);
      if (file === undefined) return;
      let place: { readonly offset: number; readonly hash: string } | undefined;
      try {
        place = this.#placeOf(file, end.version - snapshot.version, end.end);
      } finally {
        file.close();
      }
      const text =
        place === undefined
          ? undefined
          : encodeSnapshot({ ...snapshot, ...place, lines: snapshot.version === end.version ? end.crc : undefined });
      if (text === undefined) return;
      this.#fs.makeDirectory(`${this.#files.directory(key)}/views`);
      await replaceFile(this.#fs, this.#path(key), text, false);
    } catch {
      // Only a cache: without it the next load reads more events.
    }
  }

  /** Removes a snapshot of events that were dropped by a cut with this version, durably. One that cannot be read may be of these. */
  async removeBefore(key: StreamKey, version: number): Promise<void> {
    const path = this.#path(key);
    for (const file of [path, `${path}.tmp`]) {
      const text = readWhole(this.#fs, file)?.toString("utf8");
      if (text === undefined || (decodeSnapshot(text)?.version ?? 0) >= version) continue;
      this.#fs.remove(file);
      await this.#fs.syncDirectory(path.slice(0, path.lastIndexOf("/")));
    }
  }

  /** The place that is `back` lines before `end`, if the file has that much already. */
  #placeOf(
    file: ReadableFile,
    back: number,
    end: number,
  ): { readonly offset: number; readonly hash: string } | undefined {
    let offset = end;
    let line = lineBefore(file, offset);
    for (let i = 0; i < back && line !== undefined; i++) {
      offset = line.offset;
      line = lineBefore(file, offset);
    }
    return line === undefined ? undefined : { offset, hash: this.#hash(line.bytes) };
  }

  #path(key: StreamKey): string {
    return `${this.#files.directory(key)}/views/state.snapshot.json`;
  }
}
