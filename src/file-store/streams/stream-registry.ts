import type { StreamName } from "../../event-store/event-store.ts";
import { type FullName, fullNameOf } from "../../stream-names.ts";
import type { FileHandle, FileSystem } from "../../fs/file-system.ts";
import { readWhole, replaceFile } from "../disk/whole-file.ts";

const NEWLINE = 0x0a;

/** A stream that gets its line in the registry. */
export interface NewStream {
  readonly stream: StreamName;
  /** Time of its first event, in seconds since 1970. */
  readonly seconds: number;
  /** Its file was there before its first event: the Rust crate registers a stream when it is opened. */
  readonly mayBeKnown?: boolean;
}

/**
 * `meta/streams.jsonl`: one line for every stream, in order of creation, in the form of the Rust crate
 * (`id, ts, type`). Everything in it can be derived from the commit log and the streams' directories.
 */
export class StreamRegistry {
  readonly #fs: FileSystem;
  readonly #path: string;
  #file: FileHandle | undefined;

  constructor(fs: FileSystem, path: string) {
    this.#fs = fs;
    this.#path = path;
  }

  /** The registered streams without repetitions, and how many lines could not be read. */
  read(): { readonly streams: StreamName[]; readonly unreadable: number } {
    const streams = new Map<FullName, StreamName>();
    let unreadable = 0;
    for (const line of readWhole(this.#fs, this.#path)?.toString("utf8").split("\n") ?? []) {
      if (line.trim() === "") continue;
      const stream = parse(line);
      if (stream === undefined) unreadable++;
      else streams.set(fullNameOf(stream), stream);
    }
    return { streams: [...streams.values()], unreadable };
  }

  /** The names of the registered streams. */
  names(): Set<FullName> {
    return new Set(this.read().streams.map(fullNameOf));
  }

  /** Adds lines at the end. Not durable before `flush`. */
  append(created: readonly NewStream[]): void {
    const known = created.some(({ mayBeKnown }) => mayBeKnown)
      ? new Set(this.read().streams.map(fullNameOf))
      : undefined;
    const entries = known === undefined ? created : created.filter(({ stream }) => !known.has(fullNameOf(stream)));
    if (entries.length === 0) return;
    this.#file ??= this.#fs.open(this.#path, "create");
    let size = this.#file.size();
    // A torn last line (a process died while writing it) must not swallow ours.
    const last = Buffer.alloc(1);
    const torn = size > 0 && this.#file.read(last, 0, 1, size - 1) === 1 && last[0] !== NEWLINE;
    if (torn) size = this.#endTornLine(this.#file, size);
    const text = entries
      .map(({ stream, seconds }) => `${JSON.stringify({ id: stream.id, ts: seconds, type: stream.type })}\n`)
      .join("");
    const bytes = Buffer.from(text);
    this.#file.write(bytes, 0, bytes.length, size);
  }

  /** Removes the lines that cannot be read, durably: a power cut can leave one before others. */
  async removeUnreadable(): Promise<void> {
    if (this.read().unreadable === 0) return;
    this.close();
    const lines = readWhole(this.#fs, this.#path)?.toString("utf8").split("\n") ?? [];
    const text = lines.filter((line) => parse(line) !== undefined).map((line) => `${line}\n`);
    await replaceFile(this.#fs, this.#path, text.join(""), true);
  }

  /** Makes all lines durable, also those of other processes. */
  async flush(): Promise<void> {
    this.#file ??= this.#fs.open(this.#path, "create");
    await this.#file.flush();
  }

  close(): void {
    this.#file?.close();
    this.#file = undefined;
  }

  /** Returns the size that the file has then. */
  #endTornLine(file: FileHandle, size: number): number {
    const bytes = Buffer.alloc(size);
    file.read(bytes, 0, size, 0);
    const end = bytes.lastIndexOf(NEWLINE) + 1;
    if (parse(bytes.toString("utf8", end)) !== undefined) {
      // Only its LF is missing: it has been taken for registered.
      file.write(Buffer.from("\n"), 0, 1, size);
      return size + 1;
    }
    file.truncate(end);
    return end;
  }
}

function parse(line: string): StreamName | undefined {
  try {
    const entry = JSON.parse(line) as { readonly id?: unknown; readonly type?: unknown } | null;
    if (typeof entry?.id === "string" && typeof entry.type === "string") return { type: entry.type, id: entry.id };
  } catch {
    // Counted by the caller.
  }
  return undefined;
}
