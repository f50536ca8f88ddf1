/** A small, strict reader of comma-separated values as in RFC 4180, with LF as well as CRLF between the records. */

/** The file is not what it should be. `line` counts from 1, as an editor does. */
export class CsvError extends Error {
  override readonly name = "CsvError";
  readonly line: number;

  constructor(line: number, problem: string) {
    super(`line ${line}: ${problem}`);
    this.line = line;
  }
}

/** One record. `line` is where it starts; `number` counts records as a spreadsheet does: the header is 1. */
export type CsvRecord = { line: number; number: number; cells: Readonly<Record<string, string>> };

/**
 * Reads a whole file with a header. Columns may come in any order and there may be more than `required`.
 * Throws `CsvError` at the first record that does not fit; a blank line is a record that does not fit, except at the end.
 */
export function parseCsv(text: string, required: readonly string[]): CsvRecord[] {
  const [header, ...records] = split(text.startsWith("\uFEFF") ? text.slice(1) : text);
  if (!header) throw new CsvError(1, "the file is empty");

  const columns = header.cells;
  const twice = columns.find((name, i) => columns.indexOf(name) !== i);
  if (twice !== undefined) throw new CsvError(header.line, `column "${twice}" occurs twice`);
  const missing = required.filter((name) => !columns.includes(name));
  if (missing.length > 0)
    throw new CsvError(header.line, `missing column ${missing.map((name) => `"${name}"`).join(", ")}`);

  return records.map(({ line, cells }, i) => {
    if (cells.length !== columns.length)
      throw new CsvError(line, `cells: ${cells.length}, but columns: ${columns.length}`);
    return { line, number: i + 2, cells: Object.fromEntries(columns.map((name, at) => [name, cells[at]!])) };
  });
}

/** A cell, quoted or bare, and what ends it. */
const CELL = /(?:"([^"]*(?:""[^"]*)*)"|([^",\r\n]*))(,|\r?\n|$)/y;

const UNCLOSED = "a quoted cell does not end, or goes on after its closing quote";
const UNQUOTED = "a quote or a lone carriage return in a cell that is not quoted";

function split(text: string): { line: number; cells: string[] }[] {
  const records: { line: number; cells: string[] }[] = [];
  let line = 1;
  let at = 0;
  while (at < text.length) {
    const cells: string[] = [];
    records.push({ line, cells });
    for (let end = ","; end === ",";) {
      CELL.lastIndex = at;
      const match = CELL.exec(text);
      if (!match) throw new CsvError(line, text[at] === '"' ? UNCLOSED : UNQUOTED);
      cells.push(match[1]?.replaceAll('""', '"') ?? match[2]!);
      at = CELL.lastIndex;
      end = match[3]!;
      line += match[0].split("\n").length - 1;
    }
  }
  return records;
}
