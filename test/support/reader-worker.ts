import { AggregateStore } from "eventfold-es";
import { Account } from "./account.ts";
import { parentsLine, workerOptions } from "./worker-input.ts";

/** Reads one instance repeatedly until its parent says stop. Prints the number of reads and the problems as JSON. */
const { directory, id } = workerOptions<{ readonly directory: string; readonly id: string }>();

await using store = await AggregateStore.builder(directory).aggregate(Account).open();
process.stdout.write("ready\n");
let stopped = false;
const stop = parentsLine().then(() => (stopped = true));

const problems: string[] = [];
const handle = store.get(Account, id);
let reads = 0;
let highest = 0;
while (!stopped && problems.length < 10) {
  try {
    const state = await handle.state();
    let version = 0;
    let position = 0;
    let balance = 0;
    for await (const event of handle.events()) {
      if (event.version !== ++version) problems.push(`expected version ${version}, found ${event.version}`);
      if (event.position <= position) problems.push(`position ${event.position} after ${position}`);
      position = event.position;
      if (event.type === "Deposited") balance += event.data.amount;
      if (version % 200 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    if (version < highest) problems.push(`${version} events after ${highest}`);
    if (balance < state.balance) problems.push(`events give ${balance}; the state before them was ${state.balance}`);
    highest = version;
    reads++;
  } catch (error) {
    problems.push(String(error));
  }
  await new Promise((resolve) => setTimeout(resolve, 1));
}
await stop;
process.stdout.write(`${JSON.stringify({ reads, highest, problems })}\n`);
