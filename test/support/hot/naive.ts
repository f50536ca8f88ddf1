import { AggregateStore } from "eventfold-es";
import { Lamp, Watchman } from "./model.ts";

/** Opens a store at each evaluation, and closes none. */
export const directory = (globalThis as unknown as { readonly hotDirectory: string }).hotDirectory;
export const store = await AggregateStore.builder(directory).aggregate(Lamp).processManager(Watchman).open();
export { Lamp };
