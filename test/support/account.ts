import { aggregate, data } from "eventfold-es";

/** The bank account of the README. */
export const Account = aggregate("account", {
  initial: { open: false, balance: 0 },
  events: {
    Opened: data<{ owner: string }>(),
    Deposited: data<{ amount: number }>(),
    Withdrawn: data<{ amount: number }>(),
    Closed: data(),
  },
  commands: {
    Open: data<{ owner: string }>(),
    Deposit: data<{ amount: number }>(),
    Withdraw: data<{ amount: number }>(),
    Split: data<{ amounts: number[] }>(),
    Close: data(),
    Crash: data(),
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
    Split: ({ state, data, emit, reject }) =>
      state.open ? data.amounts.map((amount) => emit.Deposited({ amount })) : reject.NotOpen(),
    Close: ({ state, emit }) => (state.open ? emit.Closed() : undefined),
    Crash: () => {
      throw new TypeError("a bug in handle");
    },
  },
  apply: {
    Opened: (s) => ({ ...s, open: true }),
    Deposited: (s, { amount }) => ({ ...s, balance: s.balance + amount }),
    Withdrawn: (s, { amount }) => ({ ...s, balance: s.balance - amount }),
    Closed: (s) => ({ ...s, open: false }),
  },
});
