import { monitorEventLoopDelay } from "node:perf_hooks";

/** The result of one measurement: metrics by name. */
export type Sample = Readonly<Record<string, number>>;

/** Resolution of the event loop's watch, in ms; what it reports is longer by this. */
const RESOLUTION_MS = 1;

export interface Timing {
  readonly ms: number;
  /** Time of the processors, of all threads; on a busy machine steadier than `ms`. */
  readonly cpuMs: number;
  /** For how long the event loop stood still at most. */
  readonly loopMs: number;
}

/** Runs some work and measures its time. */
export async function timed(work: () => Promise<unknown>): Promise<Timing> {
  const watch = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  await pause(5);
  watch.enable();
  await pause(5);
  watch.reset();
  // It counts from its first tick on.
  await pause(5);
  const cpuBefore = process.cpuUsage();
  const started = performance.now();
  await work();
  const ms = performance.now() - started;
  const cpu = process.cpuUsage(cpuBefore);
  // The watch sees a stretch when it is over.
  await pause(5);
  watch.disable();
  return { ms, cpuMs: (cpu.user + cpu.system) / 1000, loopMs: Math.max(0, watch.max / 1e6 - RESOLUTION_MS) };
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
