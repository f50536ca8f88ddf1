import { AggregateStore } from "eventfold-es";
import { Account } from "./account.ts";
import { workerOptions } from "./worker-input.ts";

/**
 * Executes commands on several instances until it is killed, and prints `<instance> <command>` for each one that is
 * acknowledged. Its standard output is a file, so the parent can read the lines whatever happens next.
 */
const { directory, run, instances, commands, durability } = workerOptions<{
  readonly directory: string;
  /** Distinguishes the commands of this process. */
  readonly run: string;
  readonly instances: number;
  /** How many commands at most. */
  readonly commands: number;
  readonly durability: "flush" | "os";
}>();

const store = await AggregateStore.builder(directory).aggregate(Account).durability(durability).open();
let given = 0;

async function customer(n: number): Promise<void> {
  const id = `a-${n}`;
  const account = store.get(Account, id);
  await account.execute({ type: "Open", data: { owner: run } });
  while (given < commands) {
    const size = given % 3 === 0 ? 1 + (given % 7) : 1;
    const command = `${run}-${given++}`;
    const metadata = { command, size };
    if (size === 1) await account.execute({ type: "Deposit", data: { amount: 1 } }, { metadata });
    else await account.execute({ type: "Split", data: { amounts: Array<number>(size).fill(1) } }, { metadata });
    process.stdout.write(`${id} ${command}\n`);
  }
}

await Promise.all(Array.from({ length: instances }, (_, n) => customer(n)));
await new Promise(() => setInterval(() => {}, 1000));
