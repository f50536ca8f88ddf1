import { AggregateStore } from "eventfold-es";
import { Counter } from "./counter.ts";
import { Relay, Sink } from "./relay.ts";
import { parentsLine, workerOptions } from "./worker-input.ts";

/**
 * `"relay"`: lets the process manager run automatically until it is killed. `"add"`: adds 1, 2, 3 … once its parent says so, and prints
 * for each the position and when it was acknowledged.
 */
const { directory, role, count } = workerOptions<{
  readonly directory: string;
  readonly role: "relay" | "add";
  readonly count: number;
}>();

const store = await AggregateStore.builder(directory)
  .aggregate(Counter)
  .aggregate(Sink)
  .processManager(Relay)
  .processManagerMode(role === "relay" ? "automatic" : "manual")
  .open();
process.stdout.write("ready\n");
if (role === "relay") await new Promise(() => setInterval(() => {}, 1000));
await parentsLine();
for (let by = 1; by <= count; by++) {
  const { position } = await store.dispatch(Counter.at(`a${by % 3}`).Add({ by }));
  process.stdout.write(`${JSON.stringify({ position, at: Date.now() })}\n`);
  await new Promise((resolve) => setTimeout(resolve, 10));
}
await store.close();
