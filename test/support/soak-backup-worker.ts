import { AggregateStore } from "eventfold-es";
import { Account } from "./account.ts";
import { workerOptions } from "./worker-input.ts";

/** Adds to a backup again and again until it is killed. */
const { directory, target } = workerOptions<{ readonly directory: string; readonly target: string }>();

const store = await AggregateStore.builder(directory).aggregate(Account).open();
for (;;) await store.backup(target, { incremental: true });
