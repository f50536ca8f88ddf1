import type { ConsumerNote, StoredDeadLetter } from "../../event-store/event-store.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import type { CommitLog } from "../log/commit-log.ts";
import type { LogPlace } from "../log/log-place.ts";
import { DeadLetterFiles } from "./dead-letter-files.ts";
import { type NoteSection, readSections } from "../log/record-sections.ts";

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
  readonly #files: DeadLetterFiles;
  readonly #log: CommitLog;
  readonly #consumers = new Map<string, Consumer>();
  /** Of those whose letters somebody has asked for. */
  readonly #letters = new Map<string, Letters>();

  constructor(fs: FileSystem, paths: StorePaths, log: CommitLog) {
    this.#files = new DeadLetterFiles(fs, paths);
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

  /** Brings the managers' `dead_letters.jsonl` up to date with committed notes. Doing it twice changes nothing. */
  apply(notes: readonly NoteSection[]): void {
    this.#files.apply(notes);
  }

  /**
   * The letters that are neither replayed nor dropped, oldest first. Letters that only the file has come first: the Rust crate wrote
   * them. For all others the log counts, whatever their file says.
   */
  deadLetters(name: string): readonly StoredDeadLetter[] {
    let letters = this.#letters.get(name);
    if (letters === undefined) {
      letters = this.#lettersOfLog(name);
      this.#letters.set(name, letters);
    }
    const { open, known } = letters;
    return [...this.#files.read(name).filter(({ key }) => !known.has(key)), ...open.values()];
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
}
