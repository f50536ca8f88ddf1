import { AggregateStore, CommandBus, data, memory, processManager, projection } from "eventfold-es";
import { aggregate } from "eventfold-es/contract";

/**
 * Uses a store in memory from end to end. test/package/browser.test.ts bundles this module, runs it in a browser, and checks the
 * findings; they are plain JSON.
 */

const Account = aggregate("account", {
  initial: { balance: 0 },
  events: { Deposited: data<{ amount: number }>(), Withdrawn: data<{ amount: number }>() },
  commands: { Deposit: data<{ amount: number }>(), Withdraw: data<{ amount: number }>() },
  rejections: { InsufficientFunds: data<{ balance: number }>() },
}).define({
  handle: {
    Deposit: ({ data, emit }) => emit.Deposited(data),
    Withdraw: ({ state, data, emit, reject }) =>
      state.balance < data.amount ? reject.InsufficientFunds({ balance: state.balance }) : emit.Withdrawn(data),
  },
  apply: {
    Deposited: (state, { amount }) => ({ balance: state.balance + amount }),
    Withdrawn: (state, { amount }) => ({ balance: state.balance - amount }),
  },
});

const Total = projection("total", () => ({ total: 0 })).on(Account, {
  Deposited: (state, { data }) => void (state.total += data.amount),
  Withdrawn: (state, { data }) => void (state.total -= data.amount),
});

/** Saves a tenth of each deposit. */
const Savings = processManager("savings", { dispatches: [Account] }).on(Account, {
  Deposited: (_, { id, data }) =>
    id === "savings" ? undefined : { dispatch: Account.at("savings").Deposit({ amount: data.amount / 10 }) },
});

async function run(): Promise<Record<string, unknown>> {
  const storage = memory();
  const builder = AggregateStore.builder(storage).aggregate(Account).projection(Total).processManager(Savings);
  const store = await builder.idleTimeout(20).open();
  const types: string[] = [];
  const subscription = store.subscribe({}, ({ type, id }) => types.push(`${type} ${id}`));
  const ada = store.get(Account, "ada");
  const { events, state } = await ada.execute(Account.commands.Deposit({ amount: 100 }));
  const rejected = await ada.try({ type: "Withdraw", data: { amount: 1000 } });
  const bus = new CommandBus(store).register(Account);
  await bus.dispatch("ada", { type: "Withdraw", data: { amount: 30 } });
  // Many in a row: they let other work have its turn without Node's setImmediate.
  for (let n = 0; n < 2000; n++) await ada.execute(Account.commands.Deposit({ amount: 0 }));
  await store.runProcessManagers();
  const { total } = await store.projection(Total);
  while (types.length < 4002) await new Promise((resolve) => setTimeout(resolve, 1));
  while (ada.isAlive()) await new Promise((resolve) => setTimeout(resolve, 5));
  await subscription.close();
  await store.close();
  const reopened = await AggregateStore.open(storage);
  const again = await reopened.get(Account, "savings").state();
  await reopened.close();
  return {
    eventId: events[0]?.eventId,
    state,
    rejected,
    total,
    types: types.slice(0, 2),
    again,
    closed: await codeOf(() => ada.state()),
    directory: await codeOf(() => AggregateStore.open("./data")),
  };
}

async function codeOf(work: () => Promise<unknown>): Promise<unknown> {
  try {
    await work();
    return undefined;
  } catch (error) {
    return (error as { readonly code?: unknown }).code;
  }
}

(globalThis as { findings?: unknown }).findings = run();
