import { crc32 } from "node:zlib";
import { EventfoldError } from "../../errors.ts";
import type { StoredDeadLetter } from "../../event-store/event-store.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import { checksumText } from "../disk/checksum.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import { isPlainName } from "../../event-store/stream-names.ts";
import { readWhole, replaceFileNow } from "../disk/whole-file.ts";
import type { NoteSection } from "../log/record-sections.ts";

/** `process_managers/<name>/dead_letters.jsonl`: the log's dead letters, and those that the Rust crate wrote. */
export class DeadLetterFiles {
  readonly #fs: FileSystem;
  readonly #paths: StorePaths;

  constructor(fs: FileSystem, paths: StorePaths) {
    this.#fs = fs;
    this.#paths = paths;
  }

  /** The letters of a manager's file, oldest first. */
  read(name: string): StoredDeadLetter[] {
    const text = readWhole(this.#fs, this.#path(name))?.toString("utf8") ?? "";
    return keyedLetters(
      name,
      text.split("\n").filter((line) => line.trim() !== ""),
    );
  }

  /** Brings the files up to date with committed notes. Doing it twice changes nothing. */
  apply(notes: readonly NoteSection[]): void {
    for (const { name, deadLetters = [], settledLetters = [] } of notes) {
      if (deadLetters.length === 0 && settledLetters.length === 0) continue;
      const path = this.#path(name);
      const replaced = new Set([...settledLetters, ...deadLetters.map(({ key }) => key)]);
      const kept = this.read(name).filter(({ key }) => !replaced.has(key));
      const letters = [...kept, ...deadLetters].map(({ key, letter }) => `${JSON.stringify({ ...letter, key })}\n`);
      this.#fs.makeDirectory(path.slice(0, path.lastIndexOf("/")));
      replaceFileNow(this.#fs, path, letters.join(""));
    }
  }

  #path(name: string): string {
    // The name may come from the log, so it may be anything.
    if (isPlainName(name) !== "safe")
      throw new EventfoldError("INVALID_DEFINITION", `${JSON.stringify(name)} cannot be a process manager's name`);
    return `${this.#paths.base}/process_managers/${name}/dead_letters.jsonl`;
  }
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
    while (taken.has(`${name}/line-${place}-${text}`)) place++;
    const made = `${name}/line-${place}-${text}`;
    taken.add(made);
    return { key: made, letter };
  });
}

function parsed(line: string): { readonly key: string | undefined; readonly letter: StoredDeadLetter["letter"] } {
  try {
    const value = JSON.parse(line) as unknown;
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      const { key, ...letter } = value as Record<string, unknown>;
      return { key: typeof key === "string" ? key : undefined, letter };
    }
  } catch {
    // Kept as text, so that a user can look at it and drop it.
  }
  return { key: undefined, letter: { unreadable: line } };
}
