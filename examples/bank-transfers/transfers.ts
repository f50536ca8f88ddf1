/**
 * Carries the money: takes it from the sender, offers it, and brings it to the receiver, or back when the answer is no, the
 * receiver's account does not take it, or the time is over.
 *
 * It keeps no state: each event says what the next step needs. A state that holds every open transfer would be copied for each
 * of its events.
 */
import { processManager } from "eventfold-es";
import { Account } from "./account.ts";
import { Transfer } from "./transfer.ts";

export const Transfers = processManager("transfers", { dispatches: [Account, Transfer] })
  .on(Transfer, {
    Requested: (_, { id, data: { from, amount } }) => Account.at(from).Withdraw({ transfer: id, amount }),
    Offered: (_, { id, data: { patience } }) => ({
      schedule: [{ in: patience, key: id, dispatch: Transfer.at(id).TimeOut() }],
    }),
    Accepted: (_, { id, data: { to, amount } }) => ({
      cancel: [id],
      dispatch: Account.at(to).Deposit({ transfer: id, amount }),
    }),
    Reversed: (_, { id, data: { from, amount } }) => ({
      cancel: [id],
      dispatch: Account.at(from).Refund({ transfer: id, amount }),
    }),
  })
  .on(Account, {
    Withdrawn: (_, { data: { transfer } }) => Transfer.at(transfer).Offer(),
    WithdrawalRefused: (_, { data: { transfer, reason } }) => Transfer.at(transfer).Fail({ reason }),
    Deposited: (_, { data: { transfer } }) => Transfer.at(transfer).Complete(),
    DepositRefused: (_, { data: { transfer, reason } }) => Transfer.at(transfer).Refuse({ reason }),
    Refunded: (_, { data: { transfer } }) => Transfer.at(transfer).Return(),
  });
