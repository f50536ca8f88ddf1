import { type ContenderName, missing, PEERS } from "../contenders/contenders.ts";
import { number } from "../format.ts";
import { measure, TaskFailed } from "../measure.ts";
import { check, checkLoop, middle, ratio } from "../compare.ts";
import type { Entry, Result, Run } from "../run.ts";
import type { FillTask } from "../tasks/stores.ts";
import type { Sample } from "../tasks/task.ts";
import type { Line } from "./line.ts";

/** What the Rust crate takes, in ms, as measured elsewhere. */
const ORIGINAL_LOAD_MS = 54;
const ORIGINAL_PROJECT_MS = 65;

const MS_COLUMNS = [
  { heading: "ms", metric: "ms" },
  { heading: "processor, ms", metric: "cpuMs" },
];

type Size = Pick<FillTask, "accounts" | "deposits">;

/** Fills a store for every installed contender that can be filled. */
async function prepareAll(run: Run, names: readonly ContenderName[], size: Size): Promise<Map<ContenderName, string>> {
  const directories = new Map<ContenderName, string>();
  for (const name of names) {
    if (missing(name).length > 0 || run.leavesOut(name)) continue;
    try {
      directories.set(name, await run.prepared({ contender: name, ...size }));
    } catch (error) {
      if (!(error instanceof TaskFailed)) throw error;
      run.say(`${name} could not be filled: ${error.message}`);
    }
  }
  return directories;
}

function readEntries(
  run: Run,
  task: "load" | "project",
  names: readonly ContenderName[],
  stores: ReadonlyMap<ContenderName, string>,
  { accounts, deposits }: Size,
): Entry[] {
  const events = accounts * (deposits + 1);
  const expected = task === "load" ? deposits : accounts * deposits;
  return run.entries(names, (name) => {
    const directory = stores.get(name);
    if (directory === undefined) throw new TaskFailed("its store could not be filled");
    return { task, contender: name, directory, events, expected };
  });
}

function floorEntries(path: string, works: readonly ("read" | "split into lines" | "JSON.parse")[]): Entry[] {
  return works.map((work) => ({
    key: work,
    title: `floor: ${work}`,
    sample: () => measure({ task: "read floor", path, work }),
  }));
}

const load: Line = {
  number: 4,
  async measure(run) {
    const events = 100_000;
    const short = await run.prepared({ contender: "ours", accounts: 1, deposits: events, short: true });
    const size = { accounts: 1, deposits: events };
    const stores = await prepareAll(run, ["ours", ...PEERS], size);
    const stream = `${short}/streams/account/acct-0/app.jsonl`;
    const ours = { task: "load", contender: "ours", events, expected: events } as const;
    const results = await run.interleave([
      ...floorEntries(stream, ["read", "JSON.parse"]),
      { key: "short", title: "eventfold-es", sample: () => measure({ ...ours, directory: short }) },
      {
        key: "snapshot",
        title: "eventfold-es, with a snapshot",
        sample: async () => {
          const directory = await run.prepared({ contender: "ours", accounts: 1, deposits: events + 1, short: true });
          return measure({ ...ours, directory, expected: events + 1, cached: true });
        },
      },
      {
        key: "ours",
        title: "eventfold-es, full envelope",
        sample: () => measure({ ...ours, directory: stores.get("ours") ?? "" }),
      },
      ...readEntries(run, "load", PEERS, stores, size),
    ]);
    return {
      work: `load ${number(events)} events (about 93 bytes each) in a process that has loaded nothing before`,
      results,
      columns: MS_COLUMNS,
      checks: [
        check(
          `≤ the Rust crate's ${ORIGINAL_LOAD_MS} ms as measured elsewhere`,
          middle(results, "short", "ms"),
          { most: ORIGINAL_LOAD_MS },
          "ms",
        ),
        check("with a snapshot ≤ 3 ms", middle(results, "snapshot", "ms"), { most: 3 }, "ms"),
        checkLoop(results, ["short", "ours", "snapshot"]),
      ],
      elsewhere: "Rust crate 54 ms; emmett-sqlite 1,087 ms",
    };
  },
};

const SMALL: Size = { accounts: 1000, deposits: 100 };

function largeSize(run: Run): Size {
  return { accounts: run.size(100_000, 10_000), deposits: 10 };
}

function describe({ accounts, deposits }: Size): string {
  return `${number(accounts)} streams × ${number(deposits)} events`;
}

const projectSmall: Line = {
  number: 5,
  async measure(run) {
    const names: readonly ContenderName[] = ["ours", ...PEERS];
    const stores = await prepareAll(run, names, SMALL);
    const results = await run.interleave([
      ...floorEntries(`${stores.get("ours")}/commit_log`, ["read", "split into lines", "JSON.parse"]),
      ...readEntries(run, "project", names, stores, SMALL),
    ]);
    return {
      work: `projection from nothing over ${describe(SMALL)}, all handled, in a process that has done nothing before`,
      results,
      columns: [...MS_COLUMNS, { heading: "again in the same process, ms", metric: "againMs" }],
      checks: [
        check(
          `≤ the Rust crate's ${ORIGINAL_PROJECT_MS} ms as measured elsewhere`,
          middle(results, "ours", "ms"),
          { most: ORIGINAL_PROJECT_MS },
          "ms",
        ),
        checkLoop(results, ["ours"]),
      ],
      elsewhere: "Rust crate 65 ms; act 2,569 ms; emmett-sqlite 37 s",
    };
  },
};

const projectLarge: Line = {
  number: 6,
  async measure(run) {
    const size = largeSize(run);
    const events = size.accounts * size.deposits;
    const small = await run.prepared({ contender: "ours", ...SMALL });
    const large = await run.prepared({ contender: "ours", ...size });
    const entry = (key: string, title: string, directory: string, deposits: number): Entry => ({
      key,
      title,
      sample: async () => {
        const sample = await measure({
          task: "project",
          contender: "ours",
          directory,
          events: deposits,
          expected: deposits,
        });
        return { ...sample, perEvent: ((sample["ms"] ?? Number.NaN) / deposits) * 1000 };
      },
    });
    const results = await run.interleave([
      ...floorEntries(`${large}/commit_log`, ["read", "split into lines"]),
      entry("small", `eventfold-es, ${describe(SMALL)}`, small, SMALL.accounts * SMALL.deposits),
      entry("large", `eventfold-es, ${describe(size)}`, large, events),
    ]);
    return {
      work: `the same over ${describe(size)}`,
      results,
      columns: [...MS_COLUMNS, { heading: "µs per event", metric: "perEvent" }],
      checks: [
        check(
          "≤ 1.2 s for a million events",
          (middle(results, "large", "ms") / events) * 1_000_000,
          { most: 1200 },
          "ms per million",
        ),
        check("time per event ≤ 1.3 × that of line 5", ratio(results, "large", "small", "perEvent"), { most: 1.3 }),
        checkLoop(results, ["large"]),
      ],
      elsewhere: "Rust crate: opens every stream's file",
    };
  },
};

const readFresh: Line = {
  number: 7,
  async measure(run) {
    const size = largeSize(run);
    const times = run.size(500, 200);
    const entry = (key: string, { accounts, deposits }: Size): Entry => ({
      key,
      title: `eventfold-es, ${number(accounts)} streams`,
      sample: async () => {
        const directory = await run.prepared({ contender: "ours", accounts, deposits }, "write");
        return measure({ task: "fresh", directory, account: "acct-0", times });
      },
    });
    const results = await run.interleave([entry("small", SMALL), entry("large", size)]);
    return {
      work: "read a projection after one new event",
      results,
      columns: [
        { heading: "p50, ms", metric: "p50" },
        { heading: "p99, ms", metric: "p99" },
      ],
      checks: [
        check("≤ 0.3 ms at 1,000 streams", middle(results, "small", "p50"), { most: 0.3 }, "ms"),
        check(`the same at ${number(size.accounts)} (≤ 0.3 ms)`, middle(results, "large", "p50"), { most: 0.3 }, "ms"),
      ],
      elsewhere: "Rust crate 7.4 ms at 1,000 streams, growing with their number",
    };
  },
};

const skip: Line = {
  number: 8,
  async measure(run) {
    const size = largeSize(run);
    const directory = await run.prepared({ contender: "ours", ...size });
    const events = size.accounts * (size.deposits + 1);
    const scan = async (work: "read" | "split into lines"): Promise<Sample> => {
      const sample = await measure({ task: "read floor", path: `${directory}/commit_log`, work });
      return { ...sample, perSecond: (events / (sample["ms"] ?? Number.NaN)) * 1000 };
    };
    const results: Result[] = await run.interleave([
      { key: "read", title: "floor: read", sample: () => scan("read") },
      { key: "scan", title: "floor: split into lines", sample: () => scan("split into lines") },
      { key: "ours", title: "eventfold-es", sample: () => measure({ task: "skip", directory, events }) },
    ]);
    return {
      work: `a projection that handles none of ${number(events)} events`,
      results,
      columns: [{ heading: "events/s", metric: "perSecond" }, ...MS_COLUMNS],
      checks: [
        check("≥ 10 million events per second", middle(results, "ours", "perSecond") / 1e6, { least: 10 }, "million/s"),
        checkLoop(results, ["ours"]),
      ],
    };
  },
};

export const readingLines: readonly Line[] = [load, projectSmall, projectLarge, readFresh, skip];
