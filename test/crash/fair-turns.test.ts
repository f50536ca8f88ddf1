import { AggregateStore } from "eventfold-es";
import { openNodeFileSystem } from "eventfold-es/testing";
import * as fs from "node:fs";
import { expect, test } from "vitest";
import { StoreLock, TIMES_AGAIN } from "../../src/file-store/disk/store-lock.ts";
import { Account } from "../support/account.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { Worker } from "../support/worker.ts";

const NAMES = ["ada", "bob", "cleo", "dan"];
const COMMANDS = 1500;
/** A process that waits so long for its turn is starved. */
const MOST_TURNS = 40;

/** The actors of the deposits, in the order of the log, one for each record. */
function turnsIn(directory: string): string[] {
  const turns: string[] = [];
  for (const file of fs.readdirSync(`${directory}/commit_log`).toSorted()) {
    const text = fs.readFileSync(`${directory}/commit_log/${file}`, "latin1");
    for (const record of text.split('{"commit":').slice(1)) {
      const actor = /"type":"Deposited".*?"actor":"(\w+)"/.exec(record)?.[1];
      if (actor !== undefined) turns.push(actor);
    }
  }
  return turns;
}

/** The longest run of other processes' turns between two turns of one process, until the first process has had its last turn. */
function longestWait(turns: readonly string[]): number {
  const end = Math.min(...NAMES.map((name) => turns.lastIndexOf(name)));
  const begin = Math.max(...NAMES.map((name) => turns.indexOf(name)));
  const waits = NAMES.flatMap((name) => {
    const own = turns.flatMap((turn, index) => (turn === name && index >= begin && index <= end ? [index] : []));
    return [begin, ...own].map((index, n) => (own[n] ?? end) - index);
  });
  return Math.max(...waits);
}

/** How often a process that takes the lock again at once has it while another one waits for it. */
async function turnsWhileOneWaits(turnstile: boolean): Promise<number> {
  const directory = temporaryDirectory();
  fs.mkdirSync(`${directory}/meta`);
  const fileSystem = await openNodeFileSystem();
  const options = turnstile ? { turn: `${directory}/meta/turn` } : {};
  const open = (): StoreLock => StoreLock.open(fileSystem, `${directory}/meta/lock`, options);
  const [greedy, patient] = [open(), open()];
  let turns = 0;
  let isServed = false;
  let waiting: Promise<void> = Promise.resolve();
  while (!isServed && turns < MOST_TURNS) {
    await greedy.hold(async () => {
      // It begins to wait while the other one has the lock.
      if (turns++ === 0) waiting = patient.hold(async () => void (isServed = true));
      // The one that waits has tried in vain often enough to be asleep between its attempts.
      for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
    });
  }
  const found = turns;
  await waiting;
  for (const lock of [greedy, patient]) lock.close();
  return found;
}

test("a process that takes the lock again at once lets the one that waits go first", async () => {
  expect(await turnsWhileOneWaits(true)).toBeLessThanOrEqual(2 + TIMES_AGAIN);
});

test("counting turns notices that there is no turnstile", async () => {
  expect(await turnsWhileOneWaits(false)).toBe(MOST_TURNS);
});

test("four processes take turns: none waits for many turns of the others, and a process that is killed while it waits holds up no other", async () => {
  const directory = temporaryDirectory();
  const workers = NAMES.map(
    (name) => new Worker("turn-worker.ts", { directory, name, instances: 50, commands: COMMANDS }),
  );
  for (const worker of workers) expect(await worker.line()).toBe("ready");
  const doomed = new Worker("turn-worker.ts", { directory, name: "eve", instances: 50, commands: 1e9 });
  expect(await doomed.line()).toBe("ready");
  for (const worker of [...workers, doomed]) worker.send("go");
  setTimeout(() => void doomed.kill(), 300);
  for (const worker of workers) expect(JSON.parse(await worker.line())).toMatchObject({ commands: COMMANDS });
  const turns = turnsIn(directory).filter((name) => name !== "eve");
  expect(longestWait(turns)).toBeLessThan(MOST_TURNS);
  await using store = await AggregateStore.builder(directory).aggregate(Account).open();
  let sum = 0;
  for (const name of NAMES)
    for (let n = 0; n < 50; n++) sum += (await store.get(Account, `${name}-${n}`).state()).balance;
  expect(sum).toBe(COMMANDS * NAMES.length);
});
