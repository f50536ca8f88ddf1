import type { EventTypes, ReadAllOptions, StoredEvent, StreamName } from "../../event-store/event-store.ts";
import { type Database, type Row, type Statement, statement } from "../connection/database.ts";
import { fromStored, toStored } from "../stored-text.ts";
import { COLUMNS_AFTER, EVENT_COLUMNS, sizeOf, StoredRow } from "./stored-row.ts";

/** Rows of the first query of a reading; the next ones follow from the rows' size. */
const FIRST_ROWS = 256;
const MOST_ROWS = 4096;
/** Aim of one query, in characters. */
const QUERY_SIZE = 1 << 20;
/** Positions of one query that leaves out what is not wanted. */
const SPARSE_POSITIONS = 20_000;

/** Reads events. Positions have no holes, so a range of them needs no limit. The rows of dropped events are left out. */
export class EventReader {
  readonly #database: Database;
  readonly #head: Statement;
  readonly #dropped: Statement;
  readonly #stream: Statement;
  readonly #all: Statement;
  readonly #wanted: Statement;
  readonly #undeclared: Statement;
  readonly #withDropped: Statement;

  constructor(database: Database, s: string) {
    this.#database = database;
    this.#head = statement(`select coalesce(max(position), 0) from ${s}.events`);
    this.#dropped = statement(
      `select e.dropped_at is not null and e.dropped_at <= $2::bigint from ${s}.events e where e.position = $1`,
    );
    this.#stream = statement(
      `select ${EVENT_COLUMNS}, (select l.version from ${s}.events l where l.aggregate = $1 and l.id = $2 order by l.version desc limit 1)
      from ${s}.events e where e.aggregate = $1 and e.id = $2 and e.version <= $4::bigint
        and e.version >= greatest($3::bigint, coalesce((
          select c.version from ${s}.events c where c.aggregate = $1 and c.id = $2 and c.cut is not null order by c.version desc limit 1), 0))
      order by e.version limit $5::bigint`,
    );
    const range = `select ${EVENT_COLUMNS}, e.aggregate, e.id from ${s}.events e where e.position between $1::bigint and $2::bigint`;
    this.#withDropped = statement(`${range} order by e.position`);
    // The type of a deleted event is empty. That of a compaction's first event is for its stream alone.
    const all = `${range} and (e.dropped_at is null or (e.dropped_at > $3::bigint and e.type <> ''))
      and (e.compacted_at is null or (e.compacted_at <= $3::bigint and e.cut is null))`;
    this.#all = statement(`${all} order by e.position`);
    this.#undeclared = statement(
      `${all} and e.aggregate = any($4::text[]) and e.aggregate || '/' || e.type <> all($5::text[]) order by e.position`,
    );
    this.#wanted = statement(`${all} and e.aggregate || '/' || e.type = any($4::text[]) order by e.position`);
  }

  async head(): Promise<number> {
    const [row] = await this.#database.read(this.#head);
    return Number(row?.[0]);
  }

  async isDropped(position: number, horizon: number = Number.MAX_SAFE_INTEGER): Promise<boolean> {
    const [row] = await this.#database.read(this.#dropped, [position, horizon]);
    return row?.[0] === "t";
  }

  /** A stream's events from a version on, up to the last one at the time of the first query. */
  async *stream(stream: StreamName, from: number): AsyncGenerator<readonly StoredEvent[], void, undefined> {
    const { type, id } = stream;
    let last = Number.MAX_SAFE_INTEGER;
    const query = (first: number, count: number): Promise<Row[]> =>
      this.#database.read(this.#stream, [type, toStored(id), first, last, count]);
    let rows = await query(from, FIRST_ROWS);
    // Every row has it, as of the same moment as the rows.
    last = Number(rows[0]?.[COLUMNS_AFTER] ?? 0);
    while (rows.length > 0) {
      const events = rows.map((row) => new StoredRow(stream, row));
      // A cut that was committed meanwhile may leave out versions.
      const next = (events.at(-1)?.version ?? last) + 1;
      const following = next > last ? undefined : query(next, rowsAfter(rows, MOST_ROWS));
      // Its failure is met below, or by no one if the reader leaves.
      following?.catch(() => {});
      yield events;
      rows = following === undefined ? [] : await following;
    }
  }

  /** All events between two positions, up to the head at the time of the call; without those that are not wanted. */
  async *all({
    from = 1,
    to,
    wanted,
    undeclared,
    dropped,
    horizon,
  }: ReadAllOptions): AsyncGenerator<readonly StoredEvent[], void, undefined> {
    const last = await this.head();
    const head = Math.min(last, to ?? Infinity);
    const types = wanted === undefined ? undefined : fullTypes(wanted);
    const query = (first: number, count: number): Promise<Row[]> => {
      const range = [first, Math.min(first + count - 1, head)];
      if (dropped === true) return this.#database.read(this.#withDropped, range);
      const seen = [...range, horizon ?? last];
      if (undeclared !== undefined)
        return this.#database.read(this.#undeclared, [...seen, [...undeclared.keys()], fullTypes(undeclared)]);
      return types === undefined
        ? this.#database.read(this.#all, seen)
        : this.#database.read(this.#wanted, [...seen, types]);
    };
    let count = FIRST_ROWS;
    let rows = from > head ? undefined : query(from, count);
    const streams = new StreamNames();
    for (let next = from; rows !== undefined;) {
      const found = await rows;
      next += count;
      count = rowsAfter(found, types === undefined && undeclared === undefined ? MOST_ROWS : SPARSE_POSITIONS);
      rows = next > head ? undefined : query(next, count);
      rows?.catch(() => {});
      yield found.map((row) => new StoredRow(streams.of(row), row));
    }
  }
}

function fullTypes(events: EventTypes): string[] {
  return [...events].flatMap(([aggregate, names]) => [...names].map((name) => `${aggregate}/${toStored(name)}`));
}

/** How many rows to ask for next, by the size of the last ones. */
function rowsAfter(rows: readonly Row[], most: number): number {
  let size = 0;
  for (const row of rows) size += sizeOf(row);
  const fitting = rows.length === 0 ? most : Math.floor((rows.length * QUERY_SIZE) / size);
  return Math.max(Math.min(fitting, 8 * Math.max(rows.length, FIRST_ROWS), most), 16);
}

/** One object for each stream that a reading meets, as far as it has room. */
class StreamNames {
  readonly #names = new Map<string, StreamName>();

  of(row: Row): StreamName {
    const type = row[COLUMNS_AFTER] ?? "";
    const id = row[COLUMNS_AFTER + 1] ?? "";
    const key = `${type}/${id}`;
    let name = this.#names.get(key);
    if (name === undefined) {
      if (this.#names.size >= 10_000) this.#names.clear();
      this.#names.set(key, (name = { type, id: fromStored(id) }));
    }
    return name;
  }
}
