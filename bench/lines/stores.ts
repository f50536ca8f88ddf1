import { number } from "../format.ts";
import { measure } from "../measure.ts";
import { check, checkLoop, middle, ratio } from "../compare.ts";
import type { CreateTask } from "../tasks/stores.ts";
import type { Line } from "./line.ts";

const open: Line = {
  number: 9,
  async measure(run) {
    const size = { accounts: run.size(100_000, 10_000), deposits: 10 };
    const directory = await run.prepared({ contender: "ours", ...size }, "write");
    const results = await run.interleave([
      { key: "ours", title: "eventfold-es", sample: () => measure({ task: "open", directory }) },
    ]);
    return {
      work: `open a cleanly closed store: ${number(size.accounts)} streams, ${number(size.accounts * size.deposits)} events, in a process that has opened nothing before`,
      results,
      columns: [
        { heading: "ms", metric: "ms" },
        { heading: "processor, ms", metric: "cpuMs" },
        { heading: "open and close again, ms", metric: "againMs" },
        { heading: "first command, ms", metric: "commandMs" },
        { heading: "first list of streams, ms", metric: "listMs" },
      ],
      checks: [check("≤ 30 ms", middle(results, "ours", "ms"), { most: 30 }, "ms"), checkLoop(results, ["ours"])],
      elsewhere: "Rust crate: quadratic in what it opens next",
    };
  },
};

const create: Line = {
  number: 10,
  async measure(run) {
    const accounts = run.size(10_000, 4000);
    const fewer = accounts / 4;
    const task = (way: CreateTask["way"], count: number): CreateTask => ({
      task: "create",
      directory: run.directory(),
      accounts: count,
      way,
    });
    const results = await run.interleave([
      {
        key: "by hand",
        title: "floor: directories and files by hand",
        sample: () => measure(task("by hand", accounts)),
      },
      { key: "ours", title: "eventfold-es", sample: () => measure(task("ours", accounts)) },
      { key: "fewer", title: `eventfold-es, ${number(fewer)} instances`, sample: () => measure(task("ours", fewer)) },
    ]);
    return {
      work: `first command to ${number(accounts)} new instances, all at once`,
      results,
      columns: [
        { heading: "ms", metric: "ms" },
        { heading: "processor, ms", metric: "cpuMs" },
        { heading: "instances/s", metric: "perSecond" },
      ],
      checks: [
        check("≤ 1.5 × by hand", ratio(results, "ours", "by hand", "ms"), { most: 1.5 }),
        check(
          `linear: per second ≥ 0.8 × that of ${number(fewer)} instances`,
          ratio(results, "ours", "fewer", "perSecond"),
          { least: 0.8 },
        ),
        checkLoop(results, ["ours"]),
      ],
      elsewhere: "Rust crate: 8,000 take 27 s, growing with the square",
    };
  },
};

const live: Line = {
  number: 11,
  async measure(run) {
    const accounts = run.size(100_000, 10_000);
    const directory = await run.prepared({ contender: "ours", accounts, deposits: 10 }, "write");
    const results = await run.interleave([
      {
        key: "ours",
        title: "eventfold-es",
        sample: () => measure({ task: "live", directory, accounts, commands: run.size(10_000, 2000) }),
      },
    ]);
    return {
      work: `${number(accounts)} live instances, small state`,
      results,
      columns: [
        { heading: "heap, bytes each", metric: "heapBytes" },
        { heading: "resident memory, bytes each", metric: "residentBytes" },
        { heading: "descriptors", metric: "descriptors" },
        { heading: "threads more", metric: "threads" },
        { heading: "load all, ms", metric: "loadMs" },
        { heading: "commands/s", metric: "perSecond" },
        { heading: "p50 of a command, ms", metric: "p50" },
      ],
      checks: [
        check("resident memory ≤ 3 KB each", middle(results, "ours", "residentBytes"), { most: 3072 }, "bytes"),
        check("no thread", middle(results, "ours", "threads"), { most: 0 }, "threads"),
        check("≤ 512 descriptors", middle(results, "ours", "descriptors"), { most: 512 }, "descriptors"),
        checkLoop(results, ["ours"]),
      ],
      elsewhere: "Rust crate: 33 KB, a thread and a descriptor each",
    };
  },
};

export const storeLines: readonly Line[] = [open, create, live];
