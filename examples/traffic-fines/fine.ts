/**
 * A road-traffic fine of an Italian municipality: from the officer's notepad to the money, the appeal
 * or the debt collector. All amounts are euro cents.
 *
 * The clerk's rules, and why they are as they are:
 *
 * - What is owed is the fine and the postage. A penalty *replaces* the fine by a higher one, it is not added to it.
 * - A penalty falls due 60 days after the notification, and only on a fine that is not paid by then. Part payment does not prevent it.
 * - A payment is never refused for being too high, for coming late, or because the fine was dismissed: the money is
 *   in the municipality's account, and books that deny it are wrong. An overpayment is a credit, to be paid back.
 * - A payment that carries a running total must agree with the books. If it does not, a payment is missing or is
 *   booked twice, and a person has to look at it.
 * - A letter may go out after the fine was paid: both were in the post. Its postage is owed all the same.
 * - After a payment, there is no appeal. While the prefect decides, nothing goes to the debt collector and the judge has to wait.
 */
import { aggregate, type CommandContext, data, type RejectionOf, type Rejections } from "eventfold-es";

const DAY = 24 * 60 * 60 * 1000;
export const DAYS_BEFORE_PENALTY = 60;
/** From the penalty to the debt collector, if it is the office that takes care of the fine. */
export const DAYS_BEFORE_COLLECTION = 365;

/** The law says half of the maximum, which comes to about twice the fine. The office takes it for exactly that. */
const FINES_IN_PENALTY = 2;

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
  penaltyAt: number | null;
  /** How many of the four steps of an appeal to the prefect are done. */
  appealSteps: number;
  judge: boolean;
  dismissed: boolean;
  collection: boolean;
  /** The office takes care of it from here on: see `office.ts`. */
  handedOver: boolean;
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
  penaltyAt: null,
  appealSteps: 0,
  judge: false,
  dismissed: false,
  collection: false,
  handedOver: false,
  refusals: [],
};

/** All that was ever charged; a dismissed fine is charged nothing. */
export const charged = (state: FineState): number => (state.dismissed ? 0 : state.fine + state.postage);
/** The amount still to be paid. */
export const outstanding = (state: FineState): number => Math.max(0, charged(state) - state.paid);
/** The overpaid amount. */
export const credit = (state: FineState): number => Math.max(0, state.paid - charged(state));

/** `#`: the prefect dismissed the fine. `G`: the judge did. The log's other codes are kept, but do not end a fine. */
export const isDismissal = (code: string | null): boolean => code === "#" || code === "G";
const isNotified = (state: FineState): boolean => state.notifiedAt !== null;

const rejections = {
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
};

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
    HandedOver: data<{ notifiedAt: number; penaltyAt: number | null }>(),
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
    /** Leaves an open fine to the office. One that is settled, dismissed, collected or was never notified stays where it is. */
    HandOver: data(),
    /** The office's own steps: taken if they are due and the rules allow them, otherwise there is nothing to do. */
    AddPenaltyIfDue: data(),
    CollectIfDue: data(),
  },
  rejections,
}).define({
  handle: {
    Create: (c) => refusedBefore(c) ?? done(c, c.state.created, "Create Fine") ?? c.emit.Created(c.data),

    Send: (c) => admit(c) ?? dismissed(c) ?? done(c, c.state.sent, "Send Fine") ?? c.emit.Sent(c.data),

    Notify: (c) =>
      admit(c) ??
      missing(c, c.state.sent, "Send Fine") ??
      done(c, isNotified(c.state), "Insert Fine Notification") ??
      c.emit.Notified(c.data),

    AddPenalty: (c) => admit(c) ?? noPenalty(c) ?? tooLow(c, c.data.amount) ?? c.emit.PenaltyAdded(c.data),

    Pay: (c) => admit(c) ?? totalDiffers(c, c.data) ?? c.emit.Paid(c.data),

    FileAppeal: (c) => admit(c) ?? dismissed(c) ?? settled(c) ?? appealOutOfTurn(c, 1) ?? c.emit.AppealFiled(),
    SendAppeal: (c) => admit(c) ?? appealOutOfTurn(c, 2) ?? c.emit.AppealSent(c.data),
    ReceiveAppealResult: (c) => admit(c) ?? appealOutOfTurn(c, 3) ?? c.emit.AppealResultReceived(),
    NotifyAppealResult: (c) => admit(c) ?? appealOutOfTurn(c, 4) ?? c.emit.AppealResultNotified(),

    AppealToJudge: (c) =>
      admit(c) ??
      dismissed(c) ??
      settled(c) ??
      done(c, c.state.judge, "Appeal to Judge") ??
      underAppeal(c) ??
      c.emit.AppealedToJudge(c.data),

    SendToCollection: (c) => admit(c) ?? noCollection(c) ?? c.emit.SentToCollection(),

    RefuseEntry: ({ data, emit }) => emit.EntryRefused(data),

    HandOver: ({ state, emit }) =>
      state.handedOver || state.collection || state.notifiedAt === null || outstanding(state) === 0
        ? undefined
        : emit.HandedOver({ notifiedAt: state.notifiedAt, penaltyAt: state.penaltyAt }),

    AddPenaltyIfDue: (c) =>
      c.state.handedOver && passes(c, noPenalty)
        ? c.emit.PenaltyAdded({ amount: FINES_IN_PENALTY * c.state.fine })
        : undefined,

    CollectIfDue: (c) =>
      c.state.handedOver && isPenaltyOld(c) && passes(c, noCollection) ? c.emit.SentToCollection() : undefined,
  },

  apply: {
    Created: (s, { amount, dismissal }) => ({ ...s, created: true, fine: amount, dismissed: isDismissal(dismissal) }),
    Sent: (s, { postage }) => ({ ...s, sent: true, postage: s.postage + postage }),
    Notified: (s, _, { timestamp }) => ({ ...s, notifiedAt: timestamp }),
    PenaltyAdded: (s, { amount }, { timestamp }) => ({ ...s, penaltyAt: timestamp, fine: amount }),
    Paid: (s, { amount }) => ({ ...s, paid: s.paid + amount }),
    AppealFiled: (s) => ({ ...s, appealSteps: 1 }),
    AppealSent: (s, { dismissal }) => ({ ...s, appealSteps: 2, dismissed: s.dismissed || isDismissal(dismissal) }),
    AppealResultReceived: (s) => ({ ...s, appealSteps: 3 }),
    AppealResultNotified: (s) => ({ ...s, appealSteps: 4 }),
    AppealedToJudge: (s, { dismissal }) => ({ ...s, judge: true, dismissed: s.dismissed || isDismissal(dismissal) }),
    SentToCollection: (s) => ({ ...s, collection: true }),
    EntryRefused: (s, refusal) => ({ ...s, refusals: [...s.refusals, refusal] }),
    HandedOver: (s) => ({ ...s, handedOver: true }),
  },
});

export type FineRejection = RejectionOf<typeof Fine>;

// ── the rules: each takes what `handle` gets, and returns a rejection or nothing ──

type Deciding = {
  readonly state: FineState;
  readonly context: CommandContext;
  readonly now: Date;
  readonly reject: Rejections<typeof rejections>;
};

/**
 * An entry that was refused stays refused. A rejection writes nothing, so without this the same entry would be
 * judged again in the next run, by the state that its *successors* have led to: a payment that came before its
 * fine would then be accepted. So the importer has refusals written down (`RefuseEntry`), and here they count.
 */
function refusedBefore({ state, context, reject }: Deciding) {
  const refusal = state.refusals.find(({ key }) => key === context.idempotencyKey);
  return refusal && reject.RefusedBefore({ reason: refusal.reason });
}

/** What holds for every entry but the first: it was not refused before, and there is such a fine. */
function admit(c: Deciding) {
  return refusedBefore(c) ?? (c.state.created ? undefined : c.reject.NoSuchFine());
}

function done({ reject }: Deciding, isDone: boolean, step: string) {
  return isDone ? reject.DoneBefore({ step }) : undefined;
}

function missing({ reject }: Deciding, isDone: boolean, step: string) {
  return isDone ? undefined : reject.StepMissing({ step });
}

function dismissed({ state, reject }: Deciding) {
  return state.dismissed ? reject.Dismissed() : undefined;
}

function settled({ state, reject }: Deciding) {
  return outstanding(state) === 0 ? reject.NothingOwed({ charged: charged(state), paid: state.paid }) : undefined;
}

function inCollection({ state, reject }: Deciding) {
  return state.collection ? reject.InCollection() : undefined;
}

function underAppeal({ state, reject }: Deciding) {
  return state.appealSteps > 0 && state.appealSteps < APPEAL_STEPS.length ? reject.UnderAppeal() : undefined;
}

function appealOutOfTurn(c: Deciding, step: 1 | 2 | 3 | 4) {
  const { appealSteps } = c.state;
  return (
    done(c, appealSteps >= step, APPEAL_STEPS[step - 1]!) ??
    missing(c, appealSteps === step - 1, APPEAL_STEPS[appealSteps]!)
  );
}

/** Why there can be no penalty now, whatever its amount. */
function noPenalty(c: Deciding) {
  return (
    dismissed(c) ??
    done(c, c.state.penaltyAt !== null, "Add penalty") ??
    missing(c, isNotified(c.state), "Insert Fine Notification") ??
    inCollection(c) ??
    settled(c) ??
    tooEarly(c)
  );
}

/** Why the debt collector cannot have it now. */
function noCollection(c: Deciding) {
  return (
    dismissed(c) ??
    done(c, c.state.collection, "Send for Credit Collection") ??
    missing(c, isNotified(c.state), "Insert Fine Notification") ??
    underAppeal(c) ??
    settled(c)
  );
}

/**
 * Whether a check has no objection. The check gets a `reject` of its own, because a rejection made with the command's must be
 * returned.
 */
function passes(c: Deciding, objection: (c: Deciding) => object | undefined): boolean {
  const reject = new Proxy({} as Deciding["reject"], { get: (_, type) => () => ({ type }) });
  return objection({ ...c, reject }) === undefined;
}

/** Days from one moment to another. In a file both are midnights, and one of the days between may have had 23 or 25 hours. */
export const daysBetween = (from: number, to: number): number => Math.round((to - from) / DAY);

function isPenaltyOld({ state, now }: Deciding): boolean {
  return state.penaltyAt !== null && daysBetween(state.penaltyAt, now.getTime()) >= DAYS_BEFORE_COLLECTION;
}

function tooEarly({ state, now, reject }: Deciding) {
  const days = daysBetween(state.notifiedAt ?? 0, now.getTime());
  return days < DAYS_BEFORE_PENALTY ? reject.TooEarly({ days, needed: DAYS_BEFORE_PENALTY }) : undefined;
}

function tooLow({ state, reject }: Deciding, penalty: number) {
  return penalty < state.fine ? reject.PenaltyTooLow({ fine: state.fine, penalty }) : undefined;
}

function totalDiffers({ state, reject }: Deciding, { amount, total }: { amount: number; total: number | null }) {
  const booked = state.paid + amount;
  return total === null || total === booked ? undefined : reject.TotalDiffers({ stated: total, booked });
}
