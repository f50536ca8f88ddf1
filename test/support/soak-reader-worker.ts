import { AggregateStore } from "eventfold-es";
import { Account } from "./account.ts";
import { parentsLine, workerOptions } from "./worker-input.ts";

/** Follows a store while others write to it, until it has seen the position that its parent names; prints what it has seen. */
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
