import { AggregateStore } from "eventfold-es";
import { Account } from "./account.ts";
import { parentsLine, workerOptions } from "./worker-input.ts";

/** Follows a store while other processes write to it, up to the position that its parent names. Prints what it has read. */
const { directory } = workerOptions<{ readonly directory: string }>();

const store = await AggregateStore.builder(directory).aggregate(Account).open();
let last = Infinity;
const stop = new AbortController();
let seen = 0;
let problem = "";
void parentsLine().then((line) => {
  last = Number(line);
  if (seen >= last) stop.abort();
});
process.stdout.write("ready\n");
for await (const { position } of store.subscribe({ signal: stop.signal })) {
  if (position !== seen + 1 && problem === "") problem = `position ${position} came after ${seen}`;
  seen = position;
  if (seen >= last) break;
}
await store.close();
process.stdout.write(`${JSON.stringify({ seen, problem })}\n`);
