import { AggregateStore } from "eventfold-es";
import { Account } from "./account.ts";
import { parentsLine, workerOptions } from "./worker-input.ts";

/** Makes so many deposits, on all its instances at once, once its parent says so. Its name is the actor of its events. */
const { directory, name, instances, commands } = workerOptions<{
  readonly directory: string;
  readonly name: string;
  readonly instances: number;
  readonly commands: number;
}>();

await using store = await AggregateStore.builder(directory).aggregate(Account).open();
const handles = Array.from({ length: instances }, (_, n) => store.get(Account, `${name}-${n}`));
await Promise.all(handles.map((handle) => handle.execute({ type: "Open", data: { owner: name } }, { actor: name })));
process.stdout.write("ready\n");
await parentsLine();

let left = commands;
const times: number[] = [];
const started = performance.now();
await Promise.all(
  handles.map(async (handle) => {
    while (left-- > 0) {
      const before = performance.now();
      await handle.execute({ type: "Deposit", data: { amount: 1 } }, { actor: name });
      times.push(performance.now() - before);
    }
  }),
);
const seconds = (performance.now() - started) / 1000;
times.sort((a, b) => a - b);
process.stdout.write(
  `${JSON.stringify({ commands: times.length, seconds, p99: times[Math.floor(times.length * 0.99)] })}\n`,
);
