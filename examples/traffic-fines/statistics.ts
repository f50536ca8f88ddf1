/**
 * Sums and times over all fines, kept up to date event by event: what is owed and was collected, by year and vehicle class,
 * and how many days each step took. Amounts are cents.
 */
import { projection } from "eventfold-es";
import { daysBetween, Fine, isDismissal } from "./fine.ts";
import { OFFICE } from "./office.ts";

/** The steps of a fine in the words of the log, in the order that tables have. */
export const STEPS = [
  "Create Fine",
  "Send Fine",
  "Insert Fine Notification",
  "Insert Date Appeal to Prefecture",
  "Add penalty",
  "Send Appeal to Prefecture",
  "Receive Result Appeal from Prefecture",
  "Notify Result Appeal to Offender",
  "Appeal to Judge",
  "Payment",
  "Send for Credit Collection",
] as const;

type Step = (typeof STEPS)[number];

/** The facts about one fine that its next event needs. */
type Case = {
  readonly group: string;
  fine: number;
  postage: number;
  dismissed: boolean;
  step: Step;
  at: number;
};

/** Fines of one year and vehicle class. */
type Group = { year: string; vehicleClass: string; fines: number; owed: number; collected: number };

/** From one step of a fine to its next. */
type Passage = { from: Step; to: Step; times: Record<string, number> };

type State = {
  readonly cases: Record<string, Case>;
  readonly groups: Record<string, Group>;
  readonly passages: Record<string, Passage>;
  readonly office: { penalties: number; collections: number };
};

/** The year as it was in town: the stroke of New Year is still December in UTC. */
const YEAR = new Intl.DateTimeFormat("en", { timeZone: "Europe/Rome", year: "numeric" });

// With something in front, no id can be `__proto__`.
const caseKey = (id: string): string => `fine ${id}`;

export const Statistics = projection("statistics", (): State => ({
  cases: {},
  groups: {},
  passages: {},
  office: { penalties: 0, collections: 0 },
})).on(Fine, {
  Created: (s, { id, timestamp, data: { amount, vehicleClass, dismissal } }) => {
    const year = YEAR.format(timestamp);
    const group = `${year} ${vehicleClass}`;
    const sums = (s.groups[group] ??= { year, vehicleClass, fines: 0, owed: 0, collected: 0 });
    sums.fines += 1;
    const created = { group, fine: 0, postage: 0, dismissed: false, step: "Create Fine" as const, at: timestamp };
    s.cases[caseKey(id)] = created;
    charge(s, created, { fine: amount, dismissed: isDismissal(dismissal) });
  },
  Sent: (s, { id, timestamp, data: { postage } }) => {
    const sent = pass(s, id, "Send Fine", timestamp);
    charge(s, sent, { postage: sent.postage + postage });
  },
  Notified: (s, { id, timestamp }) => void pass(s, id, "Insert Fine Notification", timestamp),
  PenaltyAdded: (s, { id, timestamp, actor, data: { amount } }) => {
    charge(s, pass(s, id, "Add penalty", timestamp), { fine: amount });
    if (actor === OFFICE) s.office.penalties += 1;
  },
  Paid: (s, { id, timestamp, data: { amount } }) => {
    s.groups[pass(s, id, "Payment", timestamp).group]!.collected += amount;
  },
  AppealFiled: (s, { id, timestamp }) => void pass(s, id, "Insert Date Appeal to Prefecture", timestamp),
  AppealSent: (s, { id, timestamp, data: { dismissal } }) =>
    dismiss(s, pass(s, id, "Send Appeal to Prefecture", timestamp), dismissal),
  AppealResultReceived: (s, { id, timestamp }) => void pass(s, id, "Receive Result Appeal from Prefecture", timestamp),
  AppealResultNotified: (s, { id, timestamp }) => void pass(s, id, "Notify Result Appeal to Offender", timestamp),
  AppealedToJudge: (s, { id, timestamp, data: { dismissal } }) =>
    dismiss(s, pass(s, id, "Appeal to Judge", timestamp), dismissal),
  SentToCollection: (s, { id, timestamp, actor }) => {
    pass(s, id, "Send for Credit Collection", timestamp);
    if (actor === OFFICE) s.office.collections += 1;
  },
});

/** Counts how long the fine took to come to this step. */
function pass(s: State, id: string, to: Step, at: number): Case {
  const fine = s.cases[caseKey(id)]!;
  const passage = (s.passages[`${fine.step} → ${to}`] ??= { from: fine.step, to, times: {} });
  const days = daysBetween(fine.at, at);
  passage.times[days] = (passage.times[days] ?? 0) + 1;
  fine.step = to;
  fine.at = at;
  return fine;
}

/** Takes over what has changed, and keeps the sum of its group right. */
function charge(s: State, fine: Case, change: Partial<Pick<Case, "fine" | "postage" | "dismissed">>): void {
  const owed = (): number => (fine.dismissed ? 0 : fine.fine + fine.postage);
  const before = owed();
  Object.assign(fine, change);
  s.groups[fine.group]!.owed += owed() - before;
}

function dismiss(s: State, fine: Case, code: string | null): void {
  if (isDismissal(code)) charge(s, fine, { dismissed: true });
}

/** The smallest number of days that so many per cent of the passages took at most (nearest rank); 50 for the median. */
export function percentile({ times }: Passage, percent: number): number {
  const days = Object.keys(times)
    .map(Number)
    .toSorted((a, b) => a - b);
  let left = Math.ceil((count({ times }) * percent) / 100);
  for (const day of days) {
    left -= times[day]!;
    if (left <= 0) return day;
  }
  return Number.NaN;
}

export function count({ times }: Pick<Passage, "times">): number {
  return Object.values(times).reduce((sum, n) => sum + n, 0);
}
