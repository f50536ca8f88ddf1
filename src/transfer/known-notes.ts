import { EventfoldError } from "../errors.ts";
import type { ConsumerNote, EventStore } from "../event-store/event-store.ts";

const BATCH = 500;

/** The notes that a store had before an import. */
export class KnownNotes {
  readonly #store: EventStore;
  #last: Promise<ReadonlyMap<string, number>> | undefined;
  #name: string | undefined;
  #notes: ConsumerNote[] = [];
  /** How many notes it did not have. */
  written = 0;

  constructor(store: EventStore) {
    this.#store = store;
  }

  /** Whether the store had a note. Throws `IMPORT_CONFLICT` if it had another one in its place. */
  async has(name: string, sequence: number, note: unknown): Promise<boolean> {
    this.#last ??= this.#store.progress().then(({ consumers }) => consumers);
    if (sequence > ((await this.#last).get(name) ?? 0)) {
      this.written++;
      return false;
    }
    const known = await this.#note(name, sequence);
    if (JSON.stringify(known?.note) === JSON.stringify(note)) return true;
    throw new EventfoldError(
      "IMPORT_CONFLICT",
      `the process manager ${name} has done something else in this store than in the export (note ${sequence}); import to an empty storage, opened without process managers`,
    );
  }

  async #note(name: string, sequence: number): Promise<ConsumerNote | undefined> {
    if (this.#name !== name) [this.#name, this.#notes] = [name, []];
    const [first] = this.#notes;
    const last = this.#notes.at(-1);
    if (first === undefined || last === undefined || sequence < first.sequence || sequence > last.sequence)
      this.#notes = [...(await this.#store.consumerNotes(name, sequence - 1, BATCH))];
    return this.#notes.find((note) => note.sequence === sequence);
  }
}
