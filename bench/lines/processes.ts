import { check, checkLoop, middle, ratio } from "../compare.ts";
import { measureProcesses } from "../processes.ts";
import type { Line } from "./line.ts";

/** The slowest process must do at least this share of the work of the fastest, while all are busy. */
const FAIR_SHARE = 0.8;
const COUNTS = [2, 4, 8];

const processes: Line = {
  number: 12,
  async measure(run) {
    const work = { accounts: 50, commands: run.size(100, 40) };
    const entry = (count: number) => ({
      key: String(count),
      title: count === 1 ? "one process alone" : `${count} processes together`,
      sample: () => measureProcesses(run, count, work),
    });
    const results = await run.interleave([1, ...COUNTS].map(entry));
    return {
      work: `processes on one directory, ${work.accounts} instances each, ${work.commands} commands to each instance`,
      results,
      columns: [
        { heading: "commands/s, all together", metric: "perSecond" },
        { heading: "slowest ÷ fastest", metric: "share" },
        { heading: "p50 of the best process, ms", metric: "bestP50" },
        { heading: "p50 of the worst, ms", metric: "p50" },
        { heading: "p99 of the best, ms", metric: "bestP99" },
        { heading: "p99 of the worst, ms", metric: "p99" },
        { heading: "longest, ms", metric: "max" },
        { heading: "failed", metric: "failed" },
      ],
      checks: [
        check("two together ≥ 0.8 × one alone", ratio(results, "2", "1", "perSecond"), { least: 0.8 }),
        check("four together ≥ 0.5 × one alone", ratio(results, "4", "1", "perSecond"), { least: 0.5 }),
        ...COUNTS.map((count) =>
          check(`${count}: the slowest ≥ ${FAIR_SHARE} × the fastest`, middle(results, String(count), "share"), {
            least: FAIR_SHARE,
          }),
        ),
        check("p99 of the worst of four ≤ 60 ms", middle(results, "4", "p99"), { most: 60 }, "ms"),
        check(
          "no command fails",
          Math.max(...COUNTS.map((count) => middle(results, String(count), "failed"))),
          { most: 0 },
          "failed",
        ),
        checkLoop(results, COUNTS.map(String)),
      ],
      elsewhere: "Rust crate: a second process cannot even read; act-sqlite and emmett-sqlite: commands fail",
    };
  },
};

export const processLines: readonly Line[] = [processes];
