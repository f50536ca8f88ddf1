import { aggregate, data } from "eventfold-es";

/** Two aggregates that share no command type. */
export const Account = aggregate("account", {
  initial: { owner: "", balance: 0, open: false },
  events: {
    Opened: data<{ owner: string }>(),
    Deposited: data<{ amount: number; transfer?: string }>(),
    Withdrawn: data<{ amount: number; transfer?: string }>(),
    Closed: data(),
  },
  commands: {
    Open: data<{ owner: string }>(),
    Deposit: data<{ amount: number; transfer?: string }>(),
    Withdraw: data<{ amount: number; transfer?: string }>(),
    Close: data(),
  },
  rejections: { NotOpen: data(), InsufficientFunds: data<{ balance: number; needed: number }>() },
}).define({
  handle: {
    Open: ({ state, data, emit }) => (state.open ? [] : emit.Opened(data)),
    Deposit: ({ state, data, emit, reject }) => (state.open ? emit.Deposited(data) : reject.NotOpen()),
    Withdraw: ({ state, data, emit, reject }) =>
      !state.open
        ? reject.NotOpen()
        : state.balance < data.amount
          ? reject.InsufficientFunds({ balance: state.balance, needed: data.amount })
          : emit.Withdrawn(data),
    Close: ({ state, emit }) => (state.open ? emit.Closed() : undefined),
  },
  apply: {
    Opened: (s, { owner }) => ({ ...s, owner, open: true }),
    Deposited: (s, { amount }) => ({ ...s, balance: s.balance + amount }),
    Withdrawn: (s, { amount }) => ({ ...s, balance: s.balance - amount }),
    Closed: (s) => ({ ...s, open: false }),
  },
});

export const Transfer = aggregate("transfer", {
  initial: { status: "none" as "none" | "pending" | "done" },
  events: { Requested: data<{ from: string; to: string; amount: number }>(), Completed: data(), TimedOut: data() },
  commands: { Request: data<{ from: string; to: string; amount: number }>(), Complete: data(), TimeOut: data() },
}).define({
  handle: {
    Request: ({ data, emit }) => emit.Requested(data),
    Complete: ({ emit }) => emit.Completed(),
    TimeOut: ({ state, emit }) => (state.status === "pending" ? emit.TimedOut() : []),
  },
  apply: {
    Requested: () => ({ status: "pending" }),
    Completed: () => ({ status: "done" }),
    TimedOut: (s) => s,
  },
});
