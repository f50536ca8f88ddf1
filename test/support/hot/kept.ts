import { AggregateStore } from "eventfold-es";
import { Lamp, Watchman } from "./model.ts";

const open = (directory: string) => AggregateStore.builder(directory).aggregate(Lamp).processManager(Watchman).open();
const kept = globalThis as unknown as { readonly hotDirectory: string; lamps?: ReturnType<typeof open> };

/** Closes the store of the last evaluation before it opens the next one. */
async function reopened(): ReturnType<typeof open> {
  await (await kept.lamps)?.close();
  return open(kept.hotDirectory);
}
export const store = await (kept.lamps = reopened());
export { Lamp };
