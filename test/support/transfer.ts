import { aggregate, data, processManager } from "eventfold-es";

/** Accounts and transfers between them: the process manager of API.md, with a time-out and a compensation. */
export const Purse = aggregate("purse", {
  initial: { balance: 0, held: {} as Readonly<Record<string, number>> },
  events: {
    Filled: data<{ amount: number }>(),
    Taken: data<{ amount: number; transfer: string }>(),
    Given: data<{ amount: number; transfer: string }>(),
  },
  commands: {
    Fill: data<{ amount: number }>(),
    Take: data<{ amount: number; transfer: string }>(),
    Give: data<{ amount: number; transfer: string }>(),
  },
  rejections: { TooLittle: data<{ balance: number }>() },
}).define({
  handle: {
    Fill: ({ data: d, emit }) => emit.Filled(d),
    Take: ({ state, data: d, emit, reject }) =>
      state.balance < d.amount ? reject.TooLittle({ balance: state.balance }) : emit.Taken(d),
    Give: ({ data: d, emit }) => emit.Given(d),
  },
  apply: {
    Filled: (s, { amount }) => ({ ...s, balance: s.balance + amount }),
    Taken: (s, { amount }) => ({ ...s, balance: s.balance - amount }),
    Given: (s, { amount }) => ({ ...s, balance: s.balance + amount }),
  },
});

export const Transfer = aggregate("transfer", {
  initial: { status: "none" as "none" | "pending" | "done" | "late" },
  events: {
    Requested: data<{ from: string; to: string; amount: number }>(),
    Completed: data(),
    TimedOut: data(),
  },
  commands: { Request: data<{ from: string; to: string; amount: number }>(), Complete: data(), TimeOut: data() },
}).define({
  handle: {
    Request: ({ state, data: d, emit }) => (state.status === "none" ? emit.Requested(d) : undefined),
    Complete: ({ state, emit }) => (state.status === "pending" ? emit.Completed() : undefined),
    TimeOut: ({ state, emit }) => (state.status === "pending" ? emit.TimedOut() : undefined),
  },
  apply: {
    Requested: () => ({ status: "pending" as const }),
    Completed: () => ({ status: "done" as const }),
    TimedOut: () => ({ status: "late" as const }),
  },
});

export const Transfers = processManager("transfers", {
  dispatches: [Purse, Transfer],
  initial: {} as Record<string, { to: string; amount: number }>,
})
  .on(Transfer, {
    Requested: (state, e) => ({
      state: { ...state, [e.id]: { to: e.data.to, amount: e.data.amount } },
      dispatch: Purse.at(e.data.from).Take({ amount: e.data.amount, transfer: e.id }),
      schedule: [{ in: "30m", key: e.id, dispatch: Transfer.at(e.id).TimeOut() }],
    }),
  })
  .on(Purse, {
    Taken: (state, e) => {
      const transfer = state[e.data.transfer];
      return transfer === undefined
        ? undefined
        : Purse.at(transfer.to).Give({ amount: transfer.amount, transfer: e.data.transfer });
    },
    Given: (state, e) => {
      const { [e.data.transfer]: _, ...rest } = state;
      return { state: rest, dispatch: Transfer.at(e.data.transfer).Complete(), cancel: [e.data.transfer] };
    },
  });
