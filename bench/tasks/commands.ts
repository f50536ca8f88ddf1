import { mkdirSync } from "node:fs";
import { accounts } from "../contenders/bank.ts";
import { contender, type ContenderName } from "../contenders/contenders.ts";
import { type FloorWay, openFloor } from "../contenders/floor.ts";
import { quantile } from "../statistics.ts";
import { pause, type Sample, timed, type Timing } from "./task.ts";

/** Executes commands on accounts. */
export interface CommandsTask {
  readonly task: "commands";
  readonly contender: ContenderName;
  readonly directory: string;
  readonly accounts: number;
  /** For each account. */
  readonly commands: number;
  /** `"one by one"`: each account's next command when the last one is answered. */
  readonly pace: "one by one" | "at once";
  /** Whether the directory holds the account `acct-0` already. */
  readonly filled?: boolean;
  /** The beginning of the accounts' names. Default: `acct`. */
  readonly prefix?: string;
}

/** Durable writes without anything around them. */
export interface FloorTask {
  readonly task: "floor";
  readonly directory: string;
  readonly way: FloorWay;
  readonly writes: number;
  readonly bytes?: number;
}

/** How long code gets to become fast before it is measured. */
const WARM_UP_MS = 300;

export async function runCommands(task: CommandsTask, ready: () => Promise<void> = async () => {}): Promise<Sample> {
  mkdirSync(task.directory, { recursive: true });
  const bank = await contender(task.contender).open(task.directory);
  const warm = accounts(Math.min(task.accounts, 50), `${task.prefix ?? ""}warm-${process.pid}`);
  for (const account of warm) await bank.open(account);
  // The measured commands arrive in the same way.
  const together = task.pace === "at once" ? Math.ceil(100 / warm.length) : 1;
  for (const warmed = performance.now(); performance.now() - warmed < WARM_UP_MS;) {
    await Promise.all(warm.flatMap((account) => Array.from({ length: together }, () => bank.deposit(account, 1))));
    // A contender that does all its work synchronously would otherwise starve the event loop.
    await pause(0);
  }
  const ids = accounts(task.accounts, task.prefix);
  if (task.filled === true) await Promise.all(ids.map((account) => bank.deposit(account, 1)));
  else for (const account of ids) await bank.open(account);
  await ready();

  const latencies = new Float64Array(ids.length * task.commands);
  let count = 0;
  let failed = 0;
  const command = async (account: string): Promise<void> => {
    const started = performance.now();
    try {
      await bank.deposit(account, 1);
    } catch (error) {
      if (failed++ === 0) console.error(error);
    }
    latencies[count++] = performance.now() - started;
  };
  const customer = async (account: string): Promise<void> => {
    for (let n = 0; n < task.commands; n++) await command(account);
  };
  const result = await timed(() =>
    Promise.all(
      task.pace === "one by one"
        ? ids.map(customer)
        : Array.from({ length: latencies.length }, (_, n) => command(ids[n % ids.length] ?? "")),
    ),
  );
  await bank.close();
  return { ...timings(result, latencies), failed };
}

export async function runFloor({ directory, way, writes, bytes }: FloorTask): Promise<Sample> {
  mkdirSync(directory, { recursive: true });
  const floor = openFloor(directory, way, bytes);
  const write = async (): Promise<void> => (way === "synchronous" ? floor.writeNow() : floor.write());
  for (const warmed = performance.now(); performance.now() - warmed < WARM_UP_MS;) {
    await write();
    await pause(0);
  }
  const latencies = new Float64Array(writes);
  const result = await timed(async () => {
    for (let n = 0; n < writes; n++) {
      const started = performance.now();
      if (way === "synchronous") floor.writeNow();
      else await floor.write();
      latencies[n] = performance.now() - started;
    }
  });
  floor.close();
  return timings(result, latencies);
}

function timings(timing: Timing, latencies: Float64Array): Sample {
  return {
    perSecond: (latencies.length / timing.ms) * 1000,
    p50: quantile(latencies, 0.5),
    p99: quantile(latencies, 0.99),
    max: quantile(latencies, 1),
    cpuMicros: (timing.cpuMs / latencies.length) * 1000,
    ...timing,
  };
}
