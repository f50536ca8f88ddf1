import type { NoteSection } from "../../file-store/log/record-sections.ts";
import type { LogBytes } from "../findings.ts";

/** A process manager's notes that a gap has swallowed. */
export interface LostNotes {
  readonly name: string;
  /** First and last sequence. */
  readonly from: number;
  readonly to: number;
}

/** Where something stands in the log. */
export type NotePlace = Pick<LogBytes, "segment" | "offset">;

/** A dead letter as the log has it. */
export interface LoggedLetter {
  /** Its line in `dead_letters.jsonl`, without the LF. */
  readonly line: Buffer;
  readonly place: NotePlace;
}

/** Notes that the log does not have, between two places of it. */
export interface MissingNotes {
  readonly notes: LostNotes;
  /** Position of the record with the next note. */
  readonly before: number;
  /** Segments of the notes around them; 0 before the first note. */
  readonly after: number;
  readonly until: number;
}

interface Consumer {
  sequence: number;
  /** Of the last note. */
  segment: number;
  /** By key; `undefined` for one that is settled. */
  readonly letters: Map<string, LoggedLetter | undefined>;
}

const NOTE_LINE = /^\{"manager":"([A-Za-z_][A-Za-z0-9_:-]{0,120})","sequence":(\d{1,16}),"bytes":\d{1,16}\}$/gm;

/** Follows what process managers note through the log. */
export class LogNotes {
  readonly consumers: Map<string, Consumer> = new Map();
  readonly missing: MissingNotes[] = [];

  add(
    { name, sequence, deadLetters = [], settledLetters = [] }: NoteSection,
    position: number,
    place: NotePlace,
  ): void {
    let consumer = this.consumers.get(name);
    if (consumer === undefined) this.consumers.set(name, (consumer = { sequence: 0, segment: 0, letters: new Map() }));
    if (sequence > consumer.sequence + 1) {
      const notes = { name, from: consumer.sequence + 1, to: sequence - 1 };
      this.missing.push({ notes, before: position, after: consumer.segment, until: place.segment });
    }
    consumer.sequence = Math.max(consumer.sequence, sequence);
    consumer.segment = place.segment;
    for (const key of settledLetters) consumer.letters.set(key, undefined);
    for (const { key, letter } of deadLetters)
      consumer.letters.set(key, { line: Buffer.from(JSON.stringify({ ...letter, key })), place });
  }

  /** Process managers' notes that come next by their numbers, and of which damaged bytes still tell: the last one of each. */
  remnants(bytes: Buffer): Map<string, number> {
    const found = new Map<string, number>();
    for (const [, name = "", digits] of bytes.toString("latin1").matchAll(NOTE_LINE)) {
      const sequence = Number(digits);
      if (sequence === (found.get(name) ?? this.#sequence(name)) + 1) found.set(name, sequence);
    }
    return found;
  }

  /** The notes up to a sequence that a checkpoint includes, as far as the log lacks them. */
  lackedUpTo(name: string, sequence: number): LostNotes | undefined {
    const from = this.#sequence(name) + 1;
    return sequence < from ? undefined : { name, from, to: sequence };
  }

  #sequence(name: string): number {
    return this.consumers.get(name)?.sequence ?? 0;
  }
}
