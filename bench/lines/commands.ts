import { type ContenderName, contender, PEERS } from "../contenders/contenders.ts";
import { number } from "../format.ts";
import { measure } from "../measure.ts";
import { check, checkLoop, middle, ratio } from "../compare.ts";
import type { Entry, Run } from "../run.ts";
import type { CommandsTask } from "../tasks/commands.ts";
import type { Line } from "./line.ts";

const COMMAND_COLUMNS = [
  { heading: "commands/s", metric: "perSecond" },
  { heading: "p50, ms", metric: "p50" },
  { heading: "p99, ms", metric: "p99" },
  { heading: "processor, µs each", metric: "cpuMicros" },
];

/** An account this long must not be slower than a new one. */
const LONG_STREAM = 100_000;

const oneByOne: Line = {
  number: 1,
  async measure(run) {
    const commands = run.size(2000, 1000);
    const long = await run.prepared({ contender: "ours", accounts: 1, deposits: LONG_STREAM }, "write");
    const task = (name: ContenderName): CommandsTask => ({
      task: "commands",
      contender: name,
      directory: run.directory(),
      accounts: 1,
      // A tenth is enough for one that takes many milliseconds.
      commands: contender(name).slow === true ? commands / 10 : commands,
      pace: "one by one",
    });
    const floors = (["asynchronous", "synchronous", "write and fdatasync"] as const).map((way): Entry => ({
      key: way,
      title: `floor: 150 bytes, ${way}`,
      sample: () => measure({ task: "floor", directory: run.directory(), way, writes: commands }),
    }));
    const results = await run.interleave([
      ...floors,
      ...run.entries(["ours"], task),
      {
        key: "long",
        title: `eventfold-es, account of ${number(LONG_STREAM)} events`,
        sample: () => measure({ ...task("ours"), directory: long, filled: true }),
      },
      ...run.entries([...PEERS, "ours-os", "ours-memory"], task),
    ]);
    return {
      work: `one instance, ${number(commands)} commands, one after the other`,
      results,
      columns: COMMAND_COLUMNS,
      checks: [
        check("p50 ≤ 1.25 × an asynchronous durable write", ratio(results, "ours", "asynchronous", "p50"), {
          most: 1.25,
        }),
        check("≥ 1 × better-sqlite3 by hand", ratio(results, "ours", "sqlite", "perSecond"), { least: 1 }),
        check(
          `flat: p50 after ${number(LONG_STREAM)} events ≤ 1.15 × that of a new account`,
          ratio(results, "long", "ours", "p50"),
          { most: 1.15 },
        ),
        checkLoop(results, ["ours", "long"]),
      ],
      elsewhere: "Rust crate 892/s; best framework 1,751/s",
    };
  },
};

function concurrentTask(run: Run, commands: number, pace: CommandsTask["pace"]): (name: ContenderName) => CommandsTask {
  return (name) => ({ task: "commands", contender: name, directory: run.directory(), accounts: 200, commands, pace });
}

const concurrent: Line = {
  number: 2,
  async measure(run) {
    const commands = 20;
    const task = concurrentTask(run, commands, "one by one");
    const results = await run.interleave([
      ...run.entries(["ours", ...PEERS, "ours-os", "ours-memory"], task),
      {
        key: "at once",
        title: "eventfold-es, all commands at once",
        sample: () => measure(concurrentTask(run, commands, "at once")("ours")),
      },
    ]);
    return {
      work: `200 instances at the same time, ${commands} commands each, one after the other`,
      results,
      columns: [...COMMAND_COLUMNS, { heading: "failed", metric: "failed" }],
      checks: [
        check("≥ 2 × lmdb by hand", ratio(results, "ours", "lmdb", "perSecond"), { least: 2 }),
        check("≥ 12 × better-sqlite3 by hand", ratio(results, "ours", "sqlite", "perSecond"), { least: 12 }),
        check("no command fails", middle(results, "ours", "failed"), { most: 0 }, "failed"),
        checkLoop(results, ["ours", "at once"]),
      ],
      elsewhere: "Rust crate 3,169/s; best framework 1,771/s",
    };
  },
};

/** What the Rust crate does there, and how much more is asked for. */
const ORIGINAL_AT_ONCE = 1060;

const atOnce: Line = {
  number: 3,
  async measure(run) {
    const commands = 2000;
    const task = (name: ContenderName): CommandsTask => ({
      task: "commands",
      contender: name,
      directory: run.directory(),
      accounts: 1,
      commands: contender(name).slow === true ? commands / 10 : commands,
      pace: "at once",
    });
    const results = await run.interleave(run.entries(["ours", ...PEERS, "ours-os", "ours-memory"], task));
    return {
      work: `one instance, ${number(commands)} commands at once`,
      results,
      columns: COMMAND_COLUMNS,
      checks: [
        check(
          `≥ 50 × the Rust crate's ${number(ORIGINAL_AT_ONCE)}/s as measured elsewhere`,
          middle(results, "ours", "perSecond") / ORIGINAL_AT_ONCE,
          { least: 50 },
        ),
        checkLoop(results, ["ours"]),
      ],
      elsewhere: "Rust crate 1,060/s",
    };
  },
};

export const commandLines: readonly Line[] = [oneByOne, concurrent, atOnce];
