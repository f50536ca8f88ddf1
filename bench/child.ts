/** Makes the measurement that its parent sends, and sends back the result. */
import { once } from "node:events";
import { run, type Task } from "./tasks/tasks.ts";
import type { Reply } from "./measure.ts";

// The parent does not wait for the result any more.
process.once("disconnect", () => process.exit());

const [task] = (await once(process, "message")) as [Task];
const reply = (message: Reply): Promise<void> =>
  new Promise((resolve) => void process.send?.(message, undefined, undefined, () => resolve()));

/** Waits until the parent starts all processes at once. */
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
