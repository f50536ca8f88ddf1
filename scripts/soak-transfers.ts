/**
 * Transfers under fire. Two processes work on one bank; one of them is killed and restarted every second, until all
 * transfers are settled. Then the auditor reads the log. Prints its counts; the exit code is 1 if a check fails.
 *
 *     npm run soak:transfers -- --transfers 10000 --accounts 50 --kill-every 1000
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { audit, type Findings } from "../examples/bank-transfers/audit.ts";
import type { Work } from "../examples/bank-transfers/bank.ts";

const PROGRAM = fileURLToPath(new URL("../examples/bank-transfers/main.ts", import.meta.url));
const LOADER = import.meta.resolve("tsx");

export type SoakOptions = Work & {
  readonly directory: string;
  /** Milliseconds from one kill to the next. */
  readonly killEvery: number;
  /** At most this many kills. Default: no limit. */
  readonly maxKills?: number;
};

export type SoakReport = Findings & { readonly kills: number; readonly seconds: number };

/** One of the two processes. It is restarted after each kill, until it ends on its own. */
class Teller {
  readonly finished: Promise<void>;
  readonly #arguments: readonly string[];
  #process: ChildProcess | undefined;
  #killed = false;
  /** When it opened the bank. */
  #openSince = Infinity;

  constructor({ directory, transfers, accounts, patience }: SoakOptions, backwards: boolean) {
    const options = { transfers, accounts, patience };
    const numbers = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
    this.#arguments = [...numbers, ...(backwards ? ["--backwards"] : []), directory];
    this.finished = this.#work();
  }

  /** Milliseconds since it opened the bank; 0 if it has not yet. */
  get age(): number {
    return Math.max(0, performance.now() - this.#openSince);
  }

  kill(): boolean {
    this.#openSince = Infinity;
    this.#killed = true;
    return this.#process?.kill("SIGKILL") ?? false;
  }

  /** Stops it without a restart, after the other one failed. */
  stop(): void {
    this.#killed = false;
    this.#process?.kill("SIGKILL");
  }

  async #work(): Promise<void> {
    for (;;) {
      const code = await this.#run();
      if (code === 0) return;
      if (!this.#killed) throw new Error(`expected a teller to end with exit code 0, got ${code}`);
    }
  }

  async #run(): Promise<number | null> {
    this.#killed = false;
    const flags = ["--import", LOADER, "--conditions=eventfold-es-source"];
    const child = spawn(process.execPath, [...flags, PROGRAM, ...this.#arguments], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#process = child;
    // It prints its first line once the bank is open.
    child.stdout?.once("data", () => (this.#openSince = performance.now()));
    child.stdout?.resume();
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", resolve);
    });
    this.#openSince = Infinity;
    return code;
  }
}

export async function soak(options: SoakOptions): Promise<SoakReport> {
  const started = performance.now();
  const tellers = [new Teller(options, false), new Teller(options, true)];
  let kills = 0;
  const killer = setInterval(() => {
    // Each process gets some work done, however slow its start on a busy machine; else the soak would never end.
    const [oldest] = tellers.toSorted((a, b) => b.age - a.age);
    if (oldest !== undefined && oldest.age > options.killEvery / 2 && oldest.kill()) kills++;
    if (kills === options.maxKills) clearInterval(killer);
  }, options.killEvery);
  try {
    await Promise.all(tellers.map(({ finished }) => finished));
  } finally {
    clearInterval(killer);
    for (const teller of tellers) teller.stop();
  }
  const seconds = (performance.now() - started) / 1000;
  return { ...(await audit(options.directory, options)), kills, seconds };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      transfers: { type: "string", default: "10000" },
      accounts: { type: "string", default: "50" },
      patience: { type: "string", default: "2000" },
      "kill-every": { type: "string", default: "1000" },
      keep: { type: "boolean", default: false },
    },
  });
  const directory = await mkdtemp(join(tmpdir(), "soak-transfers-"));
  const { problems, money, seconds, ...numbers } = await soak({
    directory,
    transfers: Number(values.transfers),
    accounts: Number(values.accounts),
    patience: Number(values.patience),
    killEvery: Number(values["kill-every"]),
  });
  const lines = { ...numbers, money: (money / 100).toFixed(2), seconds: seconds.toFixed(1), problems: problems.length };
  for (const [label, value] of Object.entries(lines)) console.log(`${label.padEnd(12)}${String(value).padStart(12)}`);
  for (const problem of problems.slice(0, 100)) console.error(problem);
  if (problems.length > 0 || values.keep) console.log(`The books are in ${directory}`);
  else await rm(directory, { recursive: true });
  process.exitCode = problems.length > 0 ? 1 : 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
