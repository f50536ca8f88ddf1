import { markdownTable, withQuartiles } from "./format.ts";
import type { Measured } from "./lines/line.ts";
import type { Result, Run } from "./run.ts";

const QUICK =
  "**This was a quick run:** where the work names smaller sizes than the contract's, met and not met are said of those sizes and are no verdict on the contract.";
/** Taking turns does not help against this: work that waits for threads or the disk is slowed otherwise than work that does not. */
const BUSY =
  "With a load above the number of cores, times are too long, ratios are rough, and the longest stretch of the event loop contains waiting for a processor.";

export interface Finished {
  readonly number: number;
  readonly measured: Measured;
}

/** Everything that was measured, as Markdown. */
export function report(
  lines: readonly Finished[],
  run: Run,
  where: { readonly machine: string; readonly loads: readonly string[] },
): string {
  const checks = lines.flatMap(({ measured }) => measured.checks);
  const count = (met: boolean | undefined): number => checks.filter((each) => each.met === met).length;
  const text = [
    "# Results",
    `Written by \`npm run bench\`; what is measured, and how, is in [README.md](README.md).${run.quick ? ` ${QUICK}` : ""}`,
    `${new Date().toISOString().slice(0, 10)}. ${where.machine}. Load before and after: ${where.loads.join("; ")}. ${BUSY}`,
    `${count(true)} targets met, ${count(false)} not met, ${count(undefined)} not measured.`,
    summary(lines),
    ...lines.map((line) => details(line, run)),
  ].join("\n\n");
  return `${text}\n`;
}

function summary(lines: readonly Finished[]): string {
  const rows = lines.flatMap(({ number, measured: { work, checks, elsewhere } }) =>
    checks.map(({ target, measured, met }, n) => [
      n === 0 ? String(number) : "",
      n === 0 ? work : "",
      target,
      measured,
      met === undefined ? "not measured" : met ? "met" : "**not met**",
      n === 0 ? (elsewhere ?? "") : "",
    ]),
  );
  return markdownTable(["#", "work", "target", "here", "", "as measured elsewhere"], rows);
}

function details({ number, measured }: Finished, run: Run): string {
  const { work, columns, results, remarks = [] } = measured;
  const row = ({ title, samples, problem }: Result): string[] => {
    const [first = "", ...rest] =
      samples.length === 0
        ? [problem ?? "", ...columns.slice(1).map(() => "")]
        : columns.map(({ metric }) => withQuartiles(samples, metric));
    return [title, first, ...rest, samples.length === 0 ? "" : withQuartiles(samples, "loopMs")];
  };
  const table = markdownTable(
    ["", ...columns.map(({ heading }) => heading), "longest stretch of the event loop, ms"],
    results.map(row),
  );
  return [
    `## ${number}. ${work}`,
    `Median (quartiles) of ${run.rounds} rounds, taken in turns.`,
    table,
    ...remarks,
  ].join("\n\n");
}
