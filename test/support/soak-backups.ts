import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { isDeepStrictEqual } from "node:util";
import { setTimeout as pause } from "node:timers/promises";
import { AggregateStore, type RecordedEvent, restore } from "eventfold-es";
import { verify } from "eventfold-es/doctor";
import { Account } from "./account.ts";
import { collect } from "./collect.ts";
import { compileSources } from "./compiled-sources.ts";
import { killedWriter } from "./soak.ts";

const MODULES = ["account", "worker-input", "soak-writer-worker", "soak-backup-worker"].map(
  (name) => `test/support/${name}.ts`,
);
const WRITERS = 2;
const INSTANCES = 12;
/** Backups of one store. Then a new, empty store begins, so that comparing whole histories stays quick. */
const BACKUPS = 25;

export interface BackupSoakOptions {
  /** An empty directory. */
  readonly directory: string;
  readonly seconds: number;
}

export interface BackupSoakReport {
  /** Backups that were completed and compared, and how many of them were additions to earlier ones. */
  readonly backups: number;
  readonly additions: number;
  /** Processes that were killed while they wrote, and while they made a backup. */
  readonly killedWriters: number;
  readonly killedBackups: number;
  /** Restorations, to any position, that were compared and written to. */
  readonly restored: number;
  readonly events: number;
}

/**
 * Makes backups at random moments, while two processes write to the store and are killed with SIGKILL again and again. Some backups are
 * begun by processes that are killed, too. Each must verify clean and be a prefix of the history with all acknowledged commits, and
 * so must each restoration of it, which is then written to. Throws if a check fails.
 */
export async function soakBackups({ directory, seconds }: BackupSoakOptions): Promise<BackupSoakReport> {
  const compiled = compileSources(MODULES);
  const start = (worker: string, options: object): ChildProcess => {
    const file = path.join(compiled.directory, "test/support", worker);
    return spawn(process.execPath, [file, JSON.stringify(options)], { stdio: ["pipe", "pipe", "pipe"] });
  };
  const total = { backups: 0, additions: 0, killedWriters: 0, killedBackups: 0, restored: 0, events: 0 };
  const end = performance.now() + seconds * 1000;
  try {
    for (let round = 0; performance.now() < end; round++) {
      const base = path.join(directory, String(round));
      await soakRound(base, start, total, end);
      fs.rmSync(base, { recursive: true });
    }
  } finally {
    compiled.remove();
  }
  return total;
}

type Counts = { -readonly [K in keyof BackupSoakReport]: number };

async function soakRound(
  base: string,
  start: (worker: string, options: object) => ChildProcess,
  total: Counts,
  end: number,
): Promise<void> {
  const directory = path.join(base, "store");
  const store = await AggregateStore.builder(directory).aggregate(Account).open();
  let isOver = false;
  let acknowledged = 0;
  const writeAndDie = async (n: number): Promise<void> => {
    for (let run = 0; !isOver; run++) {
      const options = { directory, run: `w${n}.${run}`, instances: INSTANCES };
      const commits = await killedWriter(start("soak-writer-worker.js", options));
      for (const { result } of commits)
        acknowledged = Math.max(acknowledged, (result as { readonly position: number }).position);
      total.killedWriters++;
    }
  };
  const writing = Promise.all(Array.from({ length: WRITERS }, (_, n) => writeAndDie(n)));
  try {
    let target = "";
    for (let n = 0; n < BACKUPS && performance.now() < end; n++) {
      await pause(Math.random() * 60);
      const isFresh = n % 5 === 0;
      if (isFresh) target = path.join(base, `backup-${n}`);
      if (Math.random() < 0.3) {
        await killed(start("soak-backup-worker.js", { directory, target }));
        total.killedBackups++;
      }
      const least = acknowledged;
      const { position } = await store.backup(target, { incremental: true });
      if (position < least) throw new Error(`expected a backup of ${least} acknowledged events, found ${position}`);
      const history = position === 0 ? [] : ((await collect(store.events({ to: position }))) as RecordedEvent[]);
      await compare(target, history);
      total.backups++;
      if (!isFresh) total.additions++;
      const restored = path.join(base, `restored-${n}`);
      const upTo = Math.random() < 0.5 ? position : Math.floor(Math.random() * (position + 1));
      await restore(target, restored, { position: upTo });
      await compare(restored, history.slice(0, upTo));
      await goOn(restored, upTo);
      fs.rmSync(restored, { recursive: true });
      total.restored++;
    }
  } finally {
    isOver = true;
    await writing;
  }
  total.events += await store.head();
  await store.close();
}

async function killed(child: ChildProcess): Promise<void> {
  let errors = "";
  child.stderr?.on("data", (bytes: Buffer) => (errors += bytes.toString()));
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  await pause(150 + Math.random() * 350);
  child.kill("SIGKILL");
  await ended;
  if (errors !== "") throw new Error(`a process that makes backups failed: ${errors}`);
}

/** Compares the events of a copy, before and after it is opened. */
async function compare(directory: string, expected: readonly RecordedEvent[]): Promise<void> {
  await checkClean(directory);
  const copy = await AggregateStore.builder(directory).aggregate(Account).open();
  const found = (await collect(copy.events())) as RecordedEvent[];
  for (const { type, id } of await copy.listStreams()) {
    const ofStream = await collect(copy.readEvents(type, id));
    const inOrder = found.filter((event) => event.aggregate === type && event.id === id);
    if (!isDeepStrictEqual(ofStream, inOrder)) throw new Error(`${directory}: the file of ${type} ${id} differs`);
  }
  await copy.close();
  if (!isDeepStrictEqual(found, expected))
    throw new Error(`${directory}: expected the first ${expected.length} events, found ${found.length} or others`);
}

async function goOn(directory: string, position: number): Promise<void> {
  const store = await AggregateStore.builder(directory).aggregate(Account).open();
  await store.dispatch(Account.at("after").Open({ owner: "restored" }));
  if ((await store.head()) !== position + 1) throw new Error(`${directory}: expected position ${position + 1}`);
  await store.close();
  await checkClean(directory);
}

async function checkClean(directory: string): Promise<void> {
  const { findings } = await verify(directory);
  const found = findings.find(({ severity }) => severity !== "info");
  if (found !== undefined) throw new Error(`${directory} is not clean: ${found.file}: ${found.message}`);
}
