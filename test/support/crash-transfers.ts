import { isDeepStrictEqual } from "node:util";
import { AggregateStore, projection, type RecordedEvent } from "eventfold-es";
import {
  checkEvents,
  checkStoreFiles,
  type CrashRemains,
  type CrashScenario,
  type CrashWorld,
  type FileSystem,
  nameOf,
  type SimulatedDisk,
} from "eventfold-es/testing";
import { nextEventId } from "./crash-stores.ts";
import { killAfter } from "./kill-after.ts";
import { Purse, Transfer, Transfers } from "./transfer.ts";
import { crateCursor } from "./rust-crate.ts";

const Balances = projection("balances", () => ({ events: 0, byPurse: {} as Record<string, number> })).on(Purse, {
  Filled: (s, e) => move(s, e.id, e.data.amount),
  Taken: (s, e) => move(s, e.id, -e.data.amount),
  Given: (s, e) => move(s, e.id, e.data.amount),
});

function move(state: { events: number; byPurse: Record<string, number> }, id: string, amount: number): void {
  state.events++;
  state.byPurse[id] = (state.byPurse[id] ?? 0) + amount;
}

function openTransfers(fileSystem: FileSystem) {
  return AggregateStore.builder("/store")
    .aggregate(Purse)
    .aggregate(Transfer)
    .projection(Balances)
    .processManager(Transfers)
    .processManagerMode("manual")
    .fileSystem(fileSystem)
    .clock(() => 1_700_000_000_000)
    .ids(nextEventId)
    .open();
}

type TransferStore = Awaited<ReturnType<typeof openTransfers>>;
type World = CrashWorld<TransferStore>;
export type TransferScenario = CrashScenario<TransferStore>;

function fill(world: World, id: string, amount: number): Promise<unknown> {
  return world.commit((context) => world.store.get(Purse, id).execute(Purse.commands.Fill({ amount }), context));
}

/** A transfer. With too little money in the purse, it ends as a dead letter. */
function request(world: World, id: string, from: string): Promise<unknown> {
  const command = Transfer.commands.Request({ from, to: "b", amount: 10 });
  return world.commit((context) => world.store.get(Transfer, id).execute(command, context));
}

async function allEvents(store: TransferStore): Promise<RecordedEvent[]> {
  const events: RecordedEvent[] = [];
  for (const { type, id } of await store.listStreams())
    for await (const event of store.readEvents(type, id)) events.push(event);
  return events.sort((a, b) => a.position - b.position);
}

/** How many of each event a transfer has. */
function countOutputs(events: readonly RecordedEvent[]): Map<string, Record<string, number>> {
  const outputs = new Map<string, Record<string, number>>();
  for (const { aggregate, id, type, data } of events) {
    const transfer = aggregate === "transfer" ? id : (data as { readonly transfer?: string }).transfer;
    if (transfer === undefined) continue;
    const counts = outputs.get(transfer) ?? {};
    counts[type] = (counts[type] ?? 0) + 1;
    outputs.set(transfer, counts);
  }
  return outputs;
}

function expectSame(what: string, found: unknown, expected: unknown): void {
  if (!isDeepStrictEqual(found, expected))
    throw new Error(`${what}: ${JSON.stringify(found)}; expected ${JSON.stringify(expected)}`);
}

/** The process manager has sent each command exactly once, and the projection agrees with the events. */
async function checkTransfers({ disk, store, commits }: CrashRemains<TransferStore>): Promise<readonly string[]> {
  for (const [transfer, counts] of countOutputs(await allEvents(store)))
    if (Object.values(counts).some((count) => count > 1)) expectSame(transfer, counts, "each at most once");
  await store.runProcessManagers();
  const events = await allEvents(store);
  let poor = 0;
  for (const [transfer, counts] of countOutputs(events)) {
    if (transfer.startsWith("poor")) poor++;
    expectSame(
      transfer,
      counts,
      transfer.startsWith("poor") ? { Requested: 1 } : { Requested: 1, Taken: 1, Given: 1, Completed: 1 },
    );
  }
  expectSame("dead letters", (await store.deadLetters()).length, poor);
  const balances = { events: 0, byPurse: {} as Record<string, number> };
  for (const { aggregate, id, type, data } of events) {
    const { amount } = (data ?? {}) as { readonly amount?: number };
    if (aggregate === "purse" && amount !== undefined) move(balances, id, type === "Taken" ? -amount : amount);
  }
  expectSame("the projection", await store.projection(Balances), balances);
  // The events of the manager's commands carry the correlation id of the first command.
  const seen = events.map((event) =>
    event.causationId === undefined ? event : { ...event, correlationId: undefined },
  );
  checkEvents(seen, commits);
  checkStoreFiles(disk, "/store", seen);
  return seen.map(nameOf);
}

const goOn = async (world: World): Promise<void> => {
  await fill(world, "a", 10);
  await request(world, `t${world.commits().length}`, "a");
  await world.store.projection(Balances);
};

/** A process manager and a projection: run, stopped with and without checkpoints, and killed while they work. */
export function transfersScenario(n: number): TransferScenario {
  return {
    open: openTransfers,
    check: checkTransfers,
    goOn,
    workload: async (world) => {
      await fill(world, "a", 1000);
      await request(world, "t0", "a");
      await world.store.runProcessManagers();
      await world.store.projection(Balances);
      await Promise.all([request(world, "t1", "a"), request(world, "poor0", "c"), world.store.runProcessManagers()]);
      await world.store.close();
      const { store, process } = await world.open();
      await request({ ...world, store }, "t2", "a");
      await store.projection(Balances);
      const killed = killAfter(world.disk, process, 10 + ((n * 17) % 90));
      await Promise.allSettled([store.runProcessManagers(), request({ ...world, store }, "poor1", "c")]);
      await killed;
      const { store: last } = await world.open();
      await request({ ...world, store: last }, "t3", "a");
      await last.runProcessManagers();
      await last.projection(Balances);
      await last.close();
    },
  };
}

/** The same process manager in two processes, of which one is killed. */
export function sharedTransfersScenario(n: number): TransferScenario {
  return {
    open: openTransfers,
    check: checkTransfers,
    goOn,
    workload: async (world) => {
      const { store: other, process } = await world.open();
      await fill(world, "a", 1000);
      for (let i = 0; i < 2; i++) {
        await Promise.all([request(world, `t${i}x`, "a"), request({ ...world, store: other }, `t${i}y`, "a")]);
        await Promise.all([world.store.runProcessManagers(), other.runProcessManagers()]);
      }
      await request(world, "t2", "a");
      const killed = killAfter(world.disk, process, (n * 23) % 80);
      await Promise.allSettled([other.runProcessManagers(), world.store.runProcessManagers()]);
      await killed;
      await world.store.runProcessManagers();
      await world.store.close();
    },
  };
}

/** A directory in which the Rust crate has carried a transfer through. Commands that its checkpoint covers are never repeated. */
export function adoptedTransfersScenario(n: number): TransferScenario {
  return {
    open: openTransfers,
    check: checkTransfers,
    goOn,
    prepare: writeAsTheOriginal,
    workload: async (world) => {
      // Replaces the Rust crate's checkpoint by one of ours, with no note of the manager in the log.
      await world.store.runProcessManagers();
      if (n % 2 === 0) await world.store.projection(Balances);
      await world.store.close();
      const { store } = await world.open();
      await request({ ...world, store }, "t1", "a");
      await store.runProcessManagers();
      await request({ ...world, store }, "t2", "a");
      await store.runProcessManagers();
      await store.close();
    },
  };
}

function writeAsTheOriginal(disk: SimulatedDisk): void {
  const write = (path: string, text: string): void => {
    disk.makeDirectory(path.slice(0, path.lastIndexOf("/")));
    const file = disk.open(path, "create");
    const bytes = new TextEncoder().encode(text);
    file.write(bytes, 0, bytes.length, 0);
    file.close();
  };
  const streams = {
    "purse/a": ['"Filled","data":{"amount":1000}', '"Taken","data":{"amount":10,"transfer":"t0"}'],
    "purse/b": ['"Given","data":{"amount":10,"transfer":"t0"}'],
    "transfer/t0": ['"Requested","data":{"amount":10,"from":"a","to":"b"}', '"Completed","data":null'],
  };
  const cursors: Record<string, object> = {};
  for (const [stream, events] of Object.entries(streams)) {
    const text = events.map((event, i) => `{"type":${event},"ts":${1_600_000_000 + i}}\n`).join("");
    write(`/store/streams/${stream}/app.jsonl`, text);
    cursors[stream] = crateCursor(text);
  }
  write("/store/process_managers/transfers/checkpoint.json", JSON.stringify({ state: {}, cursors }, undefined, 2));
  disk.settle();
}
