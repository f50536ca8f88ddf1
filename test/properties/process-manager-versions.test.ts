import { aggregate, AggregateStore, data, processManager } from "eventfold-es";
import { diskAfterKill, SimulatedDisk } from "eventfold-es/testing";
import fc from "fast-check";
import { expect, test } from "vitest";
import { killAfter } from "../support/kill-after.ts";

const TYPES = ["A", "B", "C"] as const;
type Type = (typeof TYPES)[number];

const Source = aggregate("source", {
  initial: null,
  events: { A: data<{ n: number }>(), B: data<{ n: number }>(), C: data<{ n: number }>() },
  commands: { Emit: data<{ type: "A" | "B" | "C"; n: number }>() },
}).define({
  handle: { Emit: ({ data: { type, n }, emit }) => emit[type]({ n }) },
  apply: { A: (s) => s, B: (s) => s, C: (s) => s },
});

const Sink = aggregate("sink", {
  initial: { taken: [] as readonly string[] },
  events: { Taken: data<{ what: string }>() },
  commands: { Take: data<{ what: string }>() },
}).define({
  handle: { Take: ({ data: d, emit }) => emit.Taken(d) },
  apply: { Taken: (s, { what }) => ({ taken: [...s.taken, what] }) },
});

/** How one version of the manager reacts to a type: how many commands, to every how many-th event. */
interface Reaction {
  readonly every: number;
  readonly commands: number;
}

interface Version {
  readonly reactions: Partial<Record<Type, Reaction>>;
  readonly startFrom: "beginning" | "now" | undefined;
  readonly state: "number" | "map" | "bigint" | "undefined";
}

const INITIAL: Record<Version["state"], () => unknown> = {
  number: () => 0,
  map: () => new Map([["seen", 1]]),
  bigint: () => 1n,
  undefined: () => ({ maybe: undefined }),
};

/** What a version sends for an event. */
function outputs({ every, commands }: Reaction, type: Type, n: number): string[] {
  return n % every === 0 ? Array.from({ length: commands }, (_, i) => `${type}${n}-${every}.${i}`) : [];
}

function managerOf({ reactions, startFrom, state }: Version) {
  const react = (type: Type) => {
    const reaction = reactions[type];
    if (reaction === undefined) return undefined;
    return (_: unknown, { data: { n } }: { readonly data: { readonly n: number } }) =>
      outputs(reaction, type, n).map((what) => Sink.at("s").Take({ what }));
  };
  const handlers = Object.fromEntries(
    TYPES.flatMap((type) => (reactions[type] === undefined ? [] : [[type, react(type)]])),
  );
  return processManager("manager", {
    dispatches: [Sink],
    initial: INITIAL[state],
    version: JSON.stringify([reactions, state]),
    ...(startFrom === undefined ? {} : { startFrom }),
  }).on(Source, handlers);
}

function open(disk: SimulatedDisk, version: Version, fileSystem = disk.process()) {
  return AggregateStore.builder("/store")
    .aggregate(Source)
    .aggregate(Sink)
    .processManager(managerOf(version))
    .processManagerMode("manual")
    .fileSystem(fileSystem)
    .open();
}

const ENDS = ["in good order", "killed", "checkpoint deleted", "checkpoint corrupted", "checkpoint emptied"] as const;
type End = (typeof ENDS)[number];
const CHECKPOINT = /process_managers\/manager\/checkpoint/;

/** The disk as the next process finds it. */
async function end(disk: SimulatedDisk, store: Awaited<ReturnType<typeof open>>, how: End): Promise<SimulatedDisk> {
  if (how === "killed") return diskAfterKill(disk);
  await store.close();
  for (const path of disk.files().filter((name) => CHECKPOINT.test(name))) {
    if (how === "checkpoint deleted") disk.remove(path);
    if (how !== "checkpoint corrupted" && how !== "checkpoint emptied") continue;
    const file = disk.open(path, "update");
    if (how === "checkpoint emptied") file.truncate(0);
    else file.write(new TextEncoder().encode("x"), 0, 1, Math.floor(file.size() / 2));
    file.close();
  }
  return disk;
}

const reaction = fc.record({ every: fc.integer({ min: 1, max: 3 }), commands: fc.integer({ min: 1, max: 2 }) });
const version: fc.Arbitrary<Version> = fc.record({
  reactions: fc.record({ A: reaction, B: reaction, C: reaction }, { requiredKeys: [] }),
  startFrom: fc.constantFrom("beginning", "now", undefined, undefined),
  state: fc.constantFrom<Version["state"]>("number", "map", "bigint", "undefined"),
});
const round = fc.record({
  version,
  events: fc.array(fc.constantFrom(...TYPES), { maxLength: 5 }),
  runs: fc.boolean(),
  end: fc.constantFrom(...ENDS),
});

test("what a process manager sends follows from the events and its versions, however it ended and whatever became of its checkpoint", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(round, { minLength: 2, maxLength: 6 }), async (rounds) => {
      let disk = new SimulatedDisk();
      const events: { readonly type: Type; readonly n: number }[] = [];
      /** How many of all events each handler is past. */
      const past = new Map<Type, number>();
      const expected: string[] = [];
      for (const { version: current, events: types, runs, end: how } of rounds) {
        const store = await open(disk, current);
        const isNew = TYPES.filter((type) => current.reactions[type] !== undefined && !past.has(type));
        if (current.startFrom === "now") for (const type of isNew) past.set(type, events.length);
        for (const type of types) {
          await store.dispatch(Source.at("a").Emit({ type, n: events.length }));
          events.push({ type, n: events.length });
        }
        if (runs) {
          await store.runProcessManagers();
          for (const [index, { type, n }] of events.entries()) {
            const react = current.reactions[type];
            if (react !== undefined && index >= (past.get(type) ?? 0)) expected.push(...outputs(react, type, n));
          }
          for (const type of TYPES) if (current.reactions[type] !== undefined) past.set(type, events.length);
        }
        disk = await end(disk, store, how);
      }
      const store = await open(disk, { reactions: {}, startFrom: undefined, state: "number" });
      expect((await store.get(Sink, "s").state()).taken).toEqual(expected);
      await store.close();
    }),
    { numRuns: 30 },
  );
});

test("a process manager that is killed while it works sends each command of every handler once", async () => {
  const sets = fc.subarray([...TYPES], { minLength: 1 });
  const step = fc.record({
    handlers: sets,
    events: fc.array(fc.constantFrom(...TYPES), { maxLength: 6 }),
    calls: fc.nat(60),
    end: fc.constantFrom(...ENDS),
  });
  const same: Record<Type, Reaction> = {
    A: { every: 1, commands: 2 },
    B: { every: 2, commands: 1 },
    C: { every: 1, commands: 1 },
  };
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 2, maxLength: 5 }), async (steps) => {
      let disk = new SimulatedDisk();
      const events: { readonly type: Type; readonly n: number }[] = [];
      const versionOf = (types: readonly Type[]): Version => ({
        reactions: Object.fromEntries(types.map((type) => [type, same[type]])),
        startFrom: undefined,
        state: "number",
      });
      for (const { handlers, events: types, calls, end: how } of steps) {
        const process = disk.process();
        const store = await open(disk, versionOf(handlers), process);
        for (const type of types) {
          await store.dispatch(Source.at("a").Emit({ type, n: events.length }));
          events.push({ type, n: events.length });
        }
        const work = store.runProcessManagers().catch(() => {});
        if (how === "killed") {
          await killAfter(disk, process, calls);
          disk = diskAfterKill(disk);
        } else {
          await work;
          disk = await end(disk, store, how);
        }
      }
      const store = await open(disk, versionOf(TYPES));
      await store.runProcessManagers();
      const { taken } = await store.get(Sink, "s").state();
      expect([...taken].sort()).toEqual(events.flatMap(({ type, n }) => outputs(same[type], type, n)).sort());
      await store.close();
    }),
    { numRuns: 20 },
  );
});
