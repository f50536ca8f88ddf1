import { AggregateStore, type AggregateStoreBuilder, memory } from "eventfold-es";
import { temporaryDirectory } from "./temporary-directory.ts";

/** The storages of a store, for `describe.each`. */
export const backends: readonly { readonly backend: string; readonly builder: () => AggregateStoreBuilder }[] = [
  { backend: "on disk", builder: () => AggregateStore.builder(temporaryDirectory()) },
  { backend: "in memory", builder: () => AggregateStore.builder(memory()) },
];
