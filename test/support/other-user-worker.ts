import { AggregateStore, projection } from "eventfold-es";
import { openNodeFileSystem } from "eventfold-es/testing";
import { Account } from "./account.ts";
import { workerOptions } from "./worker-input.ts";

/** Reads a store as another user, who may write nothing there. Prints what it has seen as JSON. */
const { directory, uid } = workerOptions<{ readonly directory: string; readonly uid: number }>();
// The other user might not be allowed to read modules that are loaded later.
await openNodeFileSystem();
await AggregateStore.builder("/nowhere")
  .readOnly()
  .open()
  .catch(() => {});
process.setgroups?.([]);
process.setgid?.(uid);
process.setuid?.(uid);

const Total = projection("total", () => ({ sum: 0 })).on(Account, {
  Deposited: (state, { data }) => void (state.sum += data.amount),
});
const builder = AggregateStore.builder(directory).aggregate(Account).projection(Total);
const refused = await builder.open().then(
  () => "opened",
  (error: { readonly code: string }) => error.code,
);
const store = await builder.readOnly().open();
const events: string[] = [];
for await (const event of store.events()) events.push(event.type);
const { balance } = await store.get(Account, "ada").state();
const { sum } = await store.projection(Total);
await store.close();
process.stdout.write(`${JSON.stringify({ uid: process.getuid?.(), refused, events, balance, sum })}\n`);
