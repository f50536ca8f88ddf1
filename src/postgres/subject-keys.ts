import type { SubjectKey, SubjectKeys } from "../event-store/subject-keys.ts";
import { type Database, type Row, statement, type Statement } from "./connection/database.ts";
import { readFailed } from "./failures.ts";
import { fromStored, toStored } from "./stored-text.ts";

/** The keys of personal fields, in a table of their own. */
export class PostgresSubjectKeys implements SubjectKeys {
  readonly #database: Database;
  readonly #add: Statement;
  readonly #ofSubjects: Statement;
  readonly #withIds: Statement;
  readonly #destroy: Statement;
  readonly #count: Statement;

  constructor(database: Database, s: string) {
    this.#database = database;
    this.#add = statement(
      `insert into ${s}.keys (subject, id, key) select * from unnest($1::text[], $2::text[], $3::text[])
      on conflict (subject) do nothing`,
    );
    this.#ofSubjects = statement(`select subject, id, key from ${s}.keys where subject = any($1::text[])`);
    this.#withIds = statement(`select subject, id, key from ${s}.keys where id = any($1::text[])`);
    this.#destroy = statement(`delete from ${s}.keys where id = any($1::text[])`);
    this.#count = statement(`select count(*)::text from ${s}.keys`);
  }

  async obtain(subjects: readonly string[], create: () => SubjectKey): Promise<ReadonlyMap<string, SubjectKey>> {
    const found = await this.#find(subjects);
    const missing = subjects.filter((subject) => !found.has(subject));
    if (missing.length === 0) return found;
    const made = missing.map(create);
    await this.#ask(this.#add, [missing.map(toStored), made.map(({ id }) => id), made.map(({ key }) => textOf(key))]);
    // Another process may have made some of them.
    return this.#find(subjects);
  }

  async find(subject: string): Promise<SubjectKey | undefined> {
    return (await this.#find([subject])).get(subject);
  }

  async #find(subjects: readonly string[]): Promise<ReadonlyMap<string, SubjectKey>> {
    const rows = await this.#ask(this.#ofSubjects, [subjects.map(toStored)]);
    return new Map(
      rows.map(([subject, id, key]) => [fromStored(subject ?? ""), { id: id ?? "", key: bytesOf(key ?? "") }]),
    );
  }

  async withIds(ids: readonly string[]): Promise<ReadonlyMap<string, Uint8Array>> {
    const rows = await this.#ask(this.#withIds, [ids]);
    return new Map(rows.map(([, id, key]) => [id ?? "", bytesOf(key ?? "")]));
  }

  async destroy(ids: readonly string[]): Promise<void> {
    await this.#ask(this.#destroy, [ids]);
  }

  async count(): Promise<number> {
    const [row] = await this.#ask(this.#count, []);
    return Number(row?.[0]);
  }

  async #ask(what: Statement, values: unknown[]): Promise<Row[]> {
    try {
      return await this.#database.read(what, values);
    } catch (error) {
      throw readFailed(error, "the keys of personal fields");
    }
  }
}

/** Hexadecimal. */
function textOf(key: Uint8Array): string {
  return Array.from(key, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}
