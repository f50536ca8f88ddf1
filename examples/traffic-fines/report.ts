/** What the clerk reads: sums over all fines in the store, and the rows that were refused. */
import type { AggregateStore, ProjectionState } from "eventfold-es";
import { charged, credit, Fine, type FineRejection, outstanding } from "./fine.ts";
import { count as times, percentile, type Statistics, STEPS } from "./statistics.ts";

/** Sums over the store; amounts in cents. */
type Books = {
  fines: number;
  /** Fines, penalties and postage; nothing for a dismissed fine. */
  owed: number;
  paid: number;
  open: { fines: number; amount: number };
  collection: { fines: number; amount: number };
  credit: { fines: number; amount: number };
};

type Rejected = { row: number; fine: string; activity: string; reason: string };

/** What became of the rows of one file. */
export type Tally = { rows: number; accepted: number; known: number; rejected: Rejected[] };

/** Asks every fine in the store. For thousands of them, a projection such as `Statistics` keeps such sums up to date. */
export async function readBooks(store: AggregateStore<typeof Fine, typeof Statistics>): Promise<Books> {
  const books: Books = {
    fines: 0,
    owed: 0,
    paid: 0,
    open: { fines: 0, amount: 0 },
    collection: { fines: 0, amount: 0 },
    credit: { fines: 0, amount: 0 },
  };
  for (const id of await store.list(Fine)) {
    const state = await store.get(Fine, id).state();
    if (!state.created) continue; // nothing but refused entries: there is no such fine
    books.fines += 1;
    books.owed += charged(state);
    books.paid += state.paid;
    add(state.collection ? books.collection : books.open, outstanding(state));
    add(books.credit, credit(state));
  }
  return books;
}

function add(sum: { fines: number; amount: number }, amount: number): void {
  if (amount === 0) return;
  sum.fines += 1;
  sum.amount += amount;
}

/** The tables, and the refused rows between them. The same after every run of the same file. */
export function formatReport(
  books: Books,
  statistics: ProjectionState<typeof Statistics>,
  { rows, accepted, known, rejected }: Tally,
): string {
  const { penalties, collections } = statistics.office;
  const lines: [label: string, value: string, remark: string][] = [
    ["fines", `${books.fines}`, ""],
    ["owed", euros(books.owed), "fines, penalties and postage"],
    [
      "paid",
      euros(books.paid),
      books.credit.amount > 0
        ? `of it ${euros(books.credit.amount)} too much, on ${count(books.credit.fines, "fine")}`
        : "",
    ],
    ["open", euros(books.open.amount), `on ${count(books.open.fines, "fine")}`],
    ["in collection", euros(books.collection.amount), `on ${count(books.collection.fines, "fine")}`],
    ...(penalties + collections === 0
      ? []
      : [
          [
            "done by the office",
            `${penalties + collections}`,
            `${count(penalties, "penalty", "penalties")}, ${count(collections, "collection")}`,
          ] as [string, string, string],
        ]),
    ["rejected rows", `${rejected.length}`, ""],
    ["rows accounted for", `${accepted + known + rejected.length}`, `of ${rows}`],
  ];
  const table = lines.map(([label, value, remark]) =>
    `${label.padEnd(18)}  ${value.padStart(14)}  ${remark}`.trimEnd(),
  );
  const refused = rejected.map(({ row, fine, activity, reason }) => `row ${row}, fine ${fine}, ${activity}: ${reason}`);
  return [
    ...table,
    ...(refused.length > 0 ? ["", "Rejected:", ...refused] : []),
    "",
    "By the year of the fine and the vehicle class:",
    ...formatGroups(statistics),
    "",
    "Days from one step to the next:",
    ...formatPassages(statistics),
  ].join("\n");
}

function formatGroups({ groups }: ProjectionState<typeof Statistics>): string[] {
  const sorted = Object.values(groups).toSorted(
    (a, b) => a.year.localeCompare(b.year) || a.vehicleClass.localeCompare(b.vehicleClass),
  );
  const line = (year: string, vehicleClass: string, ...numbers: string[]): string =>
    `${year.padEnd(6)}${vehicleClass.padEnd(8)}${numbers.map((number) => number.padStart(13)).join("")}`;
  return [
    line("year", "class", "fines", "owed", "collected"),
    ...sorted.map(({ year, vehicleClass, fines, owed, collected }) =>
      line(year, vehicleClass, `${fines}`, euros(owed), euros(collected)),
    ),
  ];
}

function formatPassages({ passages }: ProjectionState<typeof Statistics>): string[] {
  const sorted = Object.values(passages).toSorted(
    (a, b) => STEPS.indexOf(a.from) - STEPS.indexOf(b.from) || STEPS.indexOf(a.to) - STEPS.indexOf(b.to),
  );
  const line = (what: string, ...numbers: string[]): string =>
    `${what.padEnd(80)}${numbers.map((number) => number.padStart(8)).join("")}`;
  return [
    line("", "times", "median", "90 %"),
    ...sorted.map((passage) =>
      line(
        `${passage.from} → ${passage.to}`,
        `${times(passage)}`,
        `${percentile(passage, 50)}`,
        `${percentile(passage, 90)}`,
      ),
    ),
  ];
}

/** A rejection in the clerk's words. A kind of rejection that is forgotten here does not compile. */
export function explain(rejection: FineRejection): string {
  switch (rejection.type) {
    case "NoSuchFine":
      return "there is no such fine";
    case "DoneBefore":
      return `"${rejection.data.step}" was booked before`;
    case "StepMissing":
      return `"${rejection.data.step}" has to come first`;
    case "TooEarly":
      return `only ${count(rejection.data.days, "day")} after the notification, not ${rejection.data.needed}`;
    case "NothingOwed":
      return `nothing is owed: ${euros(rejection.data.paid)} paid of ${euros(rejection.data.charged)}`;
    case "PenaltyTooLow":
      return `${euros(rejection.data.penalty)} would lower the fine of ${euros(rejection.data.fine)}`;
    case "TotalDiffers":
      return `the row says ${euros(rejection.data.stated)} paid in all, the books would say ${euros(rejection.data.booked)}`;
    case "Dismissed":
      return "the fine was dismissed";
    case "UnderAppeal":
      return "an appeal to the prefect is not decided yet";
    case "InCollection":
      return "the fine is with the debt collector";
    case "RefusedBefore":
      return rejection.data.reason;
  }
}

function euros(cents: number): string {
  return (cents / 100).toLocaleString("en-GB", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
}

function count(n: number, noun: string, plural = `${noun}s`): string {
  return `${n} ${n === 1 ? noun : plural}`;
}
