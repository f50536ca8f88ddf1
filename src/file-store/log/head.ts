import { crc32 } from "node:zlib";
import { checksumText, isChecksum } from "../disk/checksum.ts";
import type { FileHandle, FileSystem } from "../../fs/file-system.ts";
import type { LogPlace } from "./log-place.ts";

const LENGTH = 60;

/**
 * `meta/head`: up to where the log is durable *and* applied to the streams' files, as the living processes
 * know it. It lets a process see with one small read whether others have committed, and how far it may
 * read without the lock. It is never flushed: after a power cut it may be old, torn or gone. But it is never ahead of
 * what is durable, so a log that ends before it has lost something.
 */
export class Head {
  readonly #file: FileHandle;
  readonly #buffer = Buffer.alloc(LENGTH);

  constructor(fs: FileSystem, path: string) {
    this.#file = fs.open(path, "create");
  }

  /** The place that was last written; `undefined` if it is unreadable, as a write may be under way. */
  read(): LogPlace | undefined {
    for (let tries = 0; tries < 3; tries++) {
      const length = this.#file.read(this.#buffer, 0, LENGTH, 0);
      const place = decodeHead(this.#buffer.subarray(0, length));
      if (place !== undefined) return place;
    }
    return undefined;
  }

  write(place: LogPlace): void {
    const text = [place.segment, place.offset, place.position].map((n) => String(n).padStart(16, "0")).join(" ");
    const line = `${text} ${checksumText(crc32(text))}\n`;
    this.#buffer.write(line, 0, line.length, "latin1");
    this.#file.write(this.#buffer, 0, line.length, 0);
  }

  /** Makes the written place durable. Only `repair`, after which an older place may lie after the log's new end, and copies need that. */
  async flush(): Promise<void> {
    await this.#file.flush();
  }

  isAtPath(): boolean {
    return this.#file.isAtPath();
  }

  close(): void {
    this.#file.close();
  }
}

/** The place that the file's bytes tell, if they are whole. */
export function decodeHead(bytes: Buffer): LogPlace | undefined {
  const text = bytes.toString("latin1", 0, LENGTH);
  const match = /^(\d{16}) (\d{16}) (\d{16}) ([0-9a-f]{8})\n/.exec(text);
  if (match === null || !isChecksum(match[4], crc32(text.slice(0, 50)))) return undefined;
  return { segment: Number(match[1]), offset: Number(match[2]), position: Number(match[3]) };
}
