import { spread } from "./statistics.ts";
import type { Sample } from "./tasks/task.ts";

/** Three significant digits, thousands separated: `12,300`, `4.56`, `0.0123`. */
export function number(value: number): string {
  if (!Number.isFinite(value)) return "–";
  const rounded = Number(value.toPrecision(3));
  if (Math.abs(rounded) >= 1000) return Math.round(value).toLocaleString("en-US");
  return String(rounded);
}

/** The middle of a metric over all rounds, with its quartiles. */
export function withQuartiles(samples: readonly Sample[], metric: string): string {
  const values = samples.map((sample) => sample[metric] ?? Number.NaN);
  const { median, lower, upper } = spread(values);
  if (!Number.isFinite(median)) return "–";
  return values.length < 2 ? number(median) : `${number(median)} (${number(lower)}–${number(upper)})`;
}

/** A ratio. */
export function times(ratio: number): string {
  return Number.isFinite(ratio) ? `${number(ratio)} ×` : "–";
}

export function markdownTable(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(headings), line(headings.map(() => "---")), ...rows.map(line)].join("\n");
}
