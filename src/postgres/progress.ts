import type { ConsumerNote, StoredDeadLetter, StoreProgress } from "../event-store/event-store.ts";
import { type Database, statement, type Statement } from "./connection/database.ts";
import { fromStored, toStored } from "./stored-text.ts";

/** Reads what process managers noted in their commits, and their dead letters. */
export class Progress {
  readonly #database: Database;
  readonly #notes: Statement;
  readonly #some: Statement;
  /** In one statement, so that all of it is of one moment. The store itself has no name. */
  readonly #all: Statement;
  readonly #letters: Statement;
  readonly #consumers: Statement;
  readonly #letter: Statement;

  constructor(database: Database, s: string) {
    this.#database = database;
    this.#notes = statement(
      `select sequence, note from ${s}.notes where consumer = $1 and sequence > $2::bigint order by sequence`,
    );
    // Goes from name to name through the index, whatever the number of notes.
    this.#consumers = statement(`
with recursive found as (
  (select consumer from ${s}.notes order by consumer limit 1)
  union all
  select (select n.consumer from ${s}.notes n where n.consumer > found.consumer order by n.consumer limit 1)
  from found where found.consumer is not null
)
select consumer from found where consumer is not null`);
    this.#some = statement(
      `select sequence, note from ${s}.notes where consumer = $1 and sequence > $2::bigint order by sequence limit $3::bigint`,
    );
    this.#all = statement(
      `select '' as consumer, coalesce(max(position), 0) as number from ${s}.events
      union all select consumer, max(sequence) from ${s}.notes group by consumer
      union all select distinct consumer, 0 from ${s}.letters l
        where not exists (select from ${s}.notes n where n.consumer = l.consumer)`,
    );
    this.#letters = statement(`select key, letter from ${s}.letters where consumer = $1 order by ordinal`);
    this.#letter = statement(`select key, letter from ${s}.letters where consumer = $1 and key = $2`);
  }

  async consumers(): Promise<string[]> {
    const rows = await this.#database.read(this.#consumers);
    return rows.map(([name]) => name ?? "");
  }

  async all(): Promise<StoreProgress> {
    const rows = await this.#database.read(this.#all);
    const numbers = new Map(rows.map(([name, number]) => [name ?? "", Number(number)]));
    const head = numbers.get("") ?? 0;
    numbers.delete("");
    return { head, consumers: numbers };
  }

  async notes(name: string, after: number, limit?: number): Promise<ConsumerNote[]> {
    const rows = await (limit === undefined
      ? this.#database.read(this.#notes, [name, after])
      : this.#database.read(this.#some, [name, after, limit]));
    return rows.map(([sequence, note]) => ({
      sequence: Number(sequence),
      note: JSON.parse(note ?? "null") as unknown,
    }));
  }

  async letters(name: string): Promise<StoredDeadLetter[]> {
    const rows = await this.#database.read(this.#letters, [name]);
    return rows.map(letterOf);
  }

  async letter(name: string, key: string): Promise<StoredDeadLetter | undefined> {
    const [row] = await this.#database.read(this.#letter, [name, toStored(key)]);
    return row && letterOf(row);
  }
}

function letterOf([key, letter]: readonly (string | null)[]): StoredDeadLetter {
  return {
    key: fromStored(key ?? ""),
    letter: JSON.parse(letter ?? "{}") as StoredDeadLetter["letter"],
  };
}
