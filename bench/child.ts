/** Makes one measurement, which its parent sends, and sends back what came of it. */
import { once } from "node:events";
import { run, type Task } from "./tasks/tasks.ts";
import type { Reply } from "./measure.ts";

// Nobody waits for the result any more.
process.once("disconnect", () => process.exit());

const [task] = (await once(process, "message")) as [Task];
const reply = (message: Reply): Promise<void> =>
  new Promise((resolve) => void process.send?.(message, undefined, undefined, () => resolve()));

/** Waits for the other processes, and for the word to begin. */
async function ready(): Promise<void> {
  await reply({ kind: "ready" });
  await once(process, "message");
}

try {
  await reply({ kind: "sample", sample: await run(task, ready) });
} catch (error) {
  await reply({ kind: "failed", message: error instanceof Error ? error.message : String(error) });
}
// Some contenders leave timers behind.
process.exit();
