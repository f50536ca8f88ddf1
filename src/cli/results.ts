import type { RecordedEvent } from "eventfold-es";
import { type Column, type Format, plain, type Terminal } from "./terminal.ts";

/** Writes a list: a table, one JSON array, or one JSON object a line. */
export async function writeList<T>(
  terminal: Terminal,
  format: Format,
  rows: readonly T[],
  columns: readonly Column<T>[],
  none: string,
): Promise<void> {
  if (format === "text") return terminal.table(rows, columns, none);
  await writeEach(terminal, format, rows, async () => {});
}

/** Writes rows as they come: `text` writes one as text. In constant memory. */
export async function writeEach<T>(
  terminal: Terminal,
  format: Format,
  rows: AsyncIterable<T> | Iterable<T>,
  text: (row: T) => Promise<void>,
): Promise<number> {
  let count = 0;
  if (format === "json") await terminal.line("[");
  let before: string | undefined;
  for await (const row of rows) {
    if (terminal.isGone) break;
    count++;
    if (format === "text") await text(row);
    else if (format === "jsonl") await terminal.line(JSON.stringify(row));
    else {
      if (before !== undefined) await terminal.line(`${before},`);
      before = `  ${JSON.stringify(row)}`;
    }
  }
  if (before !== undefined) await terminal.line(before);
  if (format === "json") await terminal.line("]");
  return count;
}

export async function writeDocument(terminal: Terminal, format: Format, document: unknown): Promise<void> {
  await terminal.line(format === "jsonl" ? JSON.stringify(document) : JSON.stringify(document, undefined, 2));
}

/** One event in one line, cut at the terminal's edge. */
export async function writeEvent(terminal: Terminal, event: RecordedEvent): Promise<void> {
  const { position, timestamp, aggregate, id, version, type, data, actor } = event;
  const { bold, cyan, dim } = terminal.colours;
  const place = String(position).padStart(7);
  const time = timeText(timestamp);
  const stream = plain(`${aggregate}/${id}`);
  const left = `${place}  ${time}  ${stream} ${version}  ${plain(type)}`;
  const right = `${data === undefined ? "" : plain(JSON.stringify(data))}${actor === undefined ? "" : `  by ${plain(actor)}`}`;
  const room = Math.max(0, terminal.width - left.length - 2);
  const cut = right.length > room ? `${right.slice(0, Math.max(0, room - 1))}…` : right;
  const line = `${dim(place)}  ${dim(time)}  ${cyan(stream)} ${dim(String(version))}  ${bold(plain(type))}  ${cut}`;
  await terminal.line(left.length > terminal.width ? `${left.slice(0, terminal.width - 1)}…` : line.trimEnd());
}

export function timeText(milliseconds: number): string {
  const date = new Date(milliseconds);
  return Number.isNaN(date.getTime()) ? String(milliseconds) : date.toISOString();
}

const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB"];

export function sizeText(bytes: number): string {
  const power = bytes < 1024 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** power;
  return `${power === 0 ? value : value.toFixed(1)} ${UNITS[power] ?? ""}`;
}
