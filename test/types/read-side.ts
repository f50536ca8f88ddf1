/** Projections, process managers, subscriptions and injected events: only what was declared and registered. */
import { AggregateStore, aggregate, data, processManager, projection, type SubscribeOptions } from "eventfold-es";
import { Account, Transfer } from "./bank.ts";
import { type Same, yes } from "./support.ts";

const Ledger = aggregate("ledger", { initial: 0, events: { Noted: data() }, commands: { Note: data() } });

// Projections.
projection("p", () => ({ total: 0 })).on(Account, {
  Deposited: (view, event) => {
    yes<Same<typeof view, { total: number }>>();
    yes<Same<typeof event.type, "Deposited">>();
    yes<Same<typeof event.timestamp, number>>();
    view.total += event.data.amount;
  },
  // @ts-expect-error an asynchronous handler cannot fold
  Withdrawn: async (view) => {
    await Promise.resolve();
    view.total--;
  },
});
projection("p", { n: 0 }).on(Account, {
  // @ts-expect-error a handler gets the state that was declared
  Closed: (view: { m: number }) => view,
});
// @ts-expect-error a name is a text
projection(5, { n: 0 });

export async function projections(): Promise<void> {
  const Mine = projection("mine", { n: 0 }).on(Account, { Closed: (view) => ({ n: view.n + 1 }) });
  await using store = await AggregateStore.builder("d").aggregate(Account).projection(Mine).open();
  yes<Same<Awaited<ReturnType<typeof store.projection<typeof Mine>>>, { readonly n: number }>>();
  await store.projection(Mine, { after: 3, timeout: 100 });
  await store.rebuildProjection(Mine, {
    signal: new AbortController().signal,
    onProgress: (progress) => yes<Same<typeof progress, { readonly position: number; readonly head: number }>>(),
  });
  // @ts-expect-error a position is a number
  await store.projection(Mine, { after: "3" });
  // @ts-expect-error milliseconds
  await store.projection(Mine, { timeout: "3s" });
  // @ts-expect-error no such option
  await store.rebuildProjection(Mine, { from: 3 });
  // @ts-expect-error an aggregate is no projection
  await store.projection(Account);
}

// Process managers: targets, commands and states.
const Office = processManager("office", { dispatches: [Account, Transfer], initial: { open: 0 } })
  .on(Transfer, {
    Requested: (state, event) => {
      yes<Same<typeof state, { open: number }>>();
      yes<Same<typeof event.data, { from: string; to: string; amount: number }>>();
      return {
        state: { open: state.open + 1 },
        dispatch: Account.at(event.data.from).Withdraw({ amount: event.data.amount }),
        schedule: [
          { in: "30m", key: event.id, dispatch: Transfer.at(event.id).TimeOut() },
          { at: new Date(), dispatch: Transfer.at(event.id).TimeOut() },
          { at: 5, dispatch: Account.at("a").Close() },
        ],
        cancel: ["k"],
      };
    },
    Completed: (_, event) => [Account.at(event.id).Close(), Transfer.at(event.id).TimeOut()],
    TimedOut: () => undefined,
  })
  .on(Account, { Closed: (_, event) => Transfer.at(event.id).Complete(), Opened: () => {} });

processManager("m", { dispatches: [Account] }).on(Transfer, {
  // @ts-expect-error Transfer is not among its targets
  Completed: (_, event) => Transfer.at(event.id).TimeOut(),
});
processManager("m", { dispatches: [Account] }).on(Transfer, {
  // @ts-expect-error nor may one be in a list
  Completed: (_, event) => [Account.at("a").Close(), Transfer.at(event.id).TimeOut()],
});
processManager("m", { dispatches: [Account] }).on(Transfer, {
  // @ts-expect-error nor be scheduled
  Completed: (_, event) => ({ schedule: [{ in: "1h", dispatch: Transfer.at(event.id).TimeOut() }] }),
});
processManager("m", { dispatches: [Account] }).on(Transfer, {
  // @ts-expect-error not a duration
  Completed: () => ({ schedule: [{ in: "soon", dispatch: Account.at("a").Close() }] }),
});
processManager("m", { dispatches: [Account] }).on(Transfer, {
  // @ts-expect-error either `in` or `at`
  Completed: () => ({ schedule: [{ in: "1h", at: 5, dispatch: Account.at("a").Close() }] }),
});
processManager("m", { dispatches: [Account] }).on(Transfer, {
  // @ts-expect-error a time is needed
  Completed: () => ({ schedule: [{ dispatch: Account.at("a").Close() }] }),
});
processManager("m", { dispatches: [Account], initial: { n: 0 } }).on(Transfer, {
  // @ts-expect-error another state
  Completed: () => ({ state: { n: "1" } }),
});
processManager("m", { dispatches: [Account] }).on(Transfer, {
  // @ts-expect-error an event is no command
  Completed: () => Account.events.Closed(),
});
processManager("m", { dispatches: [Account] }).on(Transfer, {
  // @ts-expect-error a command without an address
  Completed: () => Account.commands.Close(),
});
processManager("m", { dispatches: [Account] }).on(Transfer, {
  // @ts-expect-error a reaction is made at once
  Completed: async () => Promise.resolve(Account.at("a").Close()),
});
processManager("m", { dispatches: [Account] }).on(Transfer, {
  // @ts-expect-error no such event
  Exploded: () => {},
});
// @ts-expect-error targets are needed
processManager("m", { initial: 0 });

export async function wiring(): Promise<void> {
  await using store = await AggregateStore.builder("d")
    .aggregate(Account)
    .aggregate(Transfer)
    .processManager(Office)
    .processManagerMode("manual")
    .open();
  const { dispatched, deadLettered } = await store.runProcessManagers();
  yes<Same<typeof dispatched, number>>();
  yes<Same<typeof deadLettered, number>>();
  const [letter] = await store.deadLetters(Office);
  yes<Same<NonNullable<typeof letter>["command"], unknown>>();
  await store.replayDeadLetter(letter?.key ?? "");

  // @ts-expect-error it reacts to Transfer, which is not registered
  AggregateStore.builder("d").aggregate(Account).processManager(Office);
  const ToLedger = processManager("to-ledger", { dispatches: [Ledger] }).on(Account, { Closed: () => undefined });
  // @ts-expect-error it sends to Ledger, which is not registered
  AggregateStore.builder("d").aggregate(Account).processManager(ToLedger);
  // @ts-expect-error not a mode
  AggregateStore.builder("d").processManagerMode("sometimes");
  // @ts-expect-error a key is a text
  await store.dropDeadLetter(5);
}

export async function subscriptions(store: AggregateStore<typeof Account | typeof Transfer>): Promise<void> {
  for await (const event of store.subscribe({ from: "now", aggregates: [Account, "transfer"], types: ["Closed"] })) {
    yes<Same<typeof event.aggregate, "account">>();
    yes<Same<typeof event.type, "Closed">>();
  }
  for await (const event of store.subscribe({ aggregates: ["transfer"], types: ["Requested", "Completed"] }))
    if (event.type === "Requested") event.data.from.toUpperCase();
    else yes<Same<typeof event.type, "Completed">>();
  for await (const event of store.subscribe({ types: ["Requested"] })) event.data.from.toUpperCase();
  // Of an aggregate that is not registered, nothing is known but its name.
  for await (const event of store.events({ aggregates: ["ledger"], types: ["Noted"] })) {
    yes<Same<typeof event.aggregate, "ledger">>();
    yes<Same<typeof event.data, unknown>>();
  }
  for await (const event of store.events({ aggregates: [Ledger] }))
    yes<Same<typeof event.type, "Noted" | "$deleted">>();
  for await (const event of store.events({ aggregates: [Ledger], types: ["$deleted"] }))
    yes<Same<typeof event.data.final, boolean>>();
  for await (const event of store.events({ from: 5, to: 10, ids: ["a"], correlationId: "c", reverse: true, limit: 1 }))
    yes<Same<typeof event.aggregate, "account" | "transfer">>();
  // @ts-expect-error a limit is a number
  store.events({ limit: "1" });
  yes<Same<Awaited<ReturnType<typeof store.head>>, number>>();
  store.subscribe({ types: ["Opened"] }, ({ data }) => void data.owner);
  const subscription = store.subscribe({ name: "mail", onError: (error) => void error }, async (event) => {
    yes<Same<typeof event.position, number>>();
    await Promise.resolve();
  });
  await subscription.close();
  await subscription.done;
  // @ts-expect-error a position, or "now"
  store.subscribe({ from: "then" });
  // @ts-expect-error an aggregate or its type
  store.subscribe({ aggregates: [5] });
  // @ts-expect-error with a handler there is nothing to iterate over
  store.subscribe({}, () => {})[Symbol.asyncIterator]();
  ({ types: ["A"] }) satisfies SubscribeOptions;
}

export async function injection(store: AggregateStore<typeof Account | typeof Transfer>): Promise<void> {
  await store.injectEvent(Account, "a", { type: "Deposited", data: { amount: 1 } });
  await store.injectEvent(Account, "a", { type: "Closed", eventId: "e" }, { runProcessManagers: true });
  for await (const event of store.get(Account, "a").events()) await store.injectEvent(Account, "b", event);
  // @ts-expect-error a wrong payload
  await store.injectEvent(Account, "a", { type: "Deposited", data: { amount: "1" } });
  // @ts-expect-error the event of another aggregate
  await store.injectEvent(Account, "a", { type: "Completed" });
  // @ts-expect-error a command is no event
  await store.injectEvent(Account, "a", Account.commands.Close());
  // @ts-expect-error a contract without behaviour cannot be run
  await store.injectEvent(Ledger, "l", { type: "Noted" });
  // @ts-expect-error no such option
  await store.injectEvent(Account, "a", { type: "Closed" }, { runProcessManager: true });
}
