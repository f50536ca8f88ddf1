/** Rows of a log of traffic fines, for the tests of that example. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The public log's first 100 fines, if that file exists. */
export const REAL_FINES = fileURLToPath(new URL("../../../shared/data/road-traffic-fines-100.csv", import.meta.url));

const HEADER =
  "amount,article,case:concept:name,concept:name,dismissal,expense,lastSent,lifecycle:transition,notificationType,org:resource,paymentAmount,points,time:timestamp,totalPaymentAmount,vehicleClass";

type Cell = "amount" | "dismissal" | "expense" | "paymentAmount" | "totalPaymentAmount";

/** A row, by default of fine "F". */
export function row(
  day: string,
  activity: string,
  cells: Partial<Record<Cell, string | number>> & { fine?: string } = {},
): string {
  const { fine = "F", amount = "", dismissal = "", expense = "", paymentAmount = "", totalPaymentAmount = "" } = cells;
  const [article, points, vehicle] = activity === "Create Fine" ? ["7.0", "0.0", "A"] : ["", "", ""];
  return [
    amount,
    article,
    fine,
    activity,
    dismissal,
    expense,
    "",
    "complete",
    "",
    "",
    paymentAmount,
    points,
    `${day} 00:00:00+00:00`,
    totalPaymentAmount,
    vehicle,
  ].join(",");
}

export const created = row("2020-01-01", "Create Fine", { amount: 40 });
export const sent = row("2020-01-10", "Send Fine", { expense: 10 });
export const notified = row("2020-01-20", "Insert Fine Notification");
export const pay = (amount: number, total: number | string = "", day = "2020-02-01") =>
  row(day, "Payment", { paymentAmount: amount, totalPaymentAmount: total });
export const penalty = (day = "2020-03-20", amount = 80) => row(day, "Add penalty", { amount });
export const collection = row("2021-01-01", "Send for Credit Collection");
export const appeal = (steps: number, dismissal = "NIL") =>
  [
    row("2020-02-02", "Insert Date Appeal to Prefecture"),
    row("2020-02-03", "Send Appeal to Prefecture", { dismissal }),
    row("2020-02-04", "Receive Result Appeal from Prefecture"),
    row("2020-02-05", "Notify Result Appeal to Offender"),
  ].slice(0, steps);

/** Writes the rows to a file in a directory. Returns its path. */
export async function writeFines(directory: string, ...rows: readonly string[]): Promise<string> {
  const file = join(directory, "fines.csv");
  await writeFile(file, [HEADER, ...rows, ""].join("\n"));
  return file;
}
