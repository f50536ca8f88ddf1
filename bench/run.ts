import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { contender, type ContenderName, missing } from "./contenders/contenders.ts";
import { number } from "./format.ts";
import { measure, TaskFailed } from "./measure.ts";
import type { Sample } from "./tasks/task.ts";
import type { FillTask } from "./tasks/stores.ts";
import type { Task } from "./tasks/tasks.ts";

/** One of several measurements that are compared. */
export interface Entry {
  readonly key: string;
  readonly title: string;
  /** Left out, with its name, if this contender's packages are missing. */
  readonly contender?: ContenderName;
  /** Measured once. */
  readonly slow?: boolean;
  readonly sample: (round: number) => Promise<Sample>;
}

export interface Result {
  readonly key: string;
  readonly title: string;
  readonly samples: readonly Sample[];
  /** Why there are no samples. */
  readonly problem?: string;
}

/** A run of the benchmark: its extent and its files. */
export class Run {
  readonly quick: boolean;
  readonly rounds: number;
  readonly #allPeers: boolean;
  readonly #data: string;
  readonly #scratch: string;
  #directories = 0;

  constructor(options: {
    readonly quick: boolean;
    readonly rounds: number;
    readonly data: string;
    readonly fresh: boolean;
    /** Also those that a quick run leaves out. */
    readonly allPeers: boolean;
  }) {
    this.quick = options.quick;
    this.#allPeers = options.allPeers;
    this.rounds = options.rounds;
    this.#data = options.data;
    this.#scratch = `${options.data}/scratch-${process.pid}`;
    if (options.fresh) rmSync(`${this.#data}/prepared`, { recursive: true, force: true });
  }

  /** A size: that of the contract, or a smaller one in a quick run. */
  size(full: number, quick: number): number {
    return this.quick ? quick : full;
  }

  leavesOut(name: ContenderName): boolean {
    return !this.#allPeers && contender(name).quick === false;
  }

  /** A path for a new directory; `finish` removes it. */
  directory(): string {
    return `${this.#scratch}/${++this.#directories}`;
  }

  /** A store that is made once for each purpose and read by many measurements. Later runs use it again, except with --fresh. */
  async prepared(fill: Omit<FillTask, "task" | "directory">, purpose = "read"): Promise<string> {
    const { contender: name, accounts, deposits, short, together } = fill;
    const kind = `${short === true ? "short-" : ""}${together === undefined ? "" : `by-${together}-`}${purpose}`;
    const directory = `${this.#data}/prepared/${name}-${accounts}x${deposits}-${kind}`;
    if (!existsSync(`${directory}/filled`)) {
      rmSync(directory, { recursive: true, force: true });
      this.say(`filling a store: ${name}, ${number(accounts)} × ${number(deposits)}`);
      await measure({ ...fill, task: "fill", directory });
      writeFileSync(`${directory}/filled`, "");
    }
    return directory;
  }

  /** One entry for each contender. `task` makes its requirements when its turn comes. */
  entries(names: readonly ContenderName[], task: (name: ContenderName) => Task | Promise<Task>): Entry[] {
    return names
      .filter((name) => !this.leavesOut(name))
      .map((name) => ({
        key: name,
        title: contender(name).title,
        contender: name,
        slow: contender(name).slow === true,
        sample: async () => measure(await task(name)),
      }));
  }

  /** Measures all, taking turns: A B A B … */
  async interleave(entries: readonly Entry[]): Promise<Result[]> {
    const results = entries.map((entry) => {
      const absent = entry.contender === undefined ? [] : missing(entry.contender);
      const problem = absent.length > 0 ? `not installed: ${absent.join(", ")}` : undefined;
      return { entry, samples: [] as Sample[], problem };
    });
    for (let round = 0; round < this.rounds; round++) {
      for (const result of results) {
        const { entry } = result;
        if (result.problem !== undefined || (entry.slow === true && round > 0)) continue;
        try {
          result.samples.push(await entry.sample(round));
        } catch (error) {
          if (!(error instanceof TaskFailed)) throw error;
          result.problem = `fails: ${firstLine(error.message)}`;
        }
        // Directories are removed at once: a disk that fills up changes what is measured.
        this.clear();
      }
    }
    return results
      .filter(({ samples, problem }) => samples.length > 0 || problem !== undefined)
      .map(({ entry: { key, title }, samples, problem }) => ({
        key,
        title,
        samples,
        ...(problem === undefined ? {} : { problem }),
      }));
  }

  say(text: string): void {
    process.stderr.write(`  ${text}\n`);
  }

  clear(): void {
    rmSync(this.#scratch, { recursive: true, force: true });
    mkdirSync(this.#scratch, { recursive: true });
  }

  finish(): void {
    rmSync(this.#scratch, { recursive: true, force: true });
  }
}

function firstLine(text: string): string {
  return text.split("\n").find((line) => line.trim() !== "") ?? "";
}
