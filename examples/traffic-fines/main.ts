/** The command line: books the rows of an event log and prints what the fines come to. */
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual, parseArgs } from "node:util";
import { AggregateStore, type EventStorage } from "eventfold-es";
import { storageOf } from "../storage.ts";
import { CsvError } from "./csv.ts";
import { Fine } from "./fine.ts";
import { Office } from "./office.ts";
import { explain, formatReport, readBooks, type Tally } from "./report.ts";
import { inOrderOfTime, readRows, type Row } from "./rows.ts";
import { Statistics } from "./statistics.ts";

export const SAMPLE = fileURLToPath(new URL("sample.csv", import.meta.url));
const DEFAULT_DIRECTORY = "data/traffic-fines";
const DAY = 24 * 60 * 60 * 1000;
/** The office looks what is due once a day, at eight in the morning (UTC). */
const OFFICE_OPENS = 8 * 60 * 60 * 1000;

export type ImportOptions = {
  /** Leaves each fine to the office when the file has nothing more to say on it, and lets the office work meanwhile. */
  readonly office?: boolean;
};

/**
 * Books every row of `file` in the store that `storage` holds; resolves to the report. Rows that an earlier run has booked are
 * recognised by their key, so a run that was interrupted, or a file that has grown, is simply run again.
 * Throws `CsvError`, before anything is booked, if the file is not such a log.
 */
export async function importFines(
  file: string,
  storage: string | EventStorage,
  { office = false }: ImportOptions = {},
): Promise<{ report: string; tally: Tally }> {
  const rows = readRows(await readFile(file, "utf8"));
  const run = crypto.randomUUID();
  let now = 0;
  const builder = AggregateStore.builder(storage)
    .aggregate(Fine)
    .projection(Statistics)
    .clock(() => now);
  await using store = await (office ? builder.processManager(Office).processManagerMode("manual") : builder).open();

  const tally: Tally = { rows: rows.length, accepted: 0, known: 0, rejected: [] };
  async function book(row: Row): Promise<void> {
    now = row.at; // one row after the other: each is decided, and recorded, at its own time
    const refuse = (reason: string) =>
      tally.rejected.push({ row: row.number, fine: row.fine, activity: row.activity, reason });
    const fine = store.get(Fine, row.fine);
    const context = { correlationId: run, ...(row.actor === undefined ? {} : { actor: row.actor }) };

    const outcome = await fine.try(row.command, { ...context, idempotencyKey: row.key });
    if (!outcome.ok) {
      const reason = explain(outcome.rejection);
      refuse(reason);
      if (outcome.rejection.type === "RefusedBefore") return;
      const refusal = Fine.commands.RefuseEntry({ key: row.key, activity: row.activity, reason });
      await fine.execute(refusal, { ...context, idempotencyKey: `${row.key} refused` });
      return;
    }
    // For a key it has seen before, the store answers with the events of that time; they carry the id of that run.
    const event = outcome.events[0]!;
    if (event.correlationId === run) tally.accepted += 1;
    else if (isBookingOf(row, event)) tally.known += 1;
    else refuse("this row was changed after it was booked; the books keep what it said then");
  }

  if (office) {
    const lastRows = new Set(new Map(rows.map((row) => [row.fine, row])).values());
    let morning: number | undefined;
    for (const row of inOrderOfTime(rows)) {
      morning ??= morningAfter(row.at);
      for (; morning < row.at; morning += DAY) {
        now = morning;
        await store.runProcessManagers();
      }
      await book(row);
      if (lastRows.has(row)) await store.get(Fine, row.fine).execute(Fine.commands.HandOver());
    }
  } else for (const row of rows) await book(row);
  tally.rejected.sort((a, b) => a.row - b.row);
  return { report: formatReport(await readBooks(store), await store.projection(Statistics), tally), tally };
}

function morningAfter(time: number): number {
  return Math.ceil((time - OFFICE_OPENS) / DAY) * DAY + OFFICE_OPENS;
}

/** Whether the event says what the row says now: an edited row must not pass for the one that was booked. */
function isBookingOf(row: Row, event: { timestamp: number; data?: unknown }): boolean {
  return event.timestamp === row.at && isDeepStrictEqual(event.data, row.command.data);
}

async function main(args: string[]): Promise<void> {
  const parsed = parse(args);
  if (parsed === undefined || parsed.positionals.length > 2) {
    console.error("usage: main.ts [--office] [file.csv [store-dir]]");
    process.exitCode = 2;
    return;
  }
  const [file = SAMPLE, directory = DEFAULT_DIRECTORY] = parsed.positionals;
  await using books = await storageOf(directory);
  try {
    const { report, tally } = await importFines(file, books.storage, parsed.values);
    console.log(report);
    console.log(
      `\nThis run: ${tally.accepted} booked, ${tally.known} known from an earlier run, ${tally.rejected.length} rejected.`,
    );
    console.log(`The books are in ${books.place}`);
  } catch (error) {
    const { message, path } = error as NodeJS.ErrnoException;
    if (!(error instanceof CsvError) && path !== file) throw error;
    console.error(error instanceof CsvError ? `${file}, ${message}` : message);
    process.exitCode = 1;
  }
}

function parse(args: string[]) {
  try {
    return parseArgs({ args, allowPositionals: true, options: { office: { type: "boolean", default: false } } });
  } catch {
    return undefined;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(process.argv.slice(2));
