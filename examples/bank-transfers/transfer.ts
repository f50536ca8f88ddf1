/**
 * A transfer: the one place where it is decided how it ends. The receiver's answer and the time-out may come at the same
 * moment, in two processes; whichever is decided first counts, and the other finds nothing to do.
 *
 *     requested ─┬─ offered ─┬─ accepted ─┬─ completed             the money has arrived
 *                │           └────────────┴─ reversed ─ returned   it has gone back
 *                └─ failed                                         it never left
 */
import { aggregate, data, type Rejections } from "eventfold-es";

type Status = "none" | "requested" | "offered" | "accepted" | "reversed" | "completed" | "returned" | "failed";

type Order = {
  readonly from: string;
  readonly to: string;
  readonly amount: number;
  /** How long the receiver has for an answer, in milliseconds. */
  readonly patience: number;
};

/** The money is to go back to `from`. */
type Reversal = { readonly from: string; readonly amount: number; readonly reason: string };

const rejections = {
  Invalid: data<{ why: string }>(),
  /** The step does not follow from where the transfer is. */
  OutOfTurn: data<{ status: Status }>(),
};

export const Transfer = aggregate("transfer", {
  initial: { status: "none" as Status, from: "", to: "", amount: 0, patience: 0 },
  events: {
    Requested: data<Order>(),
    /** The money has left the sender, and waits for the receiver's answer. */
    Offered: data<{ patience: number }>(),
    Accepted: data<{ to: string; amount: number }>(),
    Reversed: data<Reversal>(),
    Completed: data(),
    Returned: data(),
    Failed: data<{ reason: string }>(),
  },
  commands: {
    Request: data<Order>(),
    Offer: data(),
    Fail: data<{ reason: string }>(),
    /** The receiver's answer. */
    Accept: data(),
    Decline: data(),
    TimeOut: data(),
    /** The receiver's account did not take the money. */
    Refuse: data<{ reason: string }>(),
    Complete: data(),
    Return: data(),
  },
  rejections,
}).define({
  handle: {
    Request: ({ state, data, emit, reject }) =>
      data.from === data.to
        ? reject.Invalid({ why: "it leads from an account to the same" })
        : !Number.isSafeInteger(data.amount) || data.amount <= 0
          ? reject.Invalid({ why: "the amount is not a number of cents" })
          : state.status === "none"
            ? emit.Requested(data)
            : reject.OutOfTurn({ status: state.status }),
    Offer: (c) => outOfTurn(c, "requested") ?? c.emit.Offered({ patience: c.state.patience }),
    Fail: (c) => outOfTurn(c, "requested") ?? c.emit.Failed(c.data),
    Accept: (c) => outOfTurn(c, "offered") ?? c.emit.Accepted({ to: c.state.to, amount: c.state.amount }),
    Decline: (c) => outOfTurn(c, "offered") ?? c.emit.Reversed(reversal(c.state, "declined")),
    // An answer may just have come: then there is nothing to do, and that is no failure.
    TimeOut: ({ state, emit }) =>
      state.status === "offered" ? emit.Reversed(reversal(state, "timed out")) : undefined,
    Refuse: (c) => outOfTurn(c, "accepted") ?? c.emit.Reversed(reversal(c.state, c.data.reason)),
    Complete: (c) => outOfTurn(c, "accepted") ?? c.emit.Completed(),
    Return: (c) => outOfTurn(c, "reversed") ?? c.emit.Returned(),
  },
  apply: {
    Requested: (_, order) => ({ ...order, status: "requested" }),
    Offered: (s) => ({ ...s, status: "offered" }),
    Accepted: (s) => ({ ...s, status: "accepted" }),
    Reversed: (s) => ({ ...s, status: "reversed" }),
    Completed: (s) => ({ ...s, status: "completed" }),
    Returned: (s) => ({ ...s, status: "returned" }),
    Failed: (s) => ({ ...s, status: "failed" }),
  },
});

function outOfTurn(
  { state, reject }: { readonly state: { readonly status: Status }; readonly reject: Rejections<typeof rejections> },
  needed: Status,
) {
  return state.status === needed ? undefined : reject.OutOfTurn({ status: state.status });
}

function reversal({ from, amount }: Pick<Order, "from" | "amount">, reason: string): Reversal {
  return { from, amount, reason };
}
