import { projection } from "eventfold-es";
import { Account } from "./account.ts";

export { Account };
export { Purse, Transfer, Transfers } from "./transfer.ts";

const Totals = projection("totals", { total: 0 }).on(Account, {
  Deposited: (state, { data }) => ({ total: state.total + data.amount }),
});

/** Definitions may also be in arrays and plain objects. */
export const projections = [Totals];
