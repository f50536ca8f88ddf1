import { Account, AggregateStore } from "../eventfold.ts";
import { quantile } from "../statistics.ts";
import { type Sample, timed } from "./task.ts";

/** Commands of one account, one after the other, each with an event of this size. */
export interface EventSizeTask {
  readonly task: "event size";
  readonly directory: string;
  /** Approximate size in bytes. */
  readonly bytes: number;
  readonly commands: number;
}

export async function runEventSize({ directory, bytes, commands }: EventSizeTask): Promise<Sample> {
  const store = await AggregateStore.builder(directory).aggregate(Account).open();
  const account = store.get(Account, "acct-0");
  const data = { text: "x".repeat(bytes) };
  const latencies: number[] = [];
  const execute = async (): Promise<void> => {
    const started = performance.now();
    await account.execute({ type: "Note", data });
    latencies.push(performance.now() - started);
  };
  for (let n = 0; n < Math.min(50, commands); n++) await execute();
  latencies.length = 0;
  const { ms, loopMs } = await timed(async () => {
    for (let n = 0; n < commands; n++) await execute();
  });
  await store.close();
  return { p50: quantile(latencies, 0.5), perSecond: (commands / ms) * 1000, loopMs };
}
