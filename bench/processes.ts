import { measureTogether } from "./measure.ts";
import type { Run } from "./run.ts";
import type { CommandsTask } from "./tasks/commands.ts";
import type { Sample } from "./tasks/task.ts";

/** What each process has to do. */
export interface ProcessWork {
  readonly accounts: number;
  /** For each account, one after the other. */
  readonly commands: number;
}

/** Processes with accounts of their own on one new directory, all begun together. */
export async function measureProcesses(run: Run, count: number, work: ProcessWork): Promise<Sample> {
  const directory = run.directory();
  const tasks = Array.from({ length: count }, (_, n): CommandsTask => ({
    ...{ task: "commands", contender: "ours", directory, pace: "one by one" },
    ...work,
    prefix: `p${n}-`,
  }));
  const samples = await measureTogether(tasks);
  const all = (metric: string): number[] => samples.map((sample) => sample[metric] ?? 0);
  const rates = all("perSecond");
  const processor = all("cpuMicros").reduce((sum, each) => sum + each, 0) / count;
  return {
    // All have the same work, so all of it is done when the slowest process is done.
    perSecond: Math.min(...rates) * count,
    share: Math.min(...rates) / Math.max(...rates),
    p50: Math.max(...all("p50")),
    bestP50: Math.min(...all("p50")),
    p99: Math.max(...all("p99")),
    bestP99: Math.min(...all("p99")),
    max: Math.max(...all("max")),
    cpuMicros: processor,
    failed: Math.max(...all("failed")),
    loopMs: Math.max(...all("loopMs")),
  };
}
