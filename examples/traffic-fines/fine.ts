/**
 * A road-traffic fine of an Italian municipality: from the officer's notepad to the money, the appeal
 * or the debt collector. All amounts are euro cents.
 *
 * The clerk's rules, and why they are as they are:
 *
 * - What is owed is the fine and the postage. A penalty *replaces* the fine by a higher one, it is not added to it.
 * - A penalty falls due 60 days after the notification, and only on a fine that is not paid by then. Part payment does not prevent it.
 * - A payment is never refused for being too high, for coming late, or because the fine was dismissed: the money is
 *   in the municipality's account, and books that deny it are wrong. What was paid too much is a credit, to be paid back.
 * - A payment that carries a running total must agree with the books. If it does not, a payment is missing or is
 *   booked twice, and a person has to look at it.
 * - A letter may go out after the fine was paid: both were in the post. Its postage is owed all the same.
 * - Whoever has paid can no longer appeal. While the prefect decides, nothing goes to the debt collector and the judge has to wait.
 */
import { aggregate, type CommandContext, data, type RejectionOf } from "eventfold-es";

const DAY = 24 * 60 * 60 * 1000;
const DAYS_BEFORE_PENALTY = 60;

/** The steps of an appeal to the prefect, in their only order. */
const APPEAL_STEPS = [
  "Insert Date Appeal to Prefecture",
  "Send Appeal to Prefecture",
  "Receive Result Appeal from Prefecture",
  "Notify Result Appeal to Offender",
] as const;

type Refusal = { readonly key: string; readonly activity: string; readonly reason: string };

export type FineState = {
  created: boolean;
  /** Without postage; replaced when the penalty is added. */
  fine: number;
  postage: number;
  paid: number;
  sent: boolean;
  notifiedAt: number | null;
  penalty: boolean;
  /** How many of the four steps of an appeal to the prefect are done. */
  appealSteps: number;
  judge: boolean;
  dismissed: boolean;
  collection: boolean;
  /** Entries that the clerk refused, with the reason given at the time. */
  refusals: readonly Refusal[];
};

const initial: FineState = {
  created: false,
  fine: 0,
  postage: 0,
  paid: 0,
  sent: false,
  notifiedAt: null,
  penalty: false,
  appealSteps: 0,
  judge: false,
  dismissed: false,
  collection: false,
  refusals: [],
};

/** All that was ever charged; a dismissed fine is charged nothing. */
export const charged = (state: FineState): number => (state.dismissed ? 0 : state.fine + state.postage);
/** What is still to be paid. */
export const outstanding = (state: FineState): number => Math.max(0, charged(state) - state.paid);
/** What was paid too much. */
export const credit = (state: FineState): number => Math.max(0, state.paid - charged(state));

/** `#`: the prefect dismissed the fine. `G`: the judge did. The log's other codes are kept, but do not end a fine. */
const isDismissal = (code: string | null): boolean => code === "#" || code === "G";
const underAppeal = (state: FineState): boolean => state.appealSteps > 0 && state.appealSteps < APPEAL_STEPS.length;

export const Fine = aggregate("fine", {
  initial,
  events: {
    Created: data<{
      amount: number;
      article: number;
      vehicleClass: string;
      points: number;
      dismissal: string | null;
    }>(),
    Sent: data<{ postage: number }>(),
    Notified: data<{ notificationType: string | null; lastSent: string | null }>(),
    PenaltyAdded: data<{ amount: number }>(),
    Paid: data<{ amount: number; total: number | null }>(),
    AppealFiled: data(),
    AppealSent: data<{ dismissal: string | null }>(),
    AppealResultReceived: data(),
    AppealResultNotified: data(),
    AppealedToJudge: data<{ dismissal: string | null }>(),
    SentToCollection: data(),
    EntryRefused: data<Refusal>(),
  },
  commands: {
    Create: data<{ amount: number; article: number; vehicleClass: string; points: number; dismissal: string | null }>(),
    Send: data<{ postage: number }>(),
    Notify: data<{ notificationType: string | null; lastSent: string | null }>(),
    /** `amount` is the new fine, not what is added to the old one. */
    AddPenalty: data<{ amount: number }>(),
    /** `total` is what has been paid so far, this payment included, if the sender knows it. */
    Pay: data<{ amount: number; total: number | null }>(),
    FileAppeal: data(),
    SendAppeal: data<{ dismissal: string | null }>(),
    ReceiveAppealResult: data(),
    NotifyAppealResult: data(),
    AppealToJudge: data<{ dismissal: string | null }>(),
    SendToCollection: data(),
    /** Keeps for good that an entry was refused: see `admit`. */
    RefuseEntry: data<Refusal>(),
  },
  errors: {
    NoSuchFine: data(),
    DoneBefore: data<{ step: string }>(),
    StepMissing: data<{ step: string }>(),
    TooEarly: data<{ days: number; needed: number }>(),
    NothingOwed: data<{ charged: number; paid: number }>(),
    PenaltyTooLow: data<{ fine: number; penalty: number }>(),
    TotalDiffers: data<{ stated: number; booked: number }>(),
    Dismissed: data(),
    UnderAppeal: data(),
    InCollection: data(),
    RefusedBefore: data<{ reason: string }>(),
  },
}).define({
  handle: {
    Create: (c) =>
      refusedBefore(c) ?? (c.state.created ? c.reject.DoneBefore({ step: "Create Fine" }) : c.emit.Created(c.data)),

    Send: (c) =>
      admit(c) ?? (c.state.sent ? c.reject.DoneBefore({ step: "Send Fine" }) : (dismissed(c) ?? c.emit.Sent(c.data))),

    Notify: (c) =>
      admit(c) ??
      (!c.state.sent
        ? c.reject.StepMissing({ step: "Send Fine" })
        : c.state.notifiedAt !== null
          ? c.reject.DoneBefore({ step: "Insert Fine Notification" })
          : c.emit.Notified(c.data)),

    AddPenalty: (c) => {
      const { state, data, now, emit, reject } = c;
      const refused = admit(c) ?? dismissed(c);
      if (refused) return refused;
      if (state.penalty) return reject.DoneBefore({ step: "Add penalty" });
      if (state.notifiedAt === null) return reject.StepMissing({ step: "Insert Fine Notification" });
      if (state.collection) return reject.InCollection();
      if (outstanding(state) === 0) return reject.NothingOwed({ charged: charged(state), paid: state.paid });
      // Both are midnights, and one of the days between may have had 23 or 25 hours.
      const days = Math.round((now.getTime() - state.notifiedAt) / DAY);
      if (days < DAYS_BEFORE_PENALTY) return reject.TooEarly({ days, needed: DAYS_BEFORE_PENALTY });
      if (data.amount < state.fine) return reject.PenaltyTooLow({ fine: state.fine, penalty: data.amount });
      return emit.PenaltyAdded(data);
    },

    Pay: (c) => {
      const { state, data, emit, reject } = c;
      const booked = state.paid + data.amount;
      return (
        admit(c) ??
        (data.total !== null && data.total !== booked
          ? reject.TotalDiffers({ stated: data.total, booked })
          : emit.Paid(data))
      );
    },

    FileAppeal: (c) => admit(c) ?? dismissed(c) ?? settled(c) ?? appealOutOfTurn(c, 1) ?? c.emit.AppealFiled(),
    SendAppeal: (c) => admit(c) ?? appealOutOfTurn(c, 2) ?? c.emit.AppealSent(c.data),
    ReceiveAppealResult: (c) => admit(c) ?? appealOutOfTurn(c, 3) ?? c.emit.AppealResultReceived(),
    NotifyAppealResult: (c) => admit(c) ?? appealOutOfTurn(c, 4) ?? c.emit.AppealResultNotified(),

    AppealToJudge: (c) =>
      admit(c) ??
      dismissed(c) ??
      settled(c) ??
      (c.state.judge
        ? c.reject.DoneBefore({ step: "Appeal to Judge" })
        : underAppeal(c.state)
          ? c.reject.UnderAppeal()
          : c.emit.AppealedToJudge(c.data)),

    SendToCollection: (c) =>
      admit(c) ??
      dismissed(c) ??
      (c.state.collection
        ? c.reject.DoneBefore({ step: "Send for Credit Collection" })
        : c.state.notifiedAt === null
          ? c.reject.StepMissing({ step: "Insert Fine Notification" })
          : underAppeal(c.state)
            ? c.reject.UnderAppeal()
            : (settled(c) ?? c.emit.SentToCollection())),

    RefuseEntry: ({ data, emit }) => emit.EntryRefused(data),
  },

  apply: {
    Created: (s, { amount, dismissal }) => ({ ...s, created: true, fine: amount, dismissed: isDismissal(dismissal) }),
    Sent: (s, { postage }) => ({ ...s, sent: true, postage: s.postage + postage }),
    Notified: (s, _, { timestamp }) => ({ ...s, notifiedAt: timestamp }),
    PenaltyAdded: (s, { amount }) => ({ ...s, penalty: true, fine: amount }),
    Paid: (s, { amount }) => ({ ...s, paid: s.paid + amount }),
    AppealFiled: (s) => ({ ...s, appealSteps: 1 }),
    AppealSent: (s, { dismissal }) => ({ ...s, appealSteps: 2, dismissed: s.dismissed || isDismissal(dismissal) }),
    AppealResultReceived: (s) => ({ ...s, appealSteps: 3 }),
    AppealResultNotified: (s) => ({ ...s, appealSteps: 4 }),
    AppealedToJudge: (s, { dismissal }) => ({ ...s, judge: true, dismissed: s.dismissed || isDismissal(dismissal) }),
    SentToCollection: (s) => ({ ...s, collection: true }),
    EntryRefused: (s, refusal) => ({ ...s, refusals: [...s.refusals, refusal] }),
  },
});

export type FineRejection = RejectionOf<typeof Fine>;

// ── rules that several commands share: each takes what `handle` gets, and returns a rejection or nothing ──

type Deciding<Reject> = { state: FineState; context: CommandContext; reject: Reject };

/**
 * An entry that was refused stays refused. A rejection writes nothing, so without this the same entry would be
 * judged again in the next run, by the state that its *successors* have led to: a payment that came before its
 * fine would then be accepted. So the importer has refusals written down (`RefuseEntry`), and here they count.
 */
function refusedBefore<R>({
  state,
  context,
  reject,
}: Deciding<{ RefusedBefore: (data: { reason: string }) => R }>): R | undefined {
  const refusal = state.refusals.find(({ key }) => key === context.idempotencyKey);
  return refusal && reject.RefusedBefore({ reason: refusal.reason });
}

/** What holds for every entry but the first: there is such a fine, and this entry was not refused before. */
function admit<R, N>(
  c: Deciding<{ RefusedBefore: (data: { reason: string }) => R; NoSuchFine: () => N }>,
): R | N | undefined {
  return refusedBefore(c) ?? (c.state.created ? undefined : c.reject.NoSuchFine());
}

function dismissed<R>({ state, reject }: Deciding<{ Dismissed: () => R }>): R | undefined {
  return state.dismissed ? reject.Dismissed() : undefined;
}

function settled<R>({
  state,
  reject,
}: Deciding<{ NothingOwed: (data: { charged: number; paid: number }) => R }>): R | undefined {
  return outstanding(state) === 0 ? reject.NothingOwed({ charged: charged(state), paid: state.paid }) : undefined;
}

function appealOutOfTurn<D, M>(
  {
    state,
    reject,
  }: Deciding<{ DoneBefore: (data: { step: string }) => D; StepMissing: (data: { step: string }) => M }>,
  step: 1 | 2 | 3 | 4,
): D | M | undefined {
  if (state.appealSteps >= step) return reject.DoneBefore({ step: APPEAL_STEPS[step - 1]! });
  if (state.appealSteps < step - 1) return reject.StepMissing({ step: APPEAL_STEPS[state.appealSteps]! });
  return undefined;
}
