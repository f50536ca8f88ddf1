import type { ConsumerNote, StoredDeadLetter } from "../event-store/event-store.ts";
import { EventfoldError } from "../errors.ts";
import { isPlainName } from "./stream-directory.ts";
import type { FileSystem } from "../fs/file-system.ts";
import { type CommitLog, type LogPlace, logCorruption } from "./commit-log.ts";
import { type ConsumerSection, readSections } from "./commit-record.ts";
import { type Layout, readWhole, replaceFileNow } from "./layout.ts";

interface Consumer {
  sequence: number;
  /** The notes behind the first one that somebody asked for. */
  readonly notes: ConsumerNote[];
}

/** What process managers have noted in the log, and their dead letters. */
export class Consumers {
  readonly #fs: FileSystem;
  readonly #layout: Layout;
  readonly #log: CommitLog;
  readonly #consumers = new Map<string, Consumer>();

  constructor(fs: FileSystem, layout: Layout, log: CommitLog) {
    this.#fs = fs;
    this.#layout = layout;
    this.#log = log;
  }

  /** Takes note of a section that was committed, by whomever. */
  add({ name, sequence, note }: ConsumerSection): void {
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
    const [first] = this.#log.segments();
    const start = from ?? (first === undefined ? undefined : { segment: first, offset: 0, position: first - 1 });
    const consumer: Consumer = { sequence: from === undefined ? 0 : after, notes: [] };
    if (start !== undefined) {
      const result = this.#log.scan(start, this.#log.end, (header, buffer, base) => {
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
      if (result.invalid !== undefined)
        throw logCorruption(this.#log.segmentPath(result.end.segment), result.end, result.invalid);
    }
    this.#consumers.set(name, consumer);
    return consumer;
  }

  /** Carries dead letters over to `dead_letters.jsonl`. Doing it again changes nothing. */
  apply(sections: readonly ConsumerSection[]): void {
    for (const { name, deadLetters = [], droppedLetters = [] } of sections) {
      if (deadLetters.length === 0 && droppedLetters.length === 0) continue;
      const path = this.#path(name);
      const settled = new Set([...droppedLetters, ...deadLetters.map(({ key }) => key)]);
      const kept = this.#lines(name).filter((line, index) => !settled.has(keyOf(name, line, index)));
      const added = deadLetters.map(({ key, letter }) => JSON.stringify({ ...letter, key }));
      this.#fs.makeDirectory(path.slice(0, path.lastIndexOf("/")));
      replaceFileNow(this.#fs, path, [...kept, ...added].map((line) => `${line}\n`).join(""));
    }
  }

  deadLetters(name: string): readonly StoredDeadLetter[] {
    return this.#lines(name).flatMap((line, index) => {
      try {
        const { key: _, ...letter } = JSON.parse(line) as Record<string, unknown>;
        return [{ key: keyOf(name, line, index), letter }];
      } catch {
        return [{ key: keyOf(name, line, index), letter: { unreadable: line } }];
      }
    });
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
    return `${this.#layout.base}/process_managers/${name}/dead_letters.jsonl`;
  }
}

/** A letter of the original has no key: its place in the file serves, which does not change while only later ones go. */
function keyOf(name: string, line: string, index: number): string {
  try {
    const { key } = JSON.parse(line) as { readonly key?: unknown };
    if (typeof key === "string") return key;
  } catch {
    // Falls back to the place.
  }
  return `${name}/line-${index + 1}`;
}
