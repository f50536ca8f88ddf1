import { AggregateStore } from "eventfold-es";
import * as fs from "node:fs";
import { expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { Worker } from "../support/worker.ts";

const NAMES = ["ada", "bob", "cleo", "dan"];
const COMMANDS = 1500;

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
  expect(longestWait(turns)).toBeLessThan(40);
  await using store = await AggregateStore.builder(directory).aggregate(Account).open();
  let sum = 0;
  for (const name of NAMES)
    for (let n = 0; n < 50; n++) sum += (await store.get(Account, `${name}-${n}`).state()).balance;
  expect(sum).toBe(COMMANDS * NAMES.length);
});
