import { crc32 } from "node:zlib";
import { EventfoldError } from "../../errors.ts";
import type { StoredDeadLetter } from "../../event-store/event-store.ts";
import { type FileHandle, type FileSystem, systemErrorCode } from "../../fs/file-system.ts";
import { checksumText } from "../disk/checksum.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import { isPlainName } from "../../stream-names.ts";
import { replaceFileNow } from "../disk/whole-file.ts";
import type { NoteSection } from "../log/record-sections.ts";

const FILE = "dead_letters.jsonl";
/** As many bytes at the end of a file tell whether another process has changed it: they have the last letter's key. */
const TAIL = 256;

/** What a manager's file holds. */
interface LettersFile {
  /** By key, in the order of their last lines. */
  readonly letters: Map<string, StoredDeadLetter>;
  /** Keys of letters that were replayed or dropped, as far as this process knows. */
  readonly settled: Set<string>;
  /** Lines whose key has a later line. */
  superseded: number;
  /** Where the lines end that can be read; what follows may be a write that did not end. */
  readable: number;
  size: number;
  tail: Buffer;
}

/**
 * `process_managers/<name>/dead_letters.jsonl`: the log's dead letters, and those that the Rust crate wrote.
 *
 * A letter is appended, and settling it writes nothing: the log tells which letters are settled. When those that do not count
 * outnumber the others, the file is replaced. So n letters cost O(n) bytes. Each append is flushed, so a crash can damage only
 * the last one, whose record is then applied again.
 */
export class DeadLetterFiles {
  readonly #fs: FileSystem;
  readonly #paths: StorePaths;
  readonly #known = new Map<string, LettersFile>();

  constructor(fs: FileSystem, paths: StorePaths) {
    this.#fs = fs;
    this.#paths = paths;
  }

  /** The process managers that have a file. */
  names(): string[] {
    const directory = `${this.#paths.base}/process_managers`;
    return this.#fs
      .readDirectory(directory)
      .flatMap(({ name }) => (this.#fs.stat(`${directory}/${name}/${FILE}`) === undefined ? [] : [name]));
  }

  /** The letters of a manager's file by key, oldest first, with settled ones. Reads the file only if it has changed. */
  read(name: string): ReadonlyMap<string, StoredDeadLetter> {
    if (!hasLettersFile(name)) return new Map();
    let file: FileHandle;
    try {
      file = this.#fs.open(this.#path(name), "read");
    } catch (error) {
      if (systemErrorCode(error) === "ENOENT") return new Map();
      throw error;
    }
    try {
      return this.#load(name, file).letters;
    } finally {
      file.close();
    }
  }

  /** Brings the files up to date with committed notes. Doing it twice changes nothing. Needs the store's lock. */
  apply(notes: readonly NoteSection[]): void {
    for (const { name, deadLetters = [], settledLetters = [] } of notes) {
      if (!hasLettersFile(name)) continue;
      if (deadLetters.length === 0 && settledLetters.length === 0) continue;
      const path = this.#path(name);
      this.#fs.makeDirectory(path.slice(0, path.lastIndexOf("/")));
      try {
        const known = this.#write(name, path, deadLetters);
        for (const key of settledLetters)
          if (known.letters.has(key) && !deadLetters.some((letter) => letter.key === key)) known.settled.add(key);
        if (known.superseded + 2 * known.settled.size > known.letters.size) this.#compact(path, known);
      } catch (error) {
        this.#known.delete(name);
        throw error;
      }
    }
  }

  /** Replaces a manager's file by one with these letters, if it has others. Needs the store's lock. */
  keep(name: string, letters: readonly StoredDeadLetter[]): void {
    if (!hasLettersFile(name)) return;
    const keys = new Set(letters.map(({ key }) => key));
    if ([...this.read(name).keys()].every((key) => keys.has(key))) return;
    replaceFileNow(this.#fs, this.#path(name), letters.map(lineOf).join(""));
    this.#known.delete(name);
  }

  #write(name: string, path: string, deadLetters: readonly StoredDeadLetter[]): LettersFile {
    const file = this.#fs.open(path, "create");
    try {
      if (append(file, this.#load(name, file), deadLetters)) this.#known.delete(name);
      return this.#load(name, file);
    } finally {
      file.close();
    }
  }

  #load(name: string, file: FileHandle): LettersFile {
    const size = file.size();
    const known = this.#known.get(name);
    if (known?.size === size && known.tail.equals(bytesOf(file, Math.max(0, size - TAIL), size))) return known;
    const loaded = parseFile(name, bytesOf(file, 0, size));
    this.#known.set(name, loaded);
    return loaded;
  }

  #compact(path: string, known: LettersFile): void {
    for (const key of known.settled) known.letters.delete(key);
    known.settled.clear();
    const text = [...known.letters.values()].map(lineOf).join("");
    replaceFileNow(this.#fs, path, text);
    const bytes = Buffer.from(text);
    known.superseded = 0;
    known.readable = known.size = bytes.length;
    known.tail = Buffer.from(bytes.subarray(-TAIL));
  }

  #path(name: string): string {
    // The name may come from the log, so it may be anything.
    if (isPlainName(name) !== "safe")
      throw new EventfoldError("INVALID_DEFINITION", `${JSON.stringify(name)} cannot be a process manager's name`);
    return `${this.#paths.base}/process_managers/${name}/${FILE}`;
  }
}

/** The letters of the runtime's own consumers are in the log alone: their names have a colon, and those of their directories a `%`. */
export function hasLettersFile(consumer: string): boolean {
  return !consumer.includes(":") && !consumer.startsWith("%");
}

function lineOf({ key, letter }: StoredDeadLetter): string {
  return `${JSON.stringify({ ...letter, key })}\n`;
}

function bytesOf(file: FileHandle, start: number, end: number): Buffer {
  const buffer = Buffer.alloc(end - start);
  return buffer.subarray(0, file.read(buffer, 0, buffer.length, start));
}

/** Appends the letters whose last line differs, and makes them durable. Returns whether bytes that were there have changed. */
function append(file: FileHandle, known: LettersFile, deadLetters: readonly StoredDeadLetter[]): boolean {
  for (const { key } of deadLetters) known.settled.delete(key);
  const first = deadLetters.findIndex((letter) => {
    const last = known.letters.get(letter.key);
    return last === undefined || lineOf(last) !== lineOf(letter);
  });
  const rest = bytesOf(file, known.readable, known.size);
  // A write of the same letters did not end: it is done again in its place.
  const torn =
    rest.length === 0 ? -1 : ([first, ...deadLetters.keys()].find((i) => isTorn(rest, deadLetters, i)) ?? -1);
  const isRemnant = torn >= 0;
  if (first < 0 && !isRemnant) return false;
  const letters = deadLetters.slice(isRemnant ? torn : first);
  const text = Buffer.from(letters.map(lineOf).join(""));
  const at = isRemnant ? known.readable : known.size;
  const bytes =
    isRemnant || rest.length === 0 || rest.at(-1) === 0x0a ? text : Buffer.concat([Buffer.from("\n"), text]);
  file.write(bytes, 0, bytes.length, at);
  file.flushNow();
  for (const letter of letters) {
    if (known.letters.delete(letter.key)) known.superseded++;
    known.letters.set(letter.key, letter);
  }
  known.size = known.readable = at + bytes.length;
  known.tail = bytesOf(file, Math.max(0, known.size - TAIL), known.size);
  return isRemnant;
}

/** Whether bytes are a part of the lines of the letters from an index on, with zeros where they did not reach the disk. */
function isTorn(bytes: Buffer, letters: readonly StoredDeadLetter[], index: number): boolean {
  if (index < 0) return false;
  const text = Buffer.from(letters.slice(index).map(lineOf).join(""));
  return bytes.length <= text.length && bytes.every((byte, i) => byte === 0 || byte === text[i]);
}

function parseFile(name: string, bytes: Buffer): LettersFile {
  const lines: string[] = [];
  let readable: number | undefined;
  for (let start = 0; start < bytes.length;) {
    const stop = bytes.indexOf(0x0a, start);
    const line = bytes.toString("utf8", start, stop < 0 ? bytes.length : stop);
    const isLetter = parsed(line).isReadable;
    if (stop < 0 || !(isLetter || line.trim() === "")) readable ??= start;
    // Without an end it may be a write that another process is at.
    if (line.trim() !== "" && (isLetter || stop >= 0)) lines.push(line);
    start = stop < 0 ? bytes.length : stop + 1;
  }
  const letters = new Map<string, StoredDeadLetter>();
  let superseded = 0;
  for (const letter of keyedLetters(name, lines)) {
    if (letters.delete(letter.key)) superseded++;
    letters.set(letter.key, letter);
  }
  return {
    letters,
    settled: new Set(),
    superseded,
    readable: readable ?? bytes.length,
    size: bytes.length,
    tail: Buffer.from(bytes.subarray(-TAIL)),
  };
}

/**
 * Gives a key to each letter of the Rust crate, made of its place and its text. The next write stores the key, so that it
 * stays the same after other letters are gone.
 */
function keyedLetters(name: string, lines: readonly string[]): StoredDeadLetter[] {
  const letters = lines.map((line) => ({ line, ...parsed(line) }));
  const taken = new Set(letters.map(({ key }) => key));
  return letters.map(({ line, key, letter }, index) => {
    if (key !== undefined) return { key, letter };
    const text = checksumText(crc32(line));
    let place = index + 1;
    while (taken.has(`${cratePrefix(name)}${place}-${text}`)) place++;
    const made = `${cratePrefix(name)}${place}-${text}`;
    taken.add(made);
    return { key: made, letter };
  });
}

/** Whether a key is one that a letter of the Rust crate gets: no log has that letter. */
export function isCrateKey(name: string, key: string): boolean {
  return key.startsWith(cratePrefix(name));
}

function cratePrefix(name: string): string {
  return `${name}/line-`;
}

interface ParsedLetter {
  readonly key: string | undefined;
  readonly letter: StoredDeadLetter["letter"];
  readonly isReadable: boolean;
}

function parsed(line: string): ParsedLetter {
  try {
    const value = JSON.parse(line) as unknown;
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      const { key, ...letter } = value as Record<string, unknown>;
      return { key: typeof key === "string" ? key : undefined, letter, isReadable: true };
    }
  } catch {
    // Kept as text, so that a user can look at it and drop it.
  }
  return { key: undefined, letter: { unreadable: line }, isReadable: false };
}
