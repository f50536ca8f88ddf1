/** Stores, handles and the bus: only what was registered, and results as the aggregate declares them. */
import {
  aggregate,
  AggregateStore,
  CommandBus,
  type CommandEnvelope,
  CommandRejectedError,
  data,
  type EventOf,
  isEventfoldError,
  memory,
  projection,
  type RecordedEvent,
} from "eventfold-es";
import { Account, Transfer } from "./bank.ts";
import { type Same, yes } from "./support.ts";

/** A contract without behaviour: a user interface builds commands with it, but no store can run it. */
const Contract = aggregate("contract", { initial: 0, events: { A: data() }, commands: { Do: data() } });
Contract.at("1").Do();

export async function wiring(): Promise<void> {
  await using store = await AggregateStore.builder("d").aggregate(Account).open();
  store.get(Account, "a");
  // @ts-expect-error Transfer is not registered in this store
  store.get(Transfer, "t");
  // @ts-expect-error nor can it be listed
  await store.list(Transfer);
  await store.dispatch(Account.at("a").Close());
  await store.dispatch({ aggregate: "account", id: "a", command: { type: "Close" } });
  // @ts-expect-error an envelope for an aggregate that is not registered
  await store.dispatch(Transfer.at("t").Complete());
  // @ts-expect-error one of them is not registered
  await store.dispatchAll([Account.at("a").Close(), Transfer.at("t").Complete()]);
  // @ts-expect-error an unknown command
  await store.dispatch({ aggregate: "account", id: "a", command: { type: "Explode" } });
  // @ts-expect-error the command of another aggregate
  await store.dispatch({ aggregate: "account", id: "a", command: { type: "Complete" } });
  // @ts-expect-error a contract has no behaviour
  store.get(Contract, "c");
  // @ts-expect-error an id is a string
  store.get(Account, 5);

  // @ts-expect-error a contract has no behaviour
  AggregateStore.builder("d").aggregate(Contract);
  // @ts-expect-error not a duration
  AggregateStore.builder("d").idleTimeout("soon");
  // @ts-expect-error not a unit
  AggregateStore.builder("d").idleTimeout("5 weeks");
  AggregateStore.builder("d").idleTimeout("1.5h").idleTimeout(500);
  // @ts-expect-error not a mode
  AggregateStore.builder("d").durability("never");
  // @ts-expect-error not a policy
  AggregateStore.builder("d").onUnknownEvent("ignore");

  await using both = await AggregateStore.builder("d").aggregate(Account).durability("os").aggregate(Transfer).open();
  both.get(Transfer, "t");
  const { results } = await both.dispatchAll([Account.at("a").Close(), Transfer.at("t").Complete()]);
  for (const { events } of results)
    for (const event of events) if (event.type === "Requested") event.data.from.toUpperCase();
  // Each result has the type of its envelope.
  yes<Same<(typeof results)["length"], 2>>();
  yes<Same<(typeof results)[0]["state"]["balance"], number>>();
  yes<Same<(typeof results)[1]["state"]["status"], "none" | "pending" | "done">>();
  const list = [Account.at("a").Close(), Account.at("b").Close()];
  const many = await both.dispatchAll(list);
  yes<Same<(typeof many)["results"][number]["state"]["owner"], string>>();

  // A store that was opened without a list takes any aggregate.
  await using any = await AggregateStore.open("d");
  yes<
    Same<
      Awaited<ReturnType<ReturnType<typeof any.get<typeof Transfer>>["state"]>>["status"],
      "none" | "pending" | "done"
    >
  >();
  (await AggregateStore.open(memory())).get(Transfer, "t");
  // @ts-expect-error a contract has no behaviour
  any.get(Contract, "c");
  // A store of some aggregates may be passed as any store.
  takesAnyStore(both);
  // And as a store of fewer.
  takesAccounts(both);
}

function takesAccounts(store: AggregateStore<typeof Account>): void {
  void store;
}

function takesAnyStore(store: AggregateStore): void {
  void store;
}

export async function handles(store: AggregateStore<typeof Account | typeof Transfer>): Promise<void> {
  const ada = store.get(Account, "ada");
  const { events, state, version, position } = await ada.execute(Account.commands.Deposit({ amount: 5 }), {
    actor: "u",
  });
  yes<Same<typeof state, { readonly owner: string; readonly balance: number; readonly open: boolean }>>();
  // @ts-expect-error a state is frozen
  state.balance = 5;
  yes<Same<typeof events, readonly RecordedEvent<"account", EventOf<typeof Account>>[]>>();
  yes<Same<typeof version, number>>();
  yes<Same<typeof position, number>>();
  await ada.execute({ type: "Close" });
  await ada.execute({ type: "Deposit", data: { amount: 1 } });
  // @ts-expect-error unknown command
  await ada.execute({ type: "Explode" });
  // @ts-expect-error the payload of another command
  await ada.execute({ type: "Deposit", data: { owner: "x" } });
  // @ts-expect-error a wrong payload
  await ada.execute({ type: "Deposit", data: { amount: "1" } });
  // @ts-expect-error a missing payload
  await ada.execute({ type: "Deposit" });
  // @ts-expect-error a payload that is not there
  await ada.execute({ type: "Close", data: {} });
  // @ts-expect-error a command of another aggregate
  await ada.execute(Transfer.commands.Complete());
  // @ts-expect-error an event is no command
  await ada.execute(Account.events.Closed());
  // @ts-expect-error no such thing in a context
  await ada.execute({ type: "Close" }, { user: "u" });
  await ada.execute({ type: "Close" }, { expectedVersion: 1, signal: AbortSignal.abort(), timeout: "5s", actor: "u" });
  // @ts-expect-error a version is a number
  await ada.execute({ type: "Close" }, { expectedVersion: "1" });
  // @ts-expect-error an actor is a string
  await ada.execute({ type: "Close" }, { actor: 5 });

  // Recorded events, narrowed by their type.
  for (const event of events) {
    yes<Same<typeof event.aggregate, "account">>();
    yes<Same<typeof event.position, number>>();
    // @ts-expect-error not every event has a payload
    void event.data.amount;
    switch (event.type) {
      case "Opened":
        yes<Same<typeof event.data, { owner: string }>>();
        break;
      case "Deposited":
        yes<Same<typeof event.data, { amount: number; transfer?: string }>>();
        break;
      case "Withdrawn":
        event.data.amount satisfies number;
        break;
      case "Closed":
        yes<Same<typeof event.data, undefined>>();
        break;
      default:
        event satisfies never;
    }
    // @ts-expect-error events cannot be changed
    event.type = "Opened";
  }
  for await (const event of ada.events({ from: 2 })) {
    if (event.type === "Deposited") event.data.amount.toFixed();
    // @ts-expect-error no such event
    if (event.type === "Nope") break;
  }
  for await (const event of store.readEvents("account", "ada")) {
    yes<Same<typeof event.type, string>>();
    yes<Same<typeof event.data, unknown>>();
  }

  // The outcome of `try`.
  const outcome = await ada.try({ type: "Withdraw", data: { amount: 99 } });
  // @ts-expect-error not before it is known to be good
  void outcome.state;
  // @ts-expect-error not before it is known to be bad
  void outcome.rejection;
  if (outcome.ok) {
    yes<Same<typeof outcome.state.balance, number>>();
    // @ts-expect-error nothing was rejected
    void outcome.rejection;
  } else {
    const { rejection } = outcome;
    switch (rejection.type) {
      case "NotOpen":
        yes<Same<typeof rejection.data, undefined>>();
        break;
      case "InsufficientFunds":
        yes<Same<typeof rejection.data, { balance: number; needed: number }>>();
        break;
      default:
        rejection satisfies never;
    }
  }
  const transferred = await store.get(Transfer, "t").try({ type: "Complete" });
  if (!transferred.ok) transferred.rejection satisfies never;

  yes<
    Same<
      Awaited<ReturnType<typeof ada.state>>,
      { readonly owner: string; readonly balance: number; readonly open: boolean }
    >
  >();
  await ada.state({ version: 2 });
  await ada.state({ at: new Date() });
  // @ts-expect-error a time is a date or a number
  await ada.state({ at: "yesterday" });
  yes<Same<ReturnType<typeof ada.isAlive>, boolean>>();
}

export function errors(error: unknown): string {
  if (isEventfoldError(error, "COMMAND_REJECTED")) return error.rejection.type;
  if (isEventfoldError(error, "CONFLICT")) return `${error.expectedVersion - error.actualVersion}`;
  if (isEventfoldError(error, "CORRUPT_LOG")) return error.file;
  if (isEventfoldError(error, "INVALID_PAYLOAD")) return error.issues.map(({ path }) => path.length).join();
  if (isEventfoldError(error, "TIMEOUT")) yes<Same<typeof error.code, "TIMEOUT">>();
  // @ts-expect-error without a code nothing is known but that it is one of ours
  if (isEventfoldError(error)) return error.rejection;
  // @ts-expect-error no such code
  if (isEventfoldError(error, "NO_SUCH_CODE")) return "";
  return error instanceof CommandRejectedError ? error.rejection.type : "";
}

export async function bus(store: AggregateStore<typeof Account | typeof Transfer>): Promise<void> {
  const one = new CommandBus(store).register(Account);
  await one.dispatch("a", { type: "Deposit", data: { amount: 1 } }, { correlationId: "r" });
  await one.dispatch(Account.at("a").Close());
  await one.dispatchUnknown(JSON.parse("{}"));
  // @ts-expect-error Transfer is not on the bus
  await one.dispatch(Transfer.at("t").Complete());
  // @ts-expect-error nor are its commands
  await one.dispatch("t", { type: "Complete" });
  // @ts-expect-error a wrong payload
  await one.dispatch("a", { type: "Deposit", data: { amount: "1" } });
  // @ts-expect-error a contract has no behaviour
  new CommandBus(store).register(Contract);
  // @ts-expect-error nothing is registered
  await new CommandBus(store).dispatch("a", { type: "Close" });

  const Till = aggregate("till", {
    initial: 0,
    events: { Shut: data() },
    commands: { Close: data(), Count: data() },
  }).define({
    handle: { Close: ({ emit }) => emit.Shut(), Count: () => {} },
    apply: { Shut: (n) => n },
  });
  const two = one.register(Till);
  await two.dispatch("t", { type: "Count" });
  await two.dispatch("a", { type: "Deposit", data: { amount: 1 } });
  await two.dispatch(Till.at("t").Close());
  // @ts-expect-error both have Close
  await two.dispatch("t", { type: "Close" });
  two.use((envelope, next) => {
    yes<Same<typeof envelope.aggregate, "account" | "till">>();
    return next({ ...envelope, context: { actor: "u" } });
  });
}

// Read models.
const Balances = projection("balances", () => ({ total: 0, names: {} as Record<string, string> }))
  .on(Account, {
    Opened: (view, event) => {
      yes<Same<typeof event.data, { owner: string }>>();
      yes<Same<typeof event.aggregate, "account">>();
      view.names[event.id] = event.data.owner;
    },
    Deposited: (view, event) => ({ ...view, total: view.total + event.data.amount }),
  })
  .on(Transfer, { Completed: (view) => void view.total++ });
projection("p", { n: 0 }).on(Account, {
  // @ts-expect-error no such event
  Exploded: (view) => view,
});
projection("p", { n: 0 }).on(Account, {
  // @ts-expect-error no such field in the event
  Deposited: (view, event) => ({ n: view.n + event.data.amuont }),
});
projection("p", { n: 0 }).on(Account, {
  // @ts-expect-error wrong shape of the read model
  Deposited: () => ({ n: "1" }),
});
projection("p", { s: "a" as "a" | "b" }).on(Account, {
  Deposited: (v) => ({ ...v, s: "b" }),
  Closed: () => ({ s: "a" }),
});
projection("p", { s: "a" as "a" | "b" }).on(Account, {
  // @ts-expect-error a slip of the pen in a literal
  Closed: () => ({ s: "c" }),
});
// A read model needs the contract only.
projection("p", { n: 0 }).on(Contract, { A: (view) => ({ n: view.n + 1 }) });

export async function readModels(): Promise<void> {
  // @ts-expect-error it reads Transfer, which is not registered
  AggregateStore.builder("d").aggregate(Account).projection(Balances);
  await using store = await AggregateStore.builder("d")
    .aggregate(Account)
    .aggregate(Transfer)
    .projection(Balances)
    .open();
  const { total, names } = await store.projection(Balances, { after: 5 });
  yes<Same<typeof total, number>>();
  yes<Same<typeof names, { readonly [x: string]: string }>>();
  const read = await store.projection(Balances, { withPosition: true });
  yes<Same<typeof read.position, number>>();
  yes<Same<typeof read.state.total, number>>();
  // @ts-expect-error later reads share the state
  read.state.total = 5;
  // @ts-expect-error without the option there is no position
  void (await store.projection(Balances, { timeout: 5 })).position;
  // @ts-expect-error not registered
  await store.projection(projection("other", { n: 0 }).on(Account, { Closed: (view) => view }));
  for await (const event of store.subscribe({ from: 1 })) {
    if (event.aggregate === "account" && event.type === "Deposited") event.data.amount.toFixed();
    // @ts-expect-error a transfer has no such event
    if (event.aggregate === "transfer" && event.type === "Deposited") break;
  }
}

// Envelopes are plain data of one type, whatever they are for.
export const envelopes: readonly CommandEnvelope[] = [Account.at("a").Close(), Transfer.at("t").Complete()];
