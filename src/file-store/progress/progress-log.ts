import type { ConsumerNote, StoredDeadLetter, StoreProgress } from "../../event-store/event-store.ts";
import { compareCodePoints } from "../../event-store/stream-order.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import type { CommitLog } from "../log/commit-log.ts";
import type { CommitObserver, CommittedRecord } from "../log/committed-record.ts";
import type { LogPlace } from "../log/log-place.ts";
import { pacedRead } from "../log/paced-scan.ts";
import { DeadLetterFiles } from "./dead-letter-files.ts";
import { type NoteSection, readSections } from "../log/record-sections.ts";

interface Consumer {
  sequence: number;
  /** The notes after the sequence that was last asked for. */
  readonly notes: ConsumerNote[];
}

/** Where to read a process manager's notes from: those after `sequence` are after `place`. */
export interface NotesStart {
  readonly place: LogPlace;
  readonly sequence: number;
}

/** Whether all notes after a sequence are at hand. */
function hasNotesAfter({ sequence, notes: [first] }: Consumer, after: number): boolean {
  return first === undefined ? sequence <= after : first.sequence <= after + 1;
}

/** A process manager's dead letters, as far as they are in the log. */
interface Letters {
  /** Not settled, oldest first. */
  readonly open: Map<string, StoredDeadLetter>;
  /** The keys of all that were ever written or settled. */
  readonly known: Set<string>;
  /** Of the last note that is included. */
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
export class ProgressLog implements CommitObserver {
  readonly #files: DeadLetterFiles;
  readonly #log: CommitLog;
  readonly #consumers = new Map<string, Consumer>();
  /** By name, for the managers whose letters were asked for. */
  readonly #letters = new Map<string, Letters>();
  /** By name, where `someNotes` ended. */
  readonly #passed = new Map<string, NotesStart>();

  /** Of all consumers that have notes; unknown after a marker of an earlier version. */
  #names: Set<string> | undefined;

  /** `consumers` are those that have notes before the log's end. */
  constructor(fs: FileSystem, paths: StorePaths, log: CommitLog, consumers: readonly string[] | undefined) {
    this.#files = new DeadLetterFiles(fs, paths);
    this.#log = log;
    this.#names = consumers && new Set(consumers);
  }

  onCommitted({ notes }: CommittedRecord): void {
    for (const section of notes) this.#add(section);
  }

  #add(section: NoteSection): void {
    const { name, sequence, note } = section;
    this.#names?.add(name);
    const letters = this.#letters.get(name);
    if (letters !== undefined) addLetters(letters, section);
    const consumer = this.#consumers.get(name);
    if (consumer === undefined || sequence <= consumer.sequence) return;
    consumer.sequence = sequence;
    consumer.notes.push({ sequence, note });
  }

  /** The consumers that have notes, in the order of their code points. */
  consumers(): readonly string[] {
    if (this.#names === undefined) {
      const names = new Set<string>();
      this.#visit(this.#log.scanner.beginning(), ({ name }) => names.add(name));
      this.#names = names;
    }
    return [...this.#names].sort(compareCodePoints);
  }

  /** The sequence of a process manager's last note; 0 for none. */
  sequence(name: string): number {
    return this.knownSequence(name) ?? this.#read(name, 0, undefined).sequence;
  }

  /** The same, if it is known without reading the log. */
  knownSequence(name: string): number | undefined {
    return this.#consumers.get(name)?.sequence;
  }

  /** The notes after a sequence. Forgets those before them. `start` finds a place to read from, if the log must be read. */
  notes(name: string, after: number, start: () => NotesStart | undefined): readonly ConsumerNote[] {
    const known = this.#consumers.get(name);
    const consumer = known !== undefined && hasNotesAfter(known, after) ? known : this.#read(name, after, start());
    const first = consumer.notes.findIndex(({ sequence }) => sequence > after);
    consumer.notes.splice(0, first < 0 ? consumer.notes.length : first);
    return [...consumer.notes];
  }

  /**
   * The first `limit` notes after a sequence. Keeps nothing of them, for callers who go through all notes of a store, and goes on where
   * the last call for this name ended.
   */
  async someNotes(name: string, after: number, limit: number): Promise<readonly ConsumerNote[]> {
    const { scanner, end } = this.#log;
    const known = this.#passed.get(name);
    const start = known !== undefined && known.sequence <= after ? known.place : scanner.beginning();
    const notes: ConsumerNote[] = [];
    if (scanner.segments().length === 0) return notes;
    await pacedRead(scanner, start, end, (header, buffer, base, segment) => {
      const before = notes.at(-1)?.sequence ?? after;
      readSections(
        buffer,
        header,
        base,
        () => {},
        (section) => {
          if (section.name === name && section.sequence > after && notes.length < limit)
            notes.push({ sequence: section.sequence, note: section.note });
        },
      );
      // This record may have more of them.
      const place = { segment, offset: header.start, position: header.position - 1 };
      this.#passed.set(name, { sequence: before, place });
      return notes.length < limit;
    });
    return notes;
  }

  /** How far the log and all process managers are, also those of which there are only dead letters. */
  async all(): Promise<StoreProgress> {
    const { scanner, end } = this.#log;
    const consumers = new Map<string, number>(this.#files.names().map((name) => [name, 0]));
    if (this.#names?.size !== 0 && scanner.segments().length > 0) {
      await pacedRead(scanner, scanner.beginning(), end, (header, buffer, base) => {
        readSections(
          buffer,
          header,
          base,
          () => {},
          ({ name, sequence }) => void consumers.set(name, sequence),
        );
      });
    }
    return { head: end.position, consumers };
  }

  #read(name: string, after: number, start: NotesStart | undefined): Consumer {
    const { scanner } = this.#log;
    const hint = start !== undefined && start.sequence <= after ? start : undefined;
    const consumer: Consumer = { sequence: hint?.sequence ?? 0, notes: [] };
    if (this.#mayHaveNotes(name) && (hint !== undefined || scanner.segments().length > 0)) {
      this.#visit(hint?.place ?? scanner.beginning(), (section) => {
        if (section.name !== name) return;
        consumer.sequence = section.sequence;
        if (section.sequence > after) consumer.notes.push({ sequence: section.sequence, note: section.note });
      });
    }
    this.#consumers.set(name, consumer);
    return consumer;
  }

  /** False if the log certainly has none. */
  #mayHaveNotes(name: string): boolean {
    return this.#names?.has(name) ?? true;
  }

  #visit(start: LogPlace, visit: (section: NoteSection) => void): void {
    this.#log.scanner.read(start, this.#log.end, (header, buffer, base) => {
      readSections(buffer, header, base, () => {}, visit);
    });
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
    const { open, known } = this.#lettersOf(name);
    const ofFile = [...this.#files.read(name).values()].filter(({ key }) => !known.has(key));
    return [...ofFile, ...open.values()];
  }

  /** One of them, by its key. */
  deadLetter(name: string, key: string): StoredDeadLetter | undefined {
    const { open, known } = this.#lettersOf(name);
    return known.has(key) ? open.get(key) : this.#files.read(name).get(key);
  }

  /** Removes letters that were replayed or dropped from the managers' files, durably. Needs the store's lock. */
  removeSettled(): void {
    for (const name of this.#files.names()) this.#files.keep(name, this.deadLetters(name));
  }

  #lettersOf(name: string): Letters {
    let letters = this.#letters.get(name);
    if (letters === undefined) this.#letters.set(name, (letters = this.#lettersOfLog(name)));
    return letters;
  }

  #lettersOfLog(name: string): Letters {
    const letters: Letters = { open: new Map(), known: new Set(), sequence: 0 };
    if (this.#mayHaveNotes(name))
      this.#visit(this.#log.scanner.beginning(), (section) => {
        if (section.name === name) addLetters(letters, section);
      });
    return letters;
  }
}
