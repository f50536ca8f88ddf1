import { measure } from "../measure.ts";
import { measureProcesses } from "../processes.ts";
import type { Sample } from "../tasks/task.ts";
import type { Curve } from "./curve.ts";

/** A metric of a sample under another name. */
function renamed(sample: Sample, names: Readonly<Record<string, string>>): Sample {
  return Object.fromEntries(Object.entries(names).map(([to, from]) => [to, sample[from] ?? Number.NaN]));
}

const streamLength: Curve = {
  name: "stream-length",
  title: "Events in the stream",
  axis: "events in the stream",
  sizes: [1000, 10_000, 100_000, 1_000_000],
  quick: 100_000,
  panels: [
    {
      title: "Commands of that instance, one after the other",
      scale: "linear",
      series: [{ metric: "perSecond", label: "commands per second" }],
    },
    {
      title: "Milliseconds",
      scale: "logarithmic",
      series: [
        { metric: "loadMs", label: "load, no snapshot" },
        { metric: "snapshotMs", label: "load, with a snapshot" },
        { metric: "commandMs", label: "p50 of a command" },
      ],
    },
  ],
  async measure(run, size) {
    const store = { contender: "ours", accounts: 1, deposits: size } as const;
    const written = await run.prepared(store, "curve");
    const commands = await measure({
      task: "commands",
      contender: "ours",
      directory: written,
      accounts: 1,
      commands: 500,
      pace: "one by one",
      filled: true,
    });
    const load = { task: "load", contender: "ours", events: size, expected: size } as const;
    const loaded = await measure({ ...load, directory: await run.prepared(store) });
    const withSnapshot = await measure({ ...load, directory: written, cached: true });
    return {
      perSecond: commands["perSecond"] ?? Number.NaN,
      commandMs: commands["p50"] ?? Number.NaN,
      loadMs: loaded["ms"] ?? Number.NaN,
      snapshotMs: withSnapshot["ms"] ?? Number.NaN,
    };
  },
};

const streams: Curve = {
  name: "streams",
  title: "Streams in the store",
  axis: "streams (10 events each)",
  sizes: [1000, 10_000, 100_000],
  quick: 10_000,
  panels: [
    {
      title: "Opening, milliseconds",
      scale: "logarithmic",
      series: [
        { metric: "openMs", label: "open" },
        { metric: "firstMs", label: "first command after it" },
        { metric: "listMs", label: "first list of all streams" },
      ],
    },
    {
      title: "Milliseconds (p50)",
      scale: "linear",
      series: [
        { metric: "commandMs", label: "a command" },
        { metric: "readMs", label: "read a projection after one event" },
      ],
    },
  ],
  async measure(run, size) {
    const directory = await run.prepared({ contender: "ours", accounts: size, deposits: 10 }, "write");
    const opened = await measure({ task: "open", directory });
    const fresh = await measure({ task: "fresh", directory, account: "acct-0", times: 200 });
    return {
      ...renamed(opened, { openMs: "ms", firstMs: "commandMs", listMs: "listMs" }),
      ...renamed(fresh, { commandMs: "commandP50", readMs: "p50" }),
    };
  },
};

const liveInstances: Curve = {
  name: "live-instances",
  title: "Instances in memory",
  axis: "live instances",
  sizes: [1000, 10_000, 100_000],
  quick: 10_000,
  panels: [
    {
      title: "Bytes for each instance",
      scale: "linear",
      series: [
        { metric: "heapBytes", label: "heap" },
        { metric: "residentBytes", label: "resident memory" },
      ],
    },
    {
      title: "Commands to 1,000 of them",
      scale: "linear",
      series: [{ metric: "perSecond", label: "commands per second, at once" }],
    },
  ],
  async measure(run, size) {
    const directory = await run.prepared({ contender: "ours", accounts: size, deposits: 10 }, "write");
    return measure({ task: "live", directory, accounts: size, commands: 1000 });
  },
};

const projections: Curve = {
  name: "projections",
  title: "Projections in the store",
  axis: "projections, all handling everything",
  sizes: [1, 2, 5, 10, 20, 50],
  quick: 10,
  panels: [
    {
      title: "First catch-up of all, 100,000 events, ms",
      scale: "logarithmic",
      series: [{ metric: "catchUpMs", label: "all projections" }],
    },
    {
      title: "After one new event, milliseconds (p50)",
      scale: "logarithmic",
      series: [
        { metric: "readMs", label: "read all projections" },
        { metric: "commandMs", label: "the command itself" },
      ],
    },
  ],
  async measure(run, size) {
    const filled = { contender: "ours", accounts: 1000, deposits: 100 } as const;
    const directory = await run.prepared(filled, "projections");
    const fresh = await measure({
      task: "fresh",
      directory,
      account: "acct-0",
      times: 200,
      projections: size,
      rebuild: true,
    });
    return { ...renamed(fresh, { catchUpMs: "catchUpMs", readMs: "p50", commandMs: "commandP50" }) };
  },
};

const eventSize: Curve = {
  name: "event-size",
  title: "Size of an event",
  axis: "bytes of an event",
  sizes: [100, 1000, 10_000, 100_000, 1_000_000],
  quick: 100_000,
  panels: [
    {
      title: "One instance, one after the other: ms (p50)",
      scale: "logarithmic",
      series: [
        { metric: "commandMs", label: "a command" },
        { metric: "floorMs", label: "one durable write" },
      ],
    },
    {
      title: "MB of events per second",
      scale: "logarithmic",
      series: [{ metric: "megabytes", label: "commands" }],
    },
  ],
  async measure(run, size) {
    const commands = size >= 100_000 ? 50 : 300;
    const ours = await measure({ task: "event size", directory: run.directory(), bytes: size, commands });
    const floor = await measure({
      task: "floor",
      directory: run.directory(),
      way: "asynchronous",
      writes: commands,
      bytes: size,
    });
    return {
      ...renamed(ours, { commandMs: "p50" }),
      ...renamed(floor, { floorMs: "p50" }),
      megabytes: ((ours["perSecond"] ?? Number.NaN) * size) / 1e6,
    };
  },
};

const storeSize: Curve = {
  name: "store-size",
  title: "Events in the store",
  axis: "events (1,000 streams)",
  sizes: [10_000, 100_000, 1_000_000, 5_000_000],
  quick: 100_000,
  panels: [
    {
      title: "Milliseconds",
      scale: "logarithmic",
      series: [
        { metric: "projectMs", label: "projection from nothing" },
        { metric: "openMs", label: "open" },
        { metric: "readMs", label: "read it after one event (p50)" },
        { metric: "commandMs", label: "a command (p50)" },
      ],
    },
    {
      title: "Events projected per second",
      scale: "linear",
      series: [{ metric: "projected", label: "from nothing" }],
    },
  ],
  async measure(run, size) {
    const directory = await run.prepared(
      { contender: "ours", accounts: 1000, deposits: size / 1000, together: 10 },
      "curve",
    );
    const projected = await measure({ task: "project", contender: "ours", directory, events: size, expected: size });
    const opened = await measure({ task: "open", directory });
    const fresh = await measure({ task: "fresh", directory, account: "acct-0", times: 200 });
    return {
      ...renamed(projected, { projectMs: "ms" }),
      ...renamed(opened, { openMs: "ms" }),
      ...renamed(fresh, { readMs: "p50", commandMs: "commandP50" }),
      projected: size / ((projected["ms"] ?? Number.NaN) / 1000),
    };
  },
};

const processes: Curve = {
  name: "processes",
  title: "Processes on one directory",
  axis: "processes, 50 busy instances each",
  sizes: [1, 2, 4, 8],
  quick: 4,
  panels: [
    {
      title: "Commands per second",
      scale: "linear",
      series: [{ metric: "perSecond", label: "all together" }],
    },
    {
      title: "Slowest ÷ fastest process",
      scale: "linear",
      series: [{ metric: "share", label: "commands per second" }],
    },
    {
      title: "Milliseconds",
      scale: "logarithmic",
      series: [
        { metric: "p50", label: "p50, worst process" },
        { metric: "p99", label: "p99, worst process" },
      ],
    },
  ],
  measure: (run, size) => measureProcesses(run, size, { accounts: 50, commands: run.size(100, 40) }),
};

export const CURVES: readonly Curve[] = [
  ...[streamLength, streams, liveInstances, projections, eventSize, storeSize, processes],
];
