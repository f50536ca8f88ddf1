import { isEventfoldError } from "eventfold-es";
import { verify } from "eventfold-es/doctor";
import type { CrashRemains, CrashScenario, CrashWorld, FileSystem, SimulatedDisk } from "eventfold-es/testing";
import { MemoryEventStore } from "../../src/event-store/memory-event-store.ts";
import { restoreDirectory } from "../../src/file-store/directory-copies.ts";
import type { FileEventStore } from "../../src/file-store/file-event-store.ts";
import { openFileEventStore } from "../../src/file-store/open-store.ts";
import { exportStore } from "../../src/transfer/export-store.ts";
import { importStore } from "../../src/transfer/import-store.ts";
import { collect } from "./collect.ts";
import { append, checkLog, eventText, openLog, versionOf } from "./crash-stores.ts";
import { killAfter } from "./kill-after.ts";

type World = CrashWorld<FileEventStore>;
type Scenario = CrashScenario<FileEventStore>;

const COPY = "/copy";
const RESTORED = "/restored";
/** So many events, at least, are committed before the first backup. */
const FIRST = 2;

/** Backups beside commits, from nothing to the last event, with additions. */
export function backupScenario(): Scenario {
  return {
    ...onCopies,
    workload: async (world) => {
      await append(world, { a: FIRST });
      for (let i = 0; i < 4; i++)
        await Promise.all([append(world, { a: 1, b: 1 + i }), backup(world), append(world, { c: 1 })]);
      await backup(world);
      await world.store.close();
    },
  };
}

/** One process makes backups and is killed, another writes; then the writer goes on with the backup. */
export function killedBackupScenario(n: number): Scenario {
  return {
    ...onCopies,
    workload: async (world) => {
      for (let i = 0; i < 3; i++) {
        await append(world, { a: 1 + i, b: FIRST });
        const { store, process } = await world.open();
        const copying = backup(world, store).catch(() => {});
        const killed = killAfter(world.disk, process, 10 + ((n * 17 + i * 41) % 90));
        await Promise.all([append(world, { c: 1 }), killed, copying]);
        await checkCopy(world.disk, COPY, await eventsOf(world.store), 0);
      }
      await backup(world);
      await append(world, { a: 1 });
    },
  };
}

/** A writer beside the backups of another process is killed. */
export function killedWriterScenario(n: number): Scenario {
  return {
    ...onCopies,
    workload: async (world) => {
      await append(world, { a: FIRST });
      for (let i = 0; i < 3; i++) {
        const { store, process } = await world.open();
        const writing = Promise.allSettled([append(world, { a: 2, b: 1 }, store), append(world, { c: 1 }, store)]);
        const killed = killAfter(world.disk, process, 5 + ((n * 7 + i * 23) % 60));
        await backup(world);
        await Promise.all([writing, killed]);
        await backup(world);
      }
    },
  };
}

/** Restorations to a position in the middle, which begin again after a cut. */
export function restoreScenario(n: number): Scenario {
  return {
    ...onCopies,
    workload: async (world) => {
      for (let i = 0; i < 5; i++) await Promise.all([append(world, { a: 2, b: 1 }), append(world, { c: 2 })]);
      const position = 1 + (n % 24);
      await world.commit(() => restoreDirectory(world.disk.process(), "/store", RESTORED, { position }), 0);
      await append(world, { a: 1 });
    },
    check: async (remains) => {
      const found = await checkLog(remains);
      const [restored] = acknowledged(remains);
      const length = await checkCopy(remains.disk, RESTORED, found, restored?.position ?? 0);
      if (restored !== undefined && length !== restored.position)
        throw new Error(`expected ${restored.position} restored events, found ${length}`);
      if (restored !== undefined || isSettled(remains.disk, RESTORED)) return found;
      const position = Math.min(2 + (n % 3), found.length);
      await restoreDirectory(remains.disk.process(), "/store", RESTORED, { position });
      if ((await checkCopy(remains.disk, RESTORED, found, position)) !== position)
        throw new Error(`expected ${position} events after restoring again`);
      return found;
    },
    goOn: async (world) => void (await append(world, { a: 1 })),
  };
}

const onCopies: Omit<Scenario, "workload"> = {
  open: (fileSystem: FileSystem) => openLog(fileSystem),
  check: async (remains) => {
    const found = await checkLog(remains);
    const least = Math.max(0, ...acknowledged(remains).map(({ position }) => position));
    await checkCopy(remains.disk, COPY, found, least);
    return found;
  },
  goOn: async (world) => {
    await append(world, { a: 1, d: 2 });
    await backup(world);
    await append(world, { b: 1 });
  },
};

function backup(world: World, store: FileEventStore = world.store): Promise<unknown> {
  return world.commit(async () => {
    const report = await store.backup(COPY, { incremental: true });
    // Another process may be making the next one.
    if (world.disk.stat(`${COPY}/meta/copying.json`) === undefined) await checkClean(world.disk.process(), COPY);
    return report;
  }, 0);
}

/** The copies that were reported as complete. */
function acknowledged({ commits }: CrashRemains<FileEventStore>): { readonly position: number }[] {
  return commits.flatMap(({ events, outcome, result }) =>
    events === 0 && outcome === "acknowledged" ? [result as { readonly position: number }] : [],
  );
}

function isSettled(disk: SimulatedDisk, directory: string): boolean {
  return (
    disk.stat(`${directory}/commit_log`) !== undefined && disk.stat(`${directory}/meta/copying.json`) === undefined
  );
}

/**
 * Opens a copy unless it is not there: it must be clean, a prefix of the history, and at least as long as the last one that was
 * reported as complete. A copy may only refuse to open if none was, and must refuse if it has less than what was committed before the
 * first one. Returns how many events it has.
 */
async function checkCopy(
  disk: SimulatedDisk,
  directory: string,
  history: readonly string[],
  least: number,
): Promise<number> {
  if (disk.stat(`${directory}/commit_log`) === undefined) {
    if (least > 0) throw new Error(`the copy of ${least} events is gone`);
    return 0;
  }
  const process = disk.process();
  if (isSettled(disk, directory)) await checkClean(process, directory, ["info", "warning"]);
  let store: FileEventStore;
  try {
    store = await openFileEventStore(process, directory);
  } catch (error) {
    if (least === 0 && isEventfoldError(error, "COPY_INCOMPLETE")) return 0;
    throw error;
  }
  try {
    const events = await eventsOf(store);
    const fewest = directory === COPY ? Math.max(least, FIRST) : least;
    if (events.length < fewest) throw new Error(`expected a copy of ${fewest} events, found ${events.length}`);
    for (const [i, event] of events.entries())
      if (event !== history[i]) throw new Error(`expected ${history[i] ?? "no event"} in the copy, found ${event}`);
    return events.length;
  } finally {
    await store.close();
    await checkClean(process, directory, ["info", "warning"]);
  }
}

/** A power cut may leave a cache or a hint that the next opening makes again. */
async function checkClean(process: FileSystem, directory: string, allowed = ["info"]): Promise<void> {
  const { findings } = await verify(directory, { fileSystem: process });
  const found = findings.find(({ severity }) => !allowed.includes(severity));
  if (found !== undefined) throw new Error(`the copy is not clean: ${found.file}: ${found.message}`);
}

async function eventsOf(store: FileEventStore): Promise<string[]> {
  const lines: string[] = [];
  for await (const batch of store.readAll()) lines.push(...batch.map(eventText));
  return lines;
}

const MANAGER = "copier";

/** The export of a store with events of several streams and a process manager's notes. */
async function exportedLines(n: number): Promise<string[]> {
  const store = new MemoryEventStore();
  for (let i = 0; i < 14; i++) {
    const stream = { type: "s", id: "abc"[(i * n + i) % 3] ?? "a" };
    const expectedVersion = await versionOf(store, stream.id);
    const data = JSON.stringify({ i, fill: "x".repeat((i * 67 + n * 31) % 300) });
    const event = { type: "Added", data, schemaVersion: 0, timestamp: 1_700_000_000_000 + i, eventId: `e${i}` };
    const consumer = { name: MANAGER, expectedSequence: i, note: { handled: i } };
    await store.commit({ appends: [{ stream, expectedVersion, events: [event] }], consumer });
  }
  return collect(exportStore(store, {}));
}

/** An import that is made again after each cut, until it is complete. */
export function importScenario(n: number): Scenario {
  const lines = exportedLines(n);
  const run = async (store: FileEventStore): Promise<unknown> => importStore(store, await lines, {}, () => {});
  return {
    open: (fileSystem) => openLog(fileSystem),
    workload: async (world) => {
      if (n % 2 === 0)
        await importStore(world.store, (await lines).slice(0, 12 + (n % 9)), {}, () => {}).catch(() => {});
      await world.commit(() => run(world.store), 0);
      await world.store.close();
    },
    check: async (remains) => {
      const found = await checkLog({ ...remains, commits: [] });
      const notes = (await remains.store.consumerNotes(MANAGER, 0)).length;
      if (found.length > 0 && notes < 14) throw new Error(`expected all notes before the first event, found ${notes}`);
      if (acknowledged(remains).length > 0 && found.length < 14)
        throw new Error(`expected 14 imported events, found ${found.length}`);
      return found;
    },
    goOn: async (world) => {
      await world.commit(() => run(world.store), 0);
      const again = await collect(exportStore(world.store, {}));
      if (again.join("") !== (await lines).join(""))
        throw new Error("the store differs from the one that was exported");
    },
  };
}
