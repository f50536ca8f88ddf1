/** From the rows of an event log to commands on fines. */
import type { CommandOf } from "eventfold-es";
import { CsvError, type CsvRecord, parseCsv } from "./csv.ts";
import { Fine } from "./fine.ts";

type FineCommand = CommandOf<typeof Fine>;

/** One row: what happened to which fine, and when. */
export type Row = {
  /** As a spreadsheet counts: the header is row 1. */
  number: number;
  fine: string;
  activity: string;
  at: number;
  /** Who wrote the fine; other rows do not say. */
  actor?: string;
  /**
   * The fine and how many of its rows came before. The same in every run, and different for two rows with the
   * same content; rows of other fines may be added anywhere, rows of this fine at its end.
   */
  key: string;
  command: FineCommand;
};

const COLUMNS = [
  "amount",
  "article",
  "case:concept:name",
  "concept:name",
  "dismissal",
  "expense",
  "lastSent",
  "lifecycle:transition",
  "notificationType",
  "org:resource",
  "paymentAmount",
  "points",
  "time:timestamp",
  "totalPaymentAmount",
  "vehicleClass",
] as const;

type Column = (typeof COLUMNS)[number];

const ACTIVITIES: Record<string, (row: Cells) => FineCommand> = {
  "Create Fine": (row) =>
    Fine.commands.Create({
      amount: row.cents("amount"),
      article: row.integer("article"),
      vehicleClass: row.text("vehicleClass"),
      points: row.integer("points"),
      dismissal: row.dismissal(),
    }),
  "Send Fine": (row) => Fine.commands.Send({ postage: row.cents("expense") }),
  "Insert Fine Notification": (row) =>
    Fine.commands.Notify({ notificationType: row.optional("notificationType"), lastSent: row.optional("lastSent") }),
  "Add penalty": (row) => Fine.commands.AddPenalty({ amount: row.cents("amount") }),
  Payment: (row) =>
    Fine.commands.Pay({
      amount: row.cents("paymentAmount"),
      total: row.optional("totalPaymentAmount") === null ? null : row.cents("totalPaymentAmount"),
    }),
  "Insert Date Appeal to Prefecture": () => Fine.commands.FileAppeal(),
  "Send Appeal to Prefecture": (row) => Fine.commands.SendAppeal({ dismissal: row.dismissal() }),
  "Receive Result Appeal from Prefecture": () => Fine.commands.ReceiveAppealResult(),
  "Notify Result Appeal to Offender": () => Fine.commands.NotifyAppealResult(),
  "Appeal to Judge": (row) => Fine.commands.AppealToJudge({ dismissal: row.dismissal() }),
  "Send for Credit Collection": () => Fine.commands.SendToCollection(),
};

/**
 * Reads the whole file before anything is booked, so that a file with a bad row changes nothing.
 * Throws `CsvError` with the line of the first row that is not a row of such a log.
 */
export function readRows(text: string): Row[] {
  const rowsOf = new Map<string, number>();
  return parseCsv(text, COLUMNS).map((record) => {
    const cells = new Cells(record);
    const fine = cells.text("case:concept:name");
    const activity = cells.text("concept:name");
    const read = Object.hasOwn(ACTIVITIES, activity) ? ACTIVITIES[activity] : undefined;
    if (!read) throw cells.bad("concept:name", "an activity of a road-traffic fine");
    if (cells.text("lifecycle:transition") !== "complete") throw cells.bad("lifecycle:transition", '"complete"');
    const ordinal = (rowsOf.get(fine) ?? 0) + 1;
    rowsOf.set(fine, ordinal);
    const officer = cells.optional("org:resource");
    return {
      number: record.number,
      fine,
      activity,
      at: cells.time("time:timestamp"),
      ...(officer === null ? {} : { actor: `officer-${officer}` }),
      key: `${fine}#${ordinal}`,
      command: read(cells),
    };
  });
}

/** The rows in the order of their times, as far as that leaves each fine's own rows in theirs. */
export function inOrderOfTime(rows: readonly Row[]): Row[] {
  const latest = new Map<string, number>();
  const placed = rows.map((row) => {
    const time = Math.max(row.at, latest.get(row.fine) ?? 0);
    latest.set(row.fine, time);
    return { row, time };
  });
  return placed.toSorted((a, b) => a.time - b.time).map(({ row }) => row);
}

/** The cells of one row, read as what they must be. */
class Cells {
  readonly #record: CsvRecord;

  constructor(record: CsvRecord) {
    this.#record = record;
  }

  optional(column: Column): string | null {
    return this.#record.cells[column] || null;
  }

  text(column: Column): string {
    return this.optional(column) ?? this.#fail(column, "filled in");
  }

  /** Euros as "71.5" or, where floating point has been at work, "71.499999": to whole cents. */
  cents(column: Column): number {
    const text = this.text(column);
    const cents = Number(text) * 100;
    const whole = Math.round(cents);
    if (!/^\d{1,12}(\.\d+)?$/.test(text) || Math.abs(cents - whole) > 0.01)
      this.#fail(column, "an amount of euros and cents");
    return whole;
  }

  /** Whole numbers are written "157.0" in the log. */
  integer(column: Column): number {
    const text = this.text(column);
    return /^\d{1,9}(\.0+)?$/.test(text) ? Number(text) : this.#fail(column, "a whole number");
  }

  /** A local time with its offset, so that the instant is certain: "2006-07-12 00:00:00+02:00". */
  time(column: Column): number {
    const match = /^(\d{4}-\d{2}-\d{2})[ T](\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?)(Z|[+-]\d{2}:\d{2})$/.exec(
      this.text(column),
    );
    const at = match && isDay(match[1]!) ? Date.parse(`${match[1]}T${match[2]}${match[3]}`) : Number.NaN;
    return Number.isNaN(at) ? this.#fail(column, "a time with its offset, such as 2006-07-12 00:00:00+02:00") : at;
  }

  /** The log writes NIL for "not dismissed". */
  dismissal(): string | null {
    const code = this.optional("dismissal");
    return code === "NIL" ? null : code;
  }

  bad(column: Column, expected: string): CsvError {
    return new CsvError(
      this.#record.line,
      `column "${column}" must be ${expected}, but is "${this.#record.cells[column]}"`,
    );
  }

  #fail(column: Column, expected: string): never {
    throw this.bad(column, expected);
  }
}

/** `Date.parse` takes 31 February for 3 March. */
function isDay(date: string): boolean {
  const midnight = new Date(`${date}T00:00:00Z`);
  return !Number.isNaN(midnight.getTime()) && midnight.toISOString().startsWith(date);
}
