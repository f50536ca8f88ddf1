/** Where the money is, and how many transfers have got how far. Amounts are cents. */
import { projection } from "eventfold-es";
import { Account } from "./account.ts";
import { Transfer } from "./transfer.ts";

export const Ledger = projection("ledger", () => ({
  accounts: 0,
  inAccounts: 0,
  inTransit: 0,
  requested: 0,
  completed: 0,
  /** How many, by reason. */
  returned: {} as Record<string, number>,
  failed: {} as Record<string, number>,
  /** Transfers that have come to their end, whichever. */
  settled: 0,
}))
  .on(Account, {
    Opened: (s, { data: { balance } }) => {
      s.accounts += 1;
      s.inAccounts += balance;
    },
    Withdrawn: (s, { data: { amount } }) => {
      s.inAccounts -= amount;
      s.inTransit += amount;
    },
    Deposited: (s, { data: { amount } }) => {
      s.inAccounts += amount;
      s.inTransit -= amount;
    },
    Refunded: (s, { data: { amount } }) => {
      s.inAccounts += amount;
      s.inTransit -= amount;
    },
  })
  .on(Transfer, {
    Requested: (s) => {
      s.requested += 1;
    },
    Completed: (s) => {
      s.completed += 1;
      s.settled += 1;
    },
    Reversed: (s, { data: { reason } }) => {
      s.returned[reason] = (s.returned[reason] ?? 0) + 1;
    },
    Returned: (s) => {
      s.settled += 1;
    },
    Failed: (s, { data: { reason } }) => {
      s.failed[reason] = (s.failed[reason] ?? 0) + 1;
      s.settled += 1;
    },
  });
