import { closeSync, openSync, readdirSync, readFileSync, readSync, rmSync } from "node:fs";
import { contender, type ContenderName } from "../contenders/contenders.ts";
import { Account, AggregateStore, balances, Closures } from "../eventfold.ts";
import { median, quantile } from "../statistics.ts";
import { type Sample, timed } from "./task.ts";

/** Loads one account, or folds the projection over all, in a process that has done nothing before. */
export interface ReadTask {
  readonly task: "load" | "project";
  readonly contender: ContenderName;
  readonly directory: string;
  /** How many there are in the store. */
  readonly events: number;
  /** The lowest right result: other measurements may have made deposits since. */
  readonly expected: number;
  /** Whether ours may use a snapshot or checkpoint. */
  readonly cached?: boolean;
}

/** The cost of reading files without a store. */
export interface ReadFloorTask {
  readonly task: "read floor";
  /** A file, or a directory whose files are read. */
  readonly path: string;
  readonly work: "read" | "split into lines" | "JSON.parse";
}

/** Reads a projection after each new event. */
export interface FreshTask {
  readonly task: "fresh";
  readonly directory: string;
  readonly account: string;
  readonly times: number;
  /** How many projections that do the same there are; all are read. */
  readonly projections?: number;
  /** Whether they begin with nothing. */
  readonly rebuild?: boolean;
}

/** A projection that handles no event of the store. */
export interface SkipTask {
  readonly task: "skip";
  readonly directory: string;
  readonly events: number;
}

/** How often a projection is made once more, in a process that has done so before. */
const AGAIN = 5;

export async function runRead(task: ReadTask): Promise<Sample> {
  if (task.cached !== true && task.contender.startsWith("ours")) {
    const cache = task.task === "load" ? "streams/account/acct-0/views" : "projections";
    rmSync(`${task.directory}/${cache}`, { recursive: true, force: true });
  }
  const bank = await contender(task.contender).open(task.directory);
  let found = 0;
  const result = await timed(async () => {
    found = task.task === "load" ? await bank.load("acct-0") : await bank.project(task.events);
  });
  const again: number[] = [];
  for (let n = 0; n < AGAIN && task.task === "project" && bank.rebuild !== undefined; n++) {
    const started = performance.now();
    await bank.rebuild();
    again.push(performance.now() - started);
  }
  await bank.close();
  if (found < task.expected) throw new Error(`${task.contender}: expected at least ${task.expected}, found ${found}`);
  return { ...result, ...(again.length === 0 ? {} : { againMs: median(again) }) };
}

export async function runReadFloor({ path, work }: ReadFloorTask): Promise<Sample> {
  let lines = 0;
  const result = await timed(async () => {
    for (const file of filesOf(path)) {
      if (work === "JSON.parse") {
        for (const line of readFileSync(file, "utf8").split("\n")) {
          if (line.startsWith("{")) lines += JSON.parse(line) === null ? 0 : 1;
        }
      } else lines += readPlainly(file, work === "split into lines");
    }
  });
  return { ...result, lines };
}

function filesOf(path: string): string[] {
  if (path.endsWith(".jsonl")) return [path];
  return readdirSync(path).map((name) => `${path}/${name}`);
}

const CHUNK = Buffer.alloc(1 << 20);

function readPlainly(file: string, split: boolean): number {
  const descriptor = openSync(file, "r");
  let lines = 0;
  for (;;) {
    const length = readSync(descriptor, CHUNK, 0, CHUNK.length, null);
    if (length === 0) break;
    const text = CHUNK.subarray(0, length);
    if (split) for (let at = text.indexOf(10); at >= 0; at = text.indexOf(10, at + 1)) lines++;
  }
  closeSync(descriptor);
  return lines;
}

export async function runFresh({ directory, account, times, projections = 1, rebuild }: FreshTask): Promise<Sample> {
  if (rebuild === true) rmSync(`${directory}/projections`, { recursive: true, force: true });
  const all = Array.from({ length: projections }, (_, n) => balances(n));
  const [first = balances(), ...others] = all;
  const store = await others
    .reduce(
      (builder, projection) => builder.projection(projection),
      AggregateStore.builder(directory).aggregate(Account).projection(first),
    )
    .open();
  const catchUp = await timed(() => Promise.all(all.map((projection) => store.projection(projection))));
  const handle = store.get(Account, account);
  const latencies: number[] = [];
  const commands: number[] = [];
  let found = 0;
  const measure = async (count: number): Promise<void> => {
    for (let n = 0; n < count; n++) {
      const before = performance.now();
      await handle.execute({ type: "Deposit", data: { amount: 1 } });
      const started = performance.now();
      for (const projection of all) found = (await store.projection(projection)).total;
      commands.push(started - before);
      latencies.push(performance.now() - started);
    }
  };
  await measure(Math.min(100, times));
  const before = found;
  latencies.length = 0;
  commands.length = 0;
  const { loopMs } = await timed(() => measure(times));
  if (found !== before + times) throw new Error(`the projection: expected ${before + times}, found ${found}`);
  await store.close();
  return {
    p50: median(latencies),
    p99: quantile(latencies, 0.99),
    commandP50: median(commands),
    catchUpMs: catchUp.ms,
    loopMs,
  };
}

export async function runSkip({ directory, events }: SkipTask): Promise<Sample> {
  rmSync(`${directory}/projections`, { recursive: true, force: true });
  const store = await AggregateStore.builder(directory).aggregate(Account).projection(Closures).open();
  const timing = await timed(() => store.projection(Closures));
  await store.close();
  return { ...timing, perSecond: (events / timing.ms) * 1000 };
}
