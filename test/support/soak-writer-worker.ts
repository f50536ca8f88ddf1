import * as fs from "node:fs";
import { AggregateStore } from "eventfold-es";
import { Account } from "./account.ts";
import { workerOptions } from "./worker-input.ts";

/**
 * Executes commands until it is killed. For each acknowledged command it writes `<command> <events> <position>` to its standard output, in
 * one synchronous call, so that the parent learns of it whatever happens next.
 */
const { directory, run, instances } = workerOptions<{
  readonly directory: string;
  /** Distinguishes the commands of this process. */
  readonly run: string;
  readonly instances: number;
}>();

/** Instances leave memory, with a snapshot, as soon as they are idle. */
const open = () => AggregateStore.builder(directory).aggregate(Account).idleTimeout(5).open();
let store = await open();
let given = 0;

function account(): string {
  return `a-${Math.floor(Math.random() * instances)}`;
}

async function execute(): Promise<void> {
  const n = given++;
  const command = `${run}-${n}`;
  const id = account();
  if (n % 5 === 4) {
    const other = `${id}/b`;
    const envelopes = [id, other].map((at) => Account.at(at).Open({ owner: run }));
    await store.dispatchAll(envelopes);
    const deposits = [id, other].map((at) => Account.at(at).Split({ amounts: [1, 2] }));
    const { position } = await store.dispatchAll(deposits, { correlationId: command, metadata: { size: 4 } });
    answered(command, 4, position);
    return;
  }
  await store.dispatch(Account.at(id).Open({ owner: run }));
  if (n % 2 === 0) await store.get(Account, id).state();
  const size = n % 3 === 0 ? 1 + (n % 7) : 1;
  const amounts = Array<number>(size).fill(1);
  const context = { correlationId: command, metadata: { size } };
  const { position } = await store.dispatch(Account.at(id).Split({ amounts }), context);
  answered(command, size, position);
}

function answered(command: string, size: number, position: number): void {
  fs.writeSync(1, `${command} ${size} ${position}\n`);
}

async function customer(): Promise<void> {
  for (;;) await execute();
}

/** Every third process opens and closes its store repeatedly, so the kill hits while it opens, works or closes. */
async function comeAndGo(): Promise<void> {
  for (;;) {
    for (let n = 0; n < 4; n++) await execute();
    await store.close();
    store = await open();
  }
}

if (Number(run.slice(run.indexOf(".") + 1)) % 3 === 2) await comeAndGo();
await Promise.all([customer(), customer(), customer()]);
