import { CorruptionError } from "../../errors.ts";
import type { FileHandle, FileSystem } from "../../fs/file-system.ts";
import { quarantine } from "../disk/quarantine.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import { type StreamKey, streamOfKey } from "../disk/stream-key.ts";
import { endOfLastLine, readLines, type ReadableFile } from "../lines/line-reader.ts";
import { positionOfLine } from "../lines/line-scanner.ts";
import type { WrittenEnd } from "../log/record-writer.ts";
import type { StreamFiles } from "../streams/stream-files.ts";
import type { Batch } from "./batch.ts";

export interface ForeignLinesParts {
  readonly fs: FileSystem;
  readonly paths: StorePaths;
  readonly files: StreamFiles;
}

/** Adds to a record the lines that the Rust crate has appended to a stream's file. */
export class ForeignLines {
  readonly #parts: ForeignLinesParts;

  constructor(parts: ForeignLinesParts) {
    this.#parts = parts;
  }

  /**
   * Adds what the stream's file has after `end`, and moves `end` past it. `locked` is the stream's file if it is locked: then
   * nothing is being written to it, and an unfinished line goes to the quarantine.
   */
  async adopt(batch: Batch, key: StreamKey, end: WrittenEnd, locked: FileHandle | undefined): Promise<void> {
    const file = this.#parts.files.openForReading(key);
    if (file === undefined) return;
    try {
      const size = file.size();
      if (size < end.end) {
        const where = { file: this.#parts.files.path(key), line: end.version, offset: size };
        throw new CorruptionError("CORRUPT_STREAM", where, `the file ends here; ${end.end} bytes were committed`);
      }
      const lastLine = endOfLastLine(file, size);
      if (lastLine > end.end && !endsLine(file, end.end)) {
        const where = { file: this.#parts.files.path(key), line: end.version, offset: end.end };
        throw new CorruptionError("CORRUPT_STREAM", where, `no line ends here; ${end.end} bytes were committed`);
      }
      if (lastLine > end.end) this.#addLines(batch, key, file, end, lastLine);
      if (size > end.end && locked !== undefined) await this.#cutUnfinished(key, file, end.end, size, locked);
    } finally {
      file.close();
    }
  }

  #addLines(batch: Batch, key: StreamKey, file: ReadableFile, end: WrittenEnd, stop: number): void {
    const events = this.#countForeign(key, file, end, stop);
    const lines = Buffer.alloc(stop - end.end);
    file.read(lines, 0, lines.length, end.end);
    if (events === 0) {
      // Blank lines only.
      end.end = stop;
      return;
    }
    if (end.version === 0) batch.created.push({ stream: streamOfKey(key), seconds: 0, mayBeKnown: true });
    batch.record.addLines(key, end, events, lines, { adopted: true });
  }

  /** Throws for a line that this library wrote: the log has lost its event. */
  #countForeign(key: StreamKey, file: ReadableFile, { version, end }: WrittenEnd, stop: number): number {
    let events = 0;
    for (const lines of readLines(file, end, stop)) {
      for (const { text, offset } of lines) {
        events++;
        const position = text === undefined ? undefined : positionOfLine(text);
        if (position === undefined) continue;
        const where = { file: this.#parts.files.path(key), line: version + events, offset };
        const why = `there is an event with position ${position} that the commit log does not have`;
        throw new CorruptionError("CORRUPT_STREAM", where, why);
      }
    }
    return events;
  }

  async #cutUnfinished(
    key: StreamKey,
    file: ReadableFile,
    end: number,
    size: number,
    locked: FileHandle,
  ): Promise<void> {
    const torn = Buffer.alloc(size - end);
    file.read(torn, 0, torn.length, end);
    await quarantine(this.#parts.fs, this.#parts.paths, `${key}.${end}`, torn);
    locked.truncate(end);
  }
}

function endsLine(file: ReadableFile, offset: number): boolean {
  const byte = Buffer.alloc(1);
  return offset === 0 || (file.read(byte, 0, 1, offset - 1) === 1 && byte[0] === 0x0a);
}
