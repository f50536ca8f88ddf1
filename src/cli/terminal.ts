import Table from "cli-table3";
import { once } from "node:events";
import picocolors from "picocolors";

/** Characters that are collected before they are written. */
const CHUNK = 1 << 16;
/** Invisible characters, and those that control a terminal or change the direction of text. */
const CONTROLS = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;
const NARROWEST_COLUMN = 8;

export interface Host {
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
  readonly env: NodeJS.ProcessEnv;
}

/** How results are written. */
export type Format = "text" | "json" | "jsonl";

export interface Column<T> {
  readonly title: string;
  readonly value: (row: T) => string | number | undefined;
  readonly align?: "right";
}

/**
 * Writes results to the standard output, and everything else to the error output. Colours appear only on a terminal. If the reader of
 * the output has gone (`eventfold events … | head`), what is written is dropped, and `isGone` says so.
 */
export class Terminal {
  readonly colours: ReturnType<typeof picocolors.createColors>;
  /** Columns of the terminal; `Infinity` if the output is not a terminal. */
  readonly width: number;
  isGone = false;
  readonly #out: NodeJS.WriteStream;
  readonly #err: NodeJS.WriteStream;
  #pending = "";
  #progress = false;

  constructor({ stdout, stderr, env }: Host) {
    this.#out = stdout;
    this.#err = stderr;
    const isColoured = stdout.isTTY === true && (env["NO_COLOR"] ?? "") === "" && env["TERM"] !== "dumb";
    this.colours = picocolors.createColors(isColoured);
    this.width = stdout.isTTY === true ? (stdout.columns ?? 80) : Infinity;
    stdout.on("error", () => (this.isGone = true));
    stderr.on("error", () => {});
  }

  /** Resolves when the reader of the output can take more. */
  async line(text: string): Promise<void> {
    this.#pending += `${text}\n`;
    if (this.#pending.length >= CHUNK) await this.flush();
  }

  async flush(): Promise<void> {
    const text = this.#pending;
    this.#pending = "";
    if (text === "" || this.isGone) return;
    this.clearProgress();
    if (!this.#out.write(text))
      await Promise.race([once(this.#out, "drain"), once(this.#out, "close")]).catch(() => {});
  }

  /** A table that fits the terminal, or a word for none. */
  async table<T>(rows: readonly T[], columns: readonly Column<T>[], none: string): Promise<void> {
    if (rows.length === 0) return this.line(this.colours.dim(none));
    const cells = rows.map((row) => columns.map(({ value }) => plain(String(value(row) ?? ""))));
    const widths = columns.map(({ title }, i) => 2 + longest([title, ...cells.map((row) => row[i] ?? "")]));
    const table = new Table({
      head: columns.map(({ title }) => this.colours.bold(title)),
      colAligns: columns.map(({ align }) => align ?? "left"),
      colWidths: this.#fitted(widths),
      style: { head: [], border: [], "padding-left": 0, "padding-right": 2 },
      chars: NO_BORDERS,
    });
    for (const row of cells) table.push(row);
    for (const line of table.toString().split("\n")) await this.line(line.trimEnd());
  }

  /** Takes the room that is missing from the widest columns. */
  #fitted(widths: readonly number[]): number[] {
    const fitted = [...widths];
    const total = (): number => fitted.reduce((sum, width) => sum + width, 0);
    while (total() > this.width) {
      const [widest = 0, next = NARROWEST_COLUMN] = [...new Set(fitted)].sort((a, b) => b - a);
      if (widest <= NARROWEST_COLUMN) break;
      const wide = fitted.filter((width) => width === widest).length;
      const less = Math.min(widest - Math.max(next, NARROWEST_COLUMN), Math.ceil((total() - this.width) / wide)) || 1;
      fitted.forEach((width, i) => {
        if (width === widest) fitted[i] = width - less;
      });
    }
    return fitted;
  }

  /** A line that the next one replaces; nothing unless the error output is a terminal. */
  progress(text: string): void {
    if (this.#err.isTTY !== true) return;
    this.#err.write(`\r\u001b[K${text.slice(0, Math.max(0, (this.#err.columns ?? 80) - 1))}`);
    this.#progress = true;
  }

  clearProgress(): void {
    if (this.#progress) this.#err.write("\r\u001b[K");
    this.#progress = false;
  }

  complain(message: string): void {
    this.clearProgress();
    this.#err.write(`eventfold: ${plain(message)}\n`);
  }

  /** Text of the option parser: help, and what is wrong with an option. */
  write(text: string): void {
    this.#out.write(text);
  }

  writeError(text: string): void {
    this.#err.write(text);
  }

  /** Writes the rest. */
  async end(): Promise<void> {
    await this.flush();
    this.clearProgress();
  }
}

function longest(texts: readonly string[]): number {
  return texts.reduce((most, { length }) => Math.max(most, length), 0);
}

const NO_BORDERS = {
  ...{ top: "", "top-mid": "", "top-left": "", "top-right": "", bottom: "", "bottom-mid": "", "bottom-left": "" },
  ...{ "bottom-right": "", left: "", "left-mid": "", mid: "", "mid-mid": "", right: "", "right-mid": "", middle: "" },
};

/** Text from a store with its control characters made visible: printed as they are, they could do anything to a terminal. */
export function plain(text: string): string {
  return text.replace(CONTROLS, (character) =>
    character === "\n" ? "⏎" : `\\u{${character.codePointAt(0)?.toString(16) ?? ""}}`,
  );
}
