/**
 * The package as its users import it: the built one. It is loaded by its path, because the benchmark is a project
 * of its own, and typed by the sources, because type checking comes before building.
 */
import type * as Eventfold from "../src/index.ts";

/** The built package's main module; the parent has set where the build is. */
const entryPoint = new URL("index.js", process.env["EVENTFOLD_DIST"]);

const eventfold = (await import(entryPoint.href)) as typeof Eventfold;
const { aggregate, AggregateStore, data, memory, projection } = eventfold;

/** The account of the README, and a command that fills it quickly. */
export const Account = aggregate("account", {
  initial: { open: false, balance: 0 },
  events: {
    Opened: data<{ owner: string }>(),
    Deposited: data<{ amount: number }>(),
    Withdrawn: data<{ amount: number }>(),
    Closed: data(),
    Noted: data<{ text: string }>(),
  },
  commands: {
    Open: data<{ owner: string }>(),
    Deposit: data<{ amount: number }>(),
    DepositMany: data<{ amount: number; times: number }>(),
    Withdraw: data<{ amount: number }>(),
    Close: data(),
    Note: data<{ text: string }>(),
  },
  rejections: { NotOpen: data(), InsufficientFunds: data<{ balance: number; needed: number }>() },
}).define({
  handle: {
    Open: ({ state, data: opened, emit }) => (state.open ? [] : emit.Opened(opened)),
    Deposit: ({ state, data: deposit, emit, reject }) => (state.open ? emit.Deposited(deposit) : reject.NotOpen()),
    DepositMany: ({ data: { amount, times }, emit }) => Array.from({ length: times }, () => emit.Deposited({ amount })),
    Withdraw: ({ state, data: withdrawal, emit, reject }) =>
      !state.open
        ? reject.NotOpen()
        : state.balance < withdrawal.amount
          ? reject.InsufficientFunds({ balance: state.balance, needed: withdrawal.amount })
          : emit.Withdrawn(withdrawal),
    Close: ({ state, emit }) => (state.open ? emit.Closed() : undefined),
    Note: ({ data: note, emit }) => emit.Noted(note),
  },
  apply: {
    Opened: (state) => ({ ...state, open: true }),
    Deposited: (state, { amount }) => ({ ...state, balance: state.balance + amount }),
    Withdrawn: (state, { amount }) => ({ ...state, balance: state.balance - amount }),
    Closed: (state) => ({ ...state, open: false }),
    Noted: (state) => state,
  },
});

/** The sum of every account. `copy` makes another projection that does the same. */
export function balances(copy = 0) {
  const initial = () => ({ total: 0, byAccount: {} as Record<string, number> });
  return projection(copy === 0 ? "balances" : `balances-${copy}`, initial).on(Account, {
    Deposited: (state, { id, data: { amount } }) => {
      state.byAccount[id] = (state.byAccount[id] ?? 0) + amount;
      state.total += amount;
    },
    Withdrawn: (state, { id, data: { amount } }) => {
      state.byAccount[id] = (state.byAccount[id] ?? 0) - amount;
      state.total -= amount;
    },
  });
}

/** Handles nothing that ever happens in the benchmark. */
export const Closures = projection("closures", { closed: 0 }).on(Account, {
  Closed: (state) => ({ closed: state.closed + 1 }),
});

export { AggregateStore, memory };
