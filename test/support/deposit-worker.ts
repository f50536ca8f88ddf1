import { AggregateStore } from "eventfold-es";
import { Account } from "./account.ts";
import { parentsLine, workerOptions } from "./worker-input.ts";

/** Deposits 1 so many times, on one instance after the other, once its parent says so. Prints the results as JSON. */
const { directory, ids, commands, pace } = workerOptions<{
  readonly directory: string;
  readonly ids: readonly string[];
  readonly commands: number;
  readonly pace: "one by one" | "all at once";
}>();

await using store = await AggregateStore.builder(directory).aggregate(Account).open();
const handles = ids.map((id) => store.get(Account, id));
await Promise.all(handles.map((handle) => handle.state()));
process.stdout.write("ready\n");
await parentsLine();

const versions: number[] = [];
const failures: string[] = [];
async function deposit(n: number): Promise<void> {
  try {
    const result = await handles[n % handles.length]?.execute({ type: "Deposit", data: { amount: 1 } });
    if (result !== undefined) versions.push(result.version);
  } catch (error) {
    failures.push(String(error));
  }
}
if (pace === "all at once") await Promise.all(Array.from({ length: commands }, (_, n) => deposit(n)));
else for (let n = 0; n < commands; n++) await deposit(n);
process.stdout.write(`${JSON.stringify({ versions, failures })}\n`);
