import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { accounts } from "../contenders/bank.ts";
import { contender, type ContenderName } from "../contenders/contenders.ts";
import { openOurs } from "../contenders/ours.ts";
import { Account, AggregateStore } from "../eventfold.ts";
import { median } from "../statistics.ts";
import { type Sample, timed } from "./task.ts";

/** Makes a store to be read by others. */
export interface FillTask {
  readonly task: "fill";
  readonly contender: ContenderName;
  readonly directory: string;
  readonly accounts: number;
  /** For each account. */
  readonly deposits: number;
  /** Lines as short as those that the Rust crate's loading was measured with. */
  readonly short?: boolean;
  /** Deposits in one command; 1 if left out, or many where there are few accounts. */
  readonly together?: number;
}

/** Opens a store that was closed cleanly. */
export interface OpenTask {
  readonly task: "open";
  readonly directory: string;
}

/** The first command of so many accounts, all at once. */
export interface CreateTask {
  readonly task: "create";
  readonly directory: string;
  readonly accounts: number;
  /** `"by hand"`: only their directories and files, with one line in each. */
  readonly way: "ours" | "by hand";
}

/** Holds so many accounts in memory. */
export interface LiveTask {
  readonly task: "live";
  readonly directory: string;
  readonly accounts: number;
  /** Commands that are executed on different accounts when all are there. */
  readonly commands: number;
}

export async function runFill({
  contender: name,
  directory,
  accounts: count,
  deposits,
  short,
  together,
}: FillTask): Promise<Sample> {
  fs.mkdirSync(directory, { recursive: true });
  let id = 0;
  const bank =
    short === true
      ? await openOurs(
          { directory, durability: "flush" },
          { ids: () => `e${String(++id).padStart(7, "0")}`, context: {} },
        )
      : await contender(name).open(directory);
  const result = await timed(() => bank.fill(accounts(count), deposits, together));
  await bank.close();
  // Unflushed writes would be flushed during other measurements.
  execFileSync("sync");
  return { ...result };
}

export async function runOpen({ directory }: OpenTask): Promise<Sample> {
  const builder = AggregateStore.builder(directory).aggregate(Account);
  let opening: ReturnType<typeof builder.open> | undefined;
  const timing = await timed(() => (opening = builder.open()));
  const store = await (opening ?? builder.open());
  const command = await timed(() => store.get(Account, "acct-0").execute({ type: "Deposit", data: { amount: 1 } }));
  const list = await timed(() => store.listStreams());
  await store.close();
  const again = await timed(async () => (await builder.open()).close());
  return { ...timing, commandMs: command.ms, listMs: list.ms, againMs: again.ms };
}

export async function runCreate({ directory, accounts: count, way }: CreateTask): Promise<Sample> {
  const ids = accounts(count);
  fs.mkdirSync(directory, { recursive: true });
  if (way === "by hand") {
    const line = Buffer.alloc(200, "x");
    const timing = await timed(async () => {
      fs.mkdirSync(`${directory}/streams/account`, { recursive: true });
      for (const id of ids) {
        fs.mkdirSync(`${directory}/streams/account/${id}`);
        const descriptor = fs.openSync(`${directory}/streams/account/${id}/app.jsonl`, "w");
        fs.writeSync(descriptor, line);
        fs.closeSync(descriptor);
      }
    });
    return { ...timing, perSecond: (count / timing.ms) * 1000 };
  }
  const bank = await openOurs({ directory, durability: "flush" });
  const timing = await timed(() => Promise.all(ids.map((id) => bank.open(id))));
  await bank.close();
  return { ...timing, perSecond: (count / timing.ms) * 1000 };
}

export async function runLive({ directory, accounts: count, commands }: LiveTask): Promise<Sample> {
  const store = await AggregateStore.builder(directory).aggregate(Account).idleTimeout(Infinity).open();
  const ids = accounts(count);
  await store.get(Account, ids[0] ?? "").state();
  const before = resources();
  const handles = ids.map((id) => store.get(Account, id));
  const loading = await timed(async () => {
    for (const handle of handles) await handle.state();
  });
  const after = resources();
  const step = Math.max(1, Math.floor(count / commands));
  const chosen = handles.filter((_, n) => n % step === 0).slice(0, commands);
  const deposit = (handle: (typeof handles)[number]): Promise<unknown> =>
    handle.execute({ type: "Deposit", data: { amount: 1 } });
  const all = await timed(() => Promise.all(chosen.map(deposit)));
  const latencies: number[] = [];
  for (const handle of chosen.slice(0, 500)) {
    const started = performance.now();
    await deposit(handle);
    latencies.push(performance.now() - started);
  }
  const then = resources();
  await store.close();
  return {
    heapBytes: (after.heap - before.heap) / count,
    residentBytes: (after.resident - before.resident) / count,
    descriptors: Math.max(after.descriptors, then.descriptors),
    threads: Math.max(after.threads, then.threads) - before.threads,
    loadMs: loading.ms,
    loadLoopMs: loading.loopMs,
    perSecond: (chosen.length / all.ms) * 1000,
    loopMs: all.loopMs,
    p50: median(latencies),
  };
}

/** What the process holds, garbage left out. Threads and descriptors are 0 where the system does not tell. */
function resources(): { heap: number; resident: number; descriptors: number; threads: number } {
  globalThis.gc?.();
  globalThis.gc?.();
  const { heapUsed, external, rss } = process.memoryUsage();
  let threads = 0;
  let descriptors = 0;
  if (process.platform === "linux") {
    threads = Number(/^Threads:\s+(\d+)$/m.exec(fs.readFileSync("/proc/self/status", "utf8"))?.[1] ?? 0);
    descriptors = fs.readdirSync("/proc/self/fd").length;
  }
  return { heap: heapUsed + external, resident: rss, descriptors, threads };
}
