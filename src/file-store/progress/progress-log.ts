import { crc32 } from "node:zlib";
import { checksumText } from "../disk/checksum.ts";
import type { ConsumerNote, StoredDeadLetter } from "../../event-store/event-store.ts";
import { EventfoldError } from "../../errors.ts";
import { isPlainName } from "../../event-store/stream-names.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import type { CommitLog } from "../log/commit-log.ts";
import type { LogPlace } from "../log/log-place.ts";
import { type NoteSection, readSections } from "../log/record-sections.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import { readWhole, replaceFileNow } from "../disk/whole-file.ts";

interface Consumer {
  sequence: number;
  /** The notes behind the first one that somebody asked for. */
  readonly notes: ConsumerNote[];
}

/** A process manager's dead letters, as far as they are in the log. */
interface Letters {
  /** Not settled, oldest first. */
  readonly open: Map<string, StoredDeadLetter>;
  /** The keys of all that were ever written or settled. */
  readonly known: Set<string>;
  /** Of the last section that was taken in. */
  sequence: number;
}

function addLetters(letters: Letters, { sequence, deadLetters = [], settledLetters = [] }: NoteSection): void {
  if (sequence <= letters.sequence) return;
  letters.sequence = sequence;
  for (const key of settledLetters) {
    letters.open.delete(key);
    letters.known.add(key);
  }
  for (const letter of deadLetters) {
    letters.open.set(letter.key, letter);
    letters.known.add(letter.key);
  }
}

/** What process managers have noted in the log, and their dead letters. */
export class ProgressLog {
  readonly #fs: FileSystem;
  readonly #paths: StorePaths;
  readonly #log: CommitLog;
  readonly #consumers = new Map<string, Consumer>();
  /** Of those whose letters somebody has asked for. */
  readonly #letters = new Map<string, Letters>();

  constructor(fs: FileSystem, paths: StorePaths, log: CommitLog) {
    this.#fs = fs;
    this.#paths = paths;
    this.#log = log;
  }

  /** Takes note of a section that was committed, by whomever. */
  add(section: NoteSection): void {
    const { name, sequence, note } = section;
    const letters = this.#letters.get(name);
    if (letters !== undefined) addLetters(letters, section);
    const consumer = this.#consumers.get(name);
    if (consumer === undefined || sequence <= consumer.sequence) return;
    consumer.sequence = sequence;
    consumer.notes.push({ sequence, note });
  }

  /** The sequence of a consumer's last note; 0 for none. */
  sequence(name: string): number {
    return this.#load(name, 0, undefined).sequence;
  }

  /** The notes behind a sequence; `from` is a place before the first of them. What came before is forgotten here. */
  notes(name: string, after: number, from: LogPlace | undefined): readonly ConsumerNote[] {
    const consumer = this.#load(name, after, from);
    const keep = consumer.notes.findIndex(({ sequence }) => sequence > after);
    consumer.notes.splice(0, keep < 0 ? consumer.notes.length : keep);
    return [...consumer.notes];
  }

  #load(name: string, after: number, from: LogPlace | undefined): Consumer {
    const known = this.#consumers.get(name);
    if (
      known !== undefined &&
      (known.notes[0] === undefined ? known.sequence <= after : known.notes[0].sequence <= after + 1)
    )
      return known;
    const [first] = this.#log.scanner.segments();
    const start = from ?? (first === undefined ? undefined : { segment: first, offset: 0, position: first - 1 });
    const consumer: Consumer = { sequence: from === undefined ? 0 : after, notes: [] };
    if (start !== undefined) {
      this.#log.scanner.read(start, this.#log.end, (header, buffer, base) => {
        readSections(
          buffer,
          header,
          base,
          () => {},
          (section) => {
            if (section.name !== name) return;
            consumer.sequence = section.sequence;
            if (section.sequence > after) consumer.notes.push({ sequence: section.sequence, note: section.note });
          },
        );
      });
    }
    this.#consumers.set(name, consumer);
    return consumer;
  }

  /** Carries dead letters over to `dead_letters.jsonl`. Doing it again changes nothing. */
  apply(sections: readonly NoteSection[]): void {
    for (const { name, deadLetters = [], settledLetters = [] } of sections) {
      if (deadLetters.length === 0 && settledLetters.length === 0) continue;
      const path = this.#path(name);
      const settled = new Set([...settledLetters, ...deadLetters.map(({ key }) => key)]);
      const kept = keyedLetters(name, this.#lines(name)).filter(({ key }) => !settled.has(key));
      const letters = [...kept, ...deadLetters].map(({ key, letter }) => `${JSON.stringify({ ...letter, key })}\n`);
      this.#fs.makeDirectory(path.slice(0, path.lastIndexOf("/")));
      replaceFileNow(this.#fs, path, letters.join(""));
    }
  }

  /**
   * The letters that are not settled: those of the log, whatever has become of their file, and behind them in age those that only the file
   * has, because the original wrote them.
   */
  deadLetters(name: string): readonly StoredDeadLetter[] {
    let letters = this.#letters.get(name);
    if (letters === undefined) {
      letters = this.#lettersOfLog(name);
      this.#letters.set(name, letters);
    }
    const { open, known } = letters;
    return [...keyedLetters(name, this.#lines(name)).filter(({ key }) => !known.has(key)), ...open.values()];
  }

  #lettersOfLog(name: string): Letters {
    const letters: Letters = { open: new Map(), known: new Set(), sequence: 0 };
    const visit = (section: NoteSection): void => {
      if (section.name === name) addLetters(letters, section);
    };
    this.#log.scanner.read(this.#log.scanner.beginning(), this.#log.end, (header, buffer, base) => {
      readSections(buffer, header, base, () => {}, visit);
    });
    return letters;
  }

  #lines(name: string): string[] {
    return (readWhole(this.#fs, this.#path(name))?.toString("utf8") ?? "")
      .split("\n")
      .filter((line) => line.trim() !== "");
  }

  #path(name: string): string {
    // Names come from definitions, but also from the log.
    if (isPlainName(name) !== "safe")
      throw new EventfoldError("INVALID_DEFINITION", `${JSON.stringify(name)} cannot be a process manager's name`);
    return `${this.#paths.base}/process_managers/${name}/dead_letters.jsonl`;
  }
}

/**
 * The letters of a file. One that the original wrote has no key: it gets one by its place and its text, and keeps it from the next time
 * on that the file is written, when others may have gone.
 */
function keyedLetters(name: string, lines: readonly string[]): StoredDeadLetter[] {
  const letters = lines.map(parsed);
  const taken = new Set(letters.map(({ key }) => key));
  return letters.map(({ key, letter }, index) => {
    if (key !== undefined) return { key, letter };
    const text = checksumText(crc32(lines[index] ?? ""));
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
    // Kept as it is, so that it can be looked at and dropped.
  }
  return { key: undefined, letter: { unreadable: line } };
}
