/**
 * An account at the bank. Amounts are whole cents.
 *
 * A refusal that others react to is an event, not a rejection: a transfer has to learn that its withdrawal or deposit
 * was refused. A rejection would write nothing, and the process manager's command would end as a dead letter.
 *
 * An account does not look whether it has seen a movement before. It need not: a process manager's command takes effect once.
 * If it did so twice, the auditor would find money that was never paid in.
 */
import { aggregate, data } from "eventfold-es";

/** What a transfer takes from this account, or brings. */
type Movement = { readonly transfer: string; readonly amount: number };
type RefusalReason = "unknown account" | "closed account" | "insufficient funds";
type Refusal = Movement & { readonly reason: RefusalReason };

export const Account = aggregate("account", {
  initial: { status: "unknown" as "unknown" | "open" | "closed", balance: 0 },
  events: {
    Opened: data<{ owner: string; balance: number }>(),
    Withdrawn: data<Movement>(),
    WithdrawalRefused: data<Refusal>(),
    Deposited: data<Movement>(),
    DepositRefused: data<Refusal>(),
    Refunded: data<Movement>(),
    Closed: data(),
  },
  commands: {
    Open: data<{ owner: string; balance: number }>(),
    Withdraw: data<Movement>(),
    Deposit: data<Movement>(),
    /** Brings back what a transfer took and could not deliver. A closed account takes it too: the money has to be somewhere. */
    Refund: data<Movement>(),
    Close: data(),
  },
  rejections: { UnknownAccount: data() },
}).define({
  handle: {
    Open: ({ state, data, emit }) => (state.status === "unknown" ? emit.Opened(data) : undefined),
    Withdraw: ({ state, data, emit }) =>
      state.status !== "open"
        ? emit.WithdrawalRefused({ ...data, reason: `${state.status} account` })
        : state.balance < data.amount
          ? emit.WithdrawalRefused({ ...data, reason: "insufficient funds" })
          : emit.Withdrawn(data),
    Deposit: ({ state, data, emit }) =>
      state.status === "open"
        ? emit.Deposited(data)
        : emit.DepositRefused({ ...data, reason: `${state.status} account` }),
    Refund: ({ state, data, emit, reject }) =>
      state.status === "unknown" ? reject.UnknownAccount() : emit.Refunded(data),
    Close: ({ state, emit, reject }) =>
      state.status === "unknown" ? reject.UnknownAccount() : state.status === "open" ? emit.Closed() : undefined,
  },
  apply: {
    Opened: (_, { balance }) => ({ status: "open", balance }),
    Withdrawn: (s, { amount }) => ({ ...s, balance: s.balance - amount }),
    WithdrawalRefused: (s) => s,
    Deposited: (s, { amount }) => ({ ...s, balance: s.balance + amount }),
    DepositRefused: (s) => s,
    Refunded: (s, { amount }) => ({ ...s, balance: s.balance + amount }),
    Closed: (s) => ({ ...s, status: "closed" }),
  },
});
