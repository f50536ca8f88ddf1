import {
  type CrashScenario,
  type CrashWorld,
  type DiskFault,
  type FileSystem,
  type SimulatedDisk,
} from "eventfold-es/testing";
import { isEventfoldError } from "eventfold-es";
import type { FileEventStore } from "../../src/file-store/file-event-store.ts";
import {
  backupScenario,
  importScenario,
  killedBackupScenario,
  killedWriterScenario,
  restoreScenario,
} from "./crash-copies.ts";
import { notesScenario } from "./crash-notes.ts";
import { type OrderScenario, orderScenario } from "./crash-order.ts";
import { type OutcomesScenario, outcomesScenario } from "./crash-outcomes.ts";
import { type PersonalScenario, personalScenario } from "./crash-personal.ts";
import { type ReplicaScenario, replicasScenario } from "./crash-replicas.ts";
import { reclaimScenario, sharedReclaimScenario } from "./crash-reclaim.ts";
import { type ScheduleScenario, schedulesScenario } from "./crash-schedules.ts";
import { type SubscriptionScenario, subscriptionsScenario } from "./crash-subscriptions.ts";
import { killAfter } from "./kill-after.ts";
import { RustCrate } from "./rust-crate.ts";
import {
  adoptedTransfersScenario,
  sharedTransfersScenario,
  transfersScenario,
  type TransferScenario,
} from "./crash-transfers.ts";
import {
  add,
  append,
  checkLog,
  checkSums,
  compact,
  drop,
  openLog,
  openSums,
  Sum,
  type SumStore,
  versionOf,
} from "./crash-stores.ts";

type SumScenario = CrashScenario<SumStore>;
type LogScenario = CrashScenario<FileEventStore>;

const onSums = (workload: SumScenario["workload"]): SumScenario => ({
  open: openSums,
  check: checkSums,
  workload,
  goOn: async (world) => {
    await add(world, "ada", [1]);
    await Promise.all([add(world, "new", [1, 2]), add(world, "bob", [3])]);
  },
});

const onLog = (workload: LogScenario["workload"], open: LogScenario["open"] = openLog): LogScenario => ({
  open,
  check: checkLog,
  workload,
  goOn: async (world) => {
    await append(world, { a: 1 });
    await append(world, { new: 2, b: 1 });
  },
});

/** Events of a sum that fold to a state. */
const into = ({ total, steps }: { readonly total: number; readonly steps: number }) =>
  Array.from({ length: steps }, (_, i) => Sum.events.Added({ by: i === 0 ? total : 0, note: "" }));

/** One seed of a kind of workload. */
export interface Workload {
  readonly kind: string;
  /** A scenario without seed and limits; `n` selects a variant. */
  readonly scenario: (
    n: number,
  ) =>
    | SumScenario
    | LogScenario
    | TransferScenario
    | OrderScenario
    | OutcomesScenario
    | PersonalScenario
    | ReplicaScenario
    | ScheduleScenario
    | SubscriptionScenario;
}

export const WORKLOADS: readonly Workload[] = [
  {
    kind: "commands of several instances at once",
    scenario: () =>
      onSums(async (world) => {
        await add(world, "ada", [1, 2]);
        for (let i = 0; i < 3; i++)
          await Promise.all([add(world, "ada", [i]), add(world, "bob", [1, 2, 3]), add(world, `other ${i}/x`, [4, 5])]);
        await world.store.close();
      }),
  },
  {
    kind: "dispatchAll over several instances",
    scenario: () =>
      onSums(async (world) => {
        for (let i = 0; i < 4; i++) {
          const envelopes = [
            Sum.at("ada").Add({ by: [i] }),
            Sum.at("bob").Add({ by: [1, 2] }),
            Sum.at(`n${i}`).Add({ by: [3], note: "y".repeat(i * 300) }),
          ];
          await world.commit((context) => world.store.dispatchAll(envelopes, context), 4);
        }
      }),
  },
  {
    kind: "snapshots",
    scenario: () =>
      onSums(async (world) => {
        for (let i = 0; i < 7; i++) await add(world, "ada", [i, i]);
        await world.store.close();
        const { store } = await world.open();
        for (let i = 0; i < 4; i++) await add({ ...world, store }, "ada", [i]);
        await store.get(Sum, "ada").state();
      }),
  },
  { kind: "a process manager and a projection", scenario: transfersScenario },
  { kind: "a process manager in two processes", scenario: sharedTransfersScenario },
  { kind: "a process manager of the Rust crate", scenario: adoptedTransfersScenario },
  { kind: "commits without events", scenario: notesScenario },
  { kind: "backups beside commits", scenario: backupScenario },
  { kind: "a process that makes backups is killed", scenario: killedBackupScenario },
  { kind: "a process that writes beside backups is killed", scenario: killedWriterScenario },
  { kind: "a restoration to a position", scenario: restoreScenario },
  { kind: "scheduled commands", scenario: schedulesScenario },
  { kind: "dead letters of a subscription", scenario: subscriptionsScenario },
  { kind: "dead letters of a process manager with order", scenario: orderScenario },
  { kind: "remembered outcomes", scenario: outcomesScenario },
  { kind: "persons are forgotten", scenario: personalScenario },
  { kind: "a replica of a stream", scenario: replicasScenario },
  { kind: "an import that goes on", scenario: importScenario },
  { kind: "dropped events are reclaimed", scenario: reclaimScenario },
  { kind: "a process that reclaims is killed", scenario: sharedReclaimScenario },
  { kind: "new log segments", scenario: () => onLog(segments) },
  { kind: "new log segments without preallocation", scenario: () => onLog(segments, withoutRoom) },
  {
    kind: "close and reopen",
    scenario: () =>
      onLog(async (world) => {
        let { store } = world;
        for (let i = 0; i < 4; i++) {
          await append(world, i % 2 === 0 ? { a: 1, b: 1, c: 2 } : { a: 1, c: 2 }, store);
          await store.close();
          ({ store } = await world.open());
        }
      }),
  },
  {
    kind: "a process is killed and the next one recovers",
    scenario: (n) =>
      onLog(async (world) => {
        for (let i = 0; i < 3; i++) {
          const { store, process } = await world.open();
          const work = Promise.allSettled([append(world, { a: 2, b: 1 }, store), append(world, { c: 1 }, store)]);
          await killAfter(world.disk, process, 15 + ((n * 7 + i * 11) % 60));
          await work;
          await append(world, { a: 1 }, (await world.open()).store);
        }
      }),
  },
  {
    kind: "a process has died while it made the directories",
    scenario: () => ({
      ...onLog(async (world) => {
        await append(world, { a: 1 });
        await world.store.close();
        await append(world, { a: 1, b: 2 }, (await world.open()).store);
      }),
      prepare: (disk) => void disk.makeDirectory("/store/meta"),
    }),
  },
  {
    kind: "two processes",
    scenario: () =>
      onLog(async (world) => {
        const { store: other } = await world.open();
        for (let i = 0; i < 4; i++) {
          await Promise.all([append(world, { b: 1 }), append(world, { c: 2 }, other)]);
          await Promise.all([append(world, { a: 1, b: 1 }), append(world, { a: 2, c: 1 }, other)]);
        }
        await other.close();
        await append(world, { c: 1 });
      }, littleRoom),
  },
  {
    kind: "deletions",
    scenario: () =>
      onLog(async (world) => {
        let { store } = world;
        for (let i = 0; i < 4; i++) {
          await Promise.all([append(world, { a: 2, b: 1 }, store), append(world, { c: 1 }, store)]);
          await Promise.all([drop(world, "a", store), append(world, { b: 1 }, store)]);
          if (i % 2 === 0) await append(world, { a: 1 }, store);
          await store.close();
          ({ store } = await world.open());
        }
        await Promise.all([drop(world, "b", store), drop(world, "c", store), append(world, { a: 1 }, store)]);
      }),
  },
  {
    kind: "compactions",
    scenario: () =>
      onLog(async (world) => {
        let { store } = world;
        for (let i = 0; i < 4; i++) {
          await Promise.all([append(world, { a: 2, b: 1 }, store), append(world, { c: 1 }, store)]);
          await Promise.all([compact(world, "a", 1 + (i % 2), store), append(world, { b: 1 }, store)]);
          if (i % 2 === 0) await append(world, { a: 1 }, store);
          await store.close();
          ({ store } = await world.open());
        }
        await Promise.all([compact(world, "b", 0, store), drop(world, "c", store), append(world, { a: 1 }, store)]);
        await Promise.all([drop(world, "b", store), compact(world, "a", 3, store)]);
      }),
  },
  {
    kind: "instances are compacted, and commands go on",
    scenario: () =>
      onSums(async (world) => {
        for (let i = 0; i < 4; i++) await add(world, "ada", [i, i]);
        await world.commit((context) => world.store.compact(Sum, "ada", { ...context, into }), 9);
        await Promise.all([add(world, "ada", [1, 2]), add(world, "bob", [3])]);
        await world.store.close();
        const { store } = await world.open();
        for (let i = 0; i < 3; i++) await add({ ...world, store }, "ada", [i]);
        await world.commit((context) => store.compact(Sum, "bob", { ...context, into }), 2);
      }),
  },
  {
    kind: "one of two processes is killed while both compact",
    scenario: (n) =>
      onLog(async (world) => {
        const { store: other, process } = await world.open();
        const doomed = (async () => {
          for (let i = 0; i < 6; i++) {
            await append(world, { a: 2, c: 1 }, other);
            await compact(world, i % 2 === 0 ? "a" : "c", 1, other);
          }
        })().catch(() => {});
        const killed = killAfter(world.disk, process, 5 + ((n * 13) % 140));
        for (let i = 0; i < 4; i++) {
          await append(world, { a: 1, b: 1 });
          await compact(world, i % 2 === 0 ? "b" : "a", 2);
        }
        await killed;
        await doomed;
        await append(world, { c: 1 });
        await checkLog({ disk: world.disk, store: world.store, commits: world.commits(), begun: 0, killed: true });
      }),
  },
  {
    kind: "instances are deleted, and one of them for good",
    scenario: () =>
      onSums(async (world) => {
        for (let i = 0; i < 4; i++) await add(world, "ada", [i, i]);
        await world.commit((context) => world.store.delete(Sum, "ada", { ...context, reason: "asked to" }));
        await Promise.all([add(world, "ada", [1, 2]), add(world, "gone", [3])]);
        await world.commit((context) => world.store.delete(Sum, "gone", { ...context, final: true }));
        await world.store.close();
        const { store } = await world.open();
        for (let i = 0; i < 3; i++) await add({ ...world, store }, "ada", [i, i]);
        await world.commit((context) => store.delete(Sum, "ada", context));
      }),
  },
  {
    kind: "one of two processes is killed while both delete",
    scenario: (n) =>
      onLog(async (world) => {
        const { store: other, process } = await world.open();
        const doomed = (async () => {
          for (let i = 0; i < 6; i++) {
            await append(world, { a: 2, c: 1 }, other);
            await drop(world, i % 2 === 0 ? "a" : "c", other);
          }
        })().catch(() => {});
        const killed = killAfter(world.disk, process, 5 + ((n * 13) % 140));
        for (let i = 0; i < 4; i++) {
          await append(world, { a: 1, b: 1 });
          await drop(world, i % 2 === 0 ? "b" : "a");
        }
        await killed;
        await doomed;
        await append(world, { c: 1 });
        await checkLog({ disk: world.disk, store: world.store, commits: world.commits(), begun: 0, killed: true });
      }),
  },
  {
    kind: "one of two processes is killed",
    scenario: (n) =>
      onLog(async (world) => {
        const { store: other, process } = await world.open();
        const doomed = (async () => {
          for (let i = 0; i < 6; i++) await append(world, { a: 2, c: 1 }, other);
        })().catch(() => {});
        const killed = killAfter(world.disk, process, 5 + ((n * 13) % 140));
        for (let i = 0; i < 4; i++) await append(world, { a: 1, b: 1 });
        await killed;
        await doomed;
        await append(world, { c: 1 });
        await checkLog({ disk: world.disk, store: world.store, commits: world.commits(), begun: 0, killed: true });
      }),
  },
  { kind: "calls that fail", scenario: (n) => ({ ...onLog(failing), prepare: (disk) => failAt(disk, n) }) },
  {
    kind: 'durability "os"',
    scenario: (): LogScenario => ({
      ...onLog(segments, (fileSystem) => openLog(fileSystem, { durability: "os" })),
      check: checkPrefix,
    }),
  },
  {
    kind: 'calls that fail, durability "os"',
    scenario: (n): LogScenario => ({
      ...onLog(failing, (fileSystem) => openLog(fileSystem, { durability: "os" })),
      check: checkPrefix,
      prepare: (disk) => failAt(disk, n),
    }),
  },
  {
    kind: "the Rust crate appends to a stream",
    scenario: () =>
      onLog(async (world) => {
        await append(world, { a: 1, b: 1 });
        for (let i = 0; i < 3; i++) {
          await world.commit(async ({ correlationId }) => {
            await appendAsTheOriginal(
              world.disk,
              "a",
              `{"type":"Added","data":${i},"ts":1,"meta":{"correlation_id":"${correlationId}"}}\n`,
            );
            // The next commit adopts the line.
            await append(world, { a: 1 });
          });
          await append(world, { b: 1 });
        }
        await world.store.close();
      }),
  },
  {
    kind: "a process is killed, and the Rust crate appends before the next one recovers",
    scenario: (n) =>
      onLog(async (world) => {
        const crate = new RustCrate(world.disk);
        await append(world, { a: 1, b: 1 });
        // Makes the directories durable, which the crate does not.
        await world.store.close();
        for (let i = 0; i < 4; i++) {
          const { store, process } = await world.open();
          const work = Promise.allSettled([append(world, { a: 2, b: 1 }, store), append(world, { a: 1 }, store)]);
          await killAfter(world.disk, process, 8 + ((n * 7 + i * 13) % 50));
          await work;
          await appendAsCrate(world, crate, "a");
          if (i % 2 === 0) await appendAsCrate(world, crate, "b");
          await append(world, { a: 1 }, (await world.open()).store);
        }
      }),
  },
  {
    kind: "a directory without a commit log",
    scenario: (n) => ({
      ...onLog(async (world) => {
        await append(world, { a: 1, b: 2 });
        await append(world, { a: 1, c: 1 });
      }),
      open: async (fileSystem) => openLog(fileSystem),
      prepare: (disk) => writeAsTheOriginal(disk, 3 + (n % 4)),
    }),
  },
];

async function segments(world: CrashWorld<FileEventStore>): Promise<void> {
  for (let i = 0; i < 6; i++) {
    await Promise.all([append(world, { a: 1 + (i % 3) }), append(world, { b: 2, c: 1 })]);
    await append(world, i % 2 === 0 ? { a: 1 } : { a: 1, d: 1 });
  }
  await world.store.close();
}

/**
 * After a power cut, the last acknowledged commits may be missing, but none before them. After a kill, none may be missing,
 * and none that was acknowledged since the power cut.
 */
async function checkPrefix(remains: Parameters<typeof checkLog>[0]): Promise<readonly string[]> {
  const { killed, begun, commits } = remains;
  if (killed) return checkLog(remains);
  const found = await checkLog({
    ...remains,
    commits: commits.map((commit, i) =>
      i < begun && commit.outcome === "acknowledged" ? { ...commit, outcome: "pending" } : commit,
    ),
  });
  const positionOf = (result: unknown): number => (result as { readonly position: number }).position;
  const answered = commits.slice(0, begun).filter(({ outcome }) => outcome === "acknowledged");
  const missing = new Map<string, string>();
  for (const { id } of answered.sort((a, b) => positionOf(a.result) - positionOf(b.result))) {
    // Commits between two power cuts. Later commits take the positions of lost ones.
    const era = id.replace(/\d+$/, "");
    const there = found.some((line) => line.includes(`"correlationId":"${id}"`));
    if (there && missing.has(era))
      throw new Error(`commit ${id} is there, but ${missing.get(era)} before it is missing`);
    if (!there) missing.set(era, id);
  }
  return found;
}

function withoutRoom(fileSystem: FileSystem): Promise<FileEventStore> {
  return openLog(fileSystem, { log: { segmentBytes: 1200, preallocateBytes: 0 } });
}

/** Every second commit has to preallocate, which takes a flush. */
function littleRoom(fileSystem: FileSystem): Promise<FileEventStore> {
  return openLog(fileSystem, { log: { segmentBytes: 2000, preallocateBytes: 300 } });
}

const FAULTS: readonly DiskFault[] = [
  { code: "EIO" },
  { code: "EIO", unflushed: "lingers" },
  { code: "EIO", unflushed: "done" },
  { code: "EIO", unflushed: "keeps" },
  { code: "ENOSPC", written: 40 },
  { code: "ENOSPC" },
  { code: "EMFILE" },
  { code: "EACCES" },
];

const CHANGING = new Set([
  "open",
  "write",
  "writeDurably",
  "flush",
  "truncate",
  "syncDirectory",
  "rename",
  "makeDirectory",
]);

/** One to three changes in a row fail, at a random time after the store was opened. */
function failAt(disk: SimulatedDisk, n: number): void {
  const fault = FAULTS[n % FAULTS.length];
  const first = 30 + ((n * 5) % 120);
  const last = first + (n % 3);
  let count = 0;
  disk.failWhen(({ operation, path }) => {
    if (!CHANGING.has(operation) || path.endsWith("/lock")) return undefined;
    count++;
    return count >= first && count <= last ? fault : undefined;
  });
}

/** Continues when a commit fails. In the end everything works again, and failed commits are absent. */
async function failing(world: CrashWorld<FileEventStore>): Promise<void> {
  const attempt = (counts: Readonly<Record<string, number>>): Promise<unknown> =>
    append(world, counts).catch((error: unknown) => {
      if (!isEventfoldError(error)) throw error;
    });
  for (let i = 0; i < 6; i++) {
    await Promise.all([attempt({ a: 1, b: 1 }), attempt({ c: 2 })]);
    await attempt({ a: 2 });
  }
  await append(world, { a: 1, b: 1, c: 1, d: 1 });
  // With durability "os", the streams' files receive it a little later.
  for (let turns = 0; turns < 100; turns++) await new Promise<void>((resolve) => setImmediate(resolve));
  const commits = world.commits();
  await checkLog({ disk: world.disk, store: world.store, commits, begun: 0, killed: true });
  for await (const batch of world.store.readAll()) {
    for (const { meta } of batch) {
      const commit = commits.find(({ id }) => id === meta?.["correlation_id"]);
      if (commit?.outcome === "failed") throw new Error(`commit ${commit.id} failed, but its events are there`);
    }
  }
  await versionOf(world.store, "a");
}

/** A foreign line, whole and durable at once. Torn writes of the Rust crate are tested elsewhere. */
async function appendAsTheOriginal(disk: SimulatedDisk, id: string, line: string): Promise<void> {
  const file = disk.process("the Rust crate").open(`/store/streams/s/${id}/app.jsonl`, "create");
  const bytes = new TextEncoder().encode(line);
  while (!file.tryLock()) await new Promise<void>((resolve) => setImmediate(resolve));
  file.write(bytes, 0, bytes.length, file.size());
  disk.settle(file.path);
  file.close();
}

/** One execution of the Rust crate, which is acknowledged when its line is durable. */
async function appendAsCrate(world: CrashWorld<FileEventStore>, crate: RustCrate, id: string): Promise<void> {
  await world.commit(async ({ correlationId }) => {
    const line = `{"type":"Added","data":{"by":"the crate"},"ts":1,"meta":{"correlation_id":"${correlationId}"}}\n`;
    while (!crate.appendOnce(`/store/streams/s/${id}/app.jsonl`, line))
      await new Promise<void>((resolve) => setImmediate(resolve));
  });
}

/** Streams as the Rust crate leaves them: only lines, without positions. */
function writeAsTheOriginal(disk: SimulatedDisk, lines: number): void {
  for (const id of ["a", "b", "new"]) {
    disk.makeDirectory(`/store/streams/s/${id}`);
    const file = disk.open(`/store/streams/s/${id}/app.jsonl`, "create");
    for (let i = 0; i < lines; i++) {
      const bytes = new TextEncoder().encode(`{"type":"Added","data":{"n":${i}},"ts":${1_600_000_000 + i * 7}}\n`);
      file.write(bytes, 0, bytes.length, file.size());
    }
    file.close();
  }
  disk.settle();
}
