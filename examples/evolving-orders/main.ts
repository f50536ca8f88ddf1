/**
 * One store that three generations of a model have written, opened by the fourth.
 *
 * npm run start:orders [directory]
 */
import { cpSync, existsSync, readFileSync } from "node:fs";
import { AggregateStore } from "eventfold-es";
import { auditStore } from "eventfold-es/schema";
import { Order, Shipments } from "./order.ts";

const directory = process.argv[2] ?? "data/orders";
const fixtures = new URL("fixtures/", import.meta.url);
if (!existsSync(directory)) cpSync(fixtures, directory, { recursive: true });
console.log(`The store is in ${directory}.`);

await using store = await AggregateStore.builder(directory).aggregate(Order).projection(Shipments).open();

for (const id of await store.list(Order)) {
  console.log(`\nOrder ${id}, as it is stored:`);
  const lines = readFileSync(`${directory}/streams/order/${id}/app.jsonl`, "utf8").trim().split("\n");
  for (const line of lines) {
    const { type, data, v = 0 } = JSON.parse(line) as { type: string; data: unknown; v?: number };
    console.log(`  ${type}, step ${v}: ${JSON.stringify(data)}`);
  }
  console.log("and as it is read:");
  const order = store.get(Order, id);
  for await (const { type, version, data } of order.events())
    console.log(`  ${version} ${type}: ${JSON.stringify(data)}`);
  console.log(`State: ${JSON.stringify(await order.state())}`);
}

console.log(`\nShipments of all generations: ${JSON.stringify(await store.projection(Shipments))}`);
const tea = await store.get(Order, "tea").explain("due");
console.log(`What changed the amount due for tea, the newest first: ${tea.map(({ type }) => type).join(", ")}`);
console.log(`Events that the model cannot read: ${(await auditStore(store, [Order])).length}`);
