/**
 * `npm run test:crash`: cuts the power in every kind of workload until so many disks were examined, on all processors. Prints the
 * counts, and every violation with the command that repeats it. Options:
 *
 *     --disks 100000     how many disks in all
 *     --seed 1           the first seed; each kind continues with the following ones
 *     --kind "two processes"    only this kind; may be given several times
 *     --only 12/3        only this disk of one kind and one seed
 */
import { type ChildProcess, fork } from "node:child_process";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type CrashReport, type CrashScenario, exploreCrashes } from "eventfold-es/testing";
import { WORKLOADS } from "../test/support/crash-workloads.ts";

/** Disks of one seed of one kind. */
const DISKS = 600;
/** Violations that are printed in full, for each kind. */
const SHOWN = 3;

interface Task {
  readonly kind: string;
  readonly seed: number;
  readonly only?: string;
}

interface Violation {
  readonly only: string;
  readonly text: string;
}

interface Outcome extends Task {
  readonly report: CrashReport;
  readonly violations: readonly Violation[];
}

async function explore({ kind, seed, only }: Task): Promise<Outcome> {
  const workload = WORKLOADS.find((other) => other.kind === kind);
  if (workload === undefined)
    throw new RangeError(
      `expected --kind to name a workload (${WORKLOADS.map((w) => w.kind).join(", ")}), got "${kind}"`,
    );
  const violations: Violation[] = [];
  const report = await exploreCrashes({
    ...(workload.scenario(seed) as unknown as CrashScenario<never>),
    seed,
    maxDisks: DISKS,
    ...(only === undefined ? {} : { only }),
    onViolation: (error) => {
      const stack = error.cause instanceof Error ? (error.cause.stack ?? "") : "";
      violations.push({ only: error.only, text: `${error.message}\n${stack}` });
    },
  });
  return { kind, seed, report, violations };
}

/** The progress of one kind. */
class Share {
  readonly kind: string;
  disks = 0;
  #nextSeed: number;
  #running = 0;

  constructor(kind: string, firstSeed: number) {
    this.kind = kind;
    this.#nextSeed = firstSeed;
  }

  /** Disks examined, and the most that the running tasks can add. */
  get expected(): number {
    return this.disks + this.#running * DISKS;
  }

  begin(): Task {
    this.#running++;
    return { kind: this.kind, seed: this.#nextSeed++ };
  }

  finish(disks: number): void {
    this.#running--;
    this.disks += disks;
  }
}

/** Distributes tasks to child processes until every kind has had its share of disks. */
async function exploreAll(kinds: readonly string[], disks: number, firstSeed: number): Promise<Outcome[]> {
  const shares = new Map(kinds.map((kind) => [kind, new Share(kind, firstSeed)]));
  const outcomes: Outcome[] = [];
  const give = (child: ChildProcess): void => {
    const [least] = [...shares.values()].sort((a, b) => a.expected - b.expected);
    if (least === undefined || least.expected >= disks / kinds.length) child.disconnect();
    else child.send(least.begin());
  };
  const work = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const child = fork(fileURLToPath(import.meta.url), ["worker"]);
      child.on("message", (outcome: Outcome) => {
        outcomes.push(outcome);
        shares.get(outcome.kind)?.finish(outcome.report.disks);
        give(child);
      });
      child.on("error", reject);
      child.on("exit", (code, signal) =>
        code === 0 ? resolve() : reject(new Error(`expected a worker to end with exit code 0, got ${code ?? signal}`)),
      );
      give(child);
    });
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  return outcomes;
}

function print(outcomes: readonly Outcome[], seconds: number): void {
  const columns = ["disks", "nested", "nestedTwice", "violations"] as const;
  const row = (own: readonly Outcome[]): string => {
    const [disks, nested, twice, violations] = columns.map((column) =>
      own.reduce((sum, { report }) => sum + report[column], 0),
    );
    return `${String(disks).padStart(7)} disks (${nested} of recoveries cut off, ${twice} of second ones), ${violations} violations`;
  };
  for (const { kind } of WORKLOADS) {
    const own = outcomes.filter((outcome) => outcome.kind === kind);
    if (own.length === 0) continue;
    console.log(`${row(own)}: ${kind}, ${own.length} seeds`);
    const all = own.flatMap(({ seed, violations }) => violations.map((violation) => ({ seed, ...violation })));
    for (const { seed, only, text } of all.slice(0, SHOWN))
      console.log(`\nnpm run test:crash -- --kind '${kind}' --seed ${seed} --only ${only}\n${text}\n`);
  }
  const seeds = outcomes.map(({ seed }) => seed);
  console.log(`${row(outcomes)}; seeds ${Math.min(...seeds)} to ${Math.max(...seeds)}, ${seconds.toFixed(0)} s`);
  if (outcomes.some(({ report }) => report.violations > 0)) process.exitCode = 1;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      disks: { type: "string", default: "100000" },
      seed: { type: "string", default: "1" },
      kind: { type: "string", multiple: true },
      only: { type: "string" },
    },
  });
  const kinds = values.kind ?? WORKLOADS.map(({ kind }) => kind);
  const started = performance.now();
  const seed = Number(values.seed);
  const outcomes =
    values.only === undefined
      ? await exploreAll(kinds, Number(values.disks), seed)
      : [await explore({ kind: kinds[0] ?? "", seed, only: values.only })];
  print(outcomes, (performance.now() - started) / 1000);
}

if (process.argv[2] === "worker") {
  process.on("message", (task: Task) => {
    void explore(task).then((outcome) => process.send?.(outcome));
  });
} else await main();
