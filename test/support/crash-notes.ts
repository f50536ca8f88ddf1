import type { CrashRemains, CrashScenario, CrashWorld, FileSystem } from "eventfold-es/testing";
import type { FileEventStore } from "../../src/file-store/file-event-store.ts";
import { append, checkLog, openLog } from "./crash-stores.ts";
import { killAfter } from "./kill-after.ts";

type World = CrashWorld<FileEventStore>;

const MANAGER = "copier";

/**
 * Commits that hold only a process manager's notes. They move no position, and segments of the log begin and end with them. With
 * one process or two, of which one is killed, and in both modes of durability.
 */
export function notesScenario(n: number): CrashScenario<FileEventStore> {
  const durability = n % 4 === 1 ? "os" : "flush";
  const log = { segmentBytes: 600 + ((n * 70) % 300), preallocateBytes: n % 3 === 0 ? 0 : 250 };
  return {
    open: (fileSystem: FileSystem) => openLog(fileSystem, { log, durability }),
    check: (remains) => checkNotes(remains, durability === "os"),
    workload: n % 2 === 0 ? twoProcesses(n) : oneProcess,
    goOn: async (world) => {
      await note(world);
      await append(world, { a: 1 });
      await note(world);
    },
  };
}

async function oneProcess(world: World): Promise<void> {
  await note(world);
  for (let i = 0; i < 4; i++) {
    await append(world, { a: 1, b: i % 2 });
    await Promise.all([note(world), note(world), ...(i % 2 === 0 ? [append(world, { c: 1 })] : [])]);
    await note(world);
  }
  await world.store.close();
  const { store } = await world.open();
  await note({ ...world, store });
  await store.close();
  const { store: last } = await world.open();
  for (let i = 0; i < 3; i++) await note({ ...world, store: last });
}

function twoProcesses(n: number): (world: World) => Promise<void> {
  return async (world) => {
    await append(world, { a: 1 });
    const { store: other, process } = await world.open();
    for (let i = 0; i < 3; i++) {
      await Promise.all([note(world), note({ ...world, store: other })]);
      await Promise.all([append(world, { a: 1 }), note({ ...world, store: other })]);
    }
    const killed = killAfter(world.disk, process, 3 + ((n * 13) % 60));
    const doomed = (async () => {
      for (let i = 0; i < 6; i++) await note({ ...world, store: other });
    })().catch(() => {});
    for (let i = 0; i < 2; i++) await note(world);
    await killed;
    await doomed;
    await note(world);
    await world.store.close();
  };
}

/** One note in a commit of its own, retried while other commits come first. Sizes differ. */
function note(world: World): Promise<unknown> {
  const { store } = world;
  return world.commit(async ({ correlationId }) => {
    for (;;) {
      const notes = await store.consumerNotes(MANAGER, 0);
      const expectedSequence = notes.length;
      const fill = "x".repeat((expectedSequence * 37) % 150);
      const consumer = { name: MANAGER, expectedSequence, note: { id: correlationId, fill } };
      const letter = { key: correlationId, letter: {} };
      const deadLetters = expectedSequence % 3 === 0 ? { deadLetters: [letter] } : {};
      // The last of six notes settles the two letters of the six.
      const keys = [5, 2].map(
        (back) => (notes[expectedSequence - back]?.note as { readonly id: string } | undefined)?.id,
      );
      const settled = expectedSequence % 6 === 5 ? { settledLetters: keys.filter((key) => key !== undefined) } : {};
      const result = await store.commit({ appends: [], consumer: { ...consumer, ...deadLetters, ...settled } });
      if (result.ok) return result;
    }
  }, 0);
}

/** Like `checkLog`. The notes have no holes, and acknowledged notes are there, except those that mode "os" may lose. */
async function checkNotes(remains: CrashRemains<FileEventStore>, mayLose: boolean): Promise<readonly string[]> {
  const { store, killed, begun } = remains;
  const commits = remains.commits.map((commit, i) =>
    mayLose && !killed && i < begun && commit.outcome === "acknowledged"
      ? ({ ...commit, outcome: "pending" } as const)
      : commit,
  );
  await checkLog({ ...remains, commits });
  const notes = await store.consumerNotes(MANAGER, 0);
  const ids = notes.map(({ sequence, note: content }, i) => {
    if (sequence !== i + 1) throw new Error(`expected note ${i + 1}, found ${sequence}`);
    return (content as { readonly id: string }).id;
  });
  const there = new Set(ids);
  if (there.size < ids.length) throw new Error(`expected each note once, found ${ids.join(", ")}`);
  for (const { id, events, outcome } of commits)
    if (events === 0 && outcome === "acknowledged" && !there.has(id))
      throw new Error(`note ${id} was acknowledged, but is missing`);
  const letters = (await store.deadLetters(MANAGER)).map(({ key }) => key);
  const expected = ids.filter((_, i) => i % 3 === 0 && i - (i % 6) + 5 >= ids.length);
  if (letters.join() !== expected.join())
    throw new Error(`expected the dead letters of the notes ${expected.join()}, found ${letters.join()}`);
  const inFile = new Set(lettersInFile(remains).map(({ key }) => key));
  const missing = expected.filter((key) => !inFile.has(key));
  if (missing.length > 0) throw new Error(`expected the file to have the dead letters ${missing.join()}`);
  return ids;
}

/** What the Rust crate sees: a line for each letter. The last line may be torn. */
function lettersInFile({ disk }: CrashRemains<FileEventStore>): { readonly key: string }[] {
  const path = `/store/process_managers/${MANAGER}/dead_letters.jsonl`;
  const lines = Buffer.from(disk.bytesOf(path) ?? [])
    .toString()
    .split("\n")
    .slice(0, -1);
  return lines.map((line) => JSON.parse(line) as { readonly key: string });
}
