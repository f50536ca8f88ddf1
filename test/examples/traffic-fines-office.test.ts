import { existsSync } from "node:fs";
import { spec } from "eventfold-es/testing";
import { describe, expect, test } from "vitest";
import { Fine } from "../../examples/traffic-fines/fine.ts";
import { importFines, SAMPLE } from "../../examples/traffic-fines/main.ts";
import { Office } from "../../examples/traffic-fines/office.ts";
import { percentile, Statistics } from "../../examples/traffic-fines/statistics.ts";
import { appeal, created, notified, pay, penalty, REAL_FINES, row, sent, writeFines } from "../support/fine-rows.ts";
import { allLines } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

/** A much later fine: until then, time passes for the others. */
const later = row("2022-06-01", "Create Fine", { fine: "G", amount: 30 });

describe("example: traffic fines with the office", () => {
  /** Books the rows with the office, and returns the lines of fine F that come from no row. */
  async function office(directory: string, ...rows: string[]) {
    const { report, tally } = await importFines(await writeFines(directory, ...rows), `${directory}/store`, {
      office: true,
    });
    const steps = allLines(`${directory}/store`)
      .filter(({ stream, line }) => stream === "fine/F" && line.actor === "office")
      .map(({ line: { type, ts, data } }) => ({ type, day: new Date(ts * 1000).toISOString().slice(0, 10), data }));
    return { report, tally, steps };
  }

  test("adds the penalty after 60 days and calls the debt collector a year later, at the time", async () => {
    const { steps, report } = await office(temporaryDirectory(), created, sent, notified, later);
    expect(steps).toEqual([
      { type: "PenaltyAdded", day: "2020-03-20", data: { amount: 8000 } },
      { type: "SentToCollection", day: "2021-03-20", data: null },
    ]);
    expect(report).toMatch(/^done by the office +2 {2}1 penalty, 1 collection$/m);
    expect(report).toMatch(/^in collection +90\.00 +on 1 fine$/m);
  });

  test("takes the steps that are due before a row, and none that are due after the last row", async () => {
    const until = (day: string) => row(day, "Create Fine", { fine: "G", amount: 30 });
    const steps = async (day: string) =>
      (await office(temporaryDirectory(), created, sent, notified, until(day))).steps;
    expect(await steps("2020-03-20")).toEqual([]);
    expect(await steps("2020-03-21")).toMatchObject([{ type: "PenaltyAdded" }]);
    expect(await steps("2021-03-20")).toMatchObject([{ type: "PenaltyAdded" }]);
  });

  test("continues with open steps when the file has grown", async () => {
    const directory = temporaryDirectory();
    expect((await office(directory, created, sent, notified)).steps).toEqual([]);
    expect((await office(directory, created, sent, notified, later)).steps).toHaveLength(2);
  });

  test.each([
    ["was paid", [created, sent, notified, pay(50)]],
    ["was never notified", [created, sent]],
    ["was dismissed by the prefect", [created, sent, notified, ...appeal(2, "#")]],
    ["is with the debt collector", [created, sent, notified, row("2020-02-20", "Send for Credit Collection")]],
  ])("has nothing to do with a fine that %s", async (_, rows) => {
    const { steps, tally } = await office(temporaryDirectory(), ...rows, later);
    expect(steps).toEqual([]);
    expect(tally).toMatchObject({ accepted: rows.length + 1, rejected: [] });
  });

  test("adds no second penalty to one that the file reports, and waits a year from that one", async () => {
    const { steps } = await office(temporaryDirectory(), created, sent, notified, penalty("2020-05-01"), later);
    expect(steps).toMatchObject([{ type: "SentToCollection", day: "2021-05-01" }]);
  });

  test("leaves a fine alone while the file has further rows for it", async () => {
    const { steps, tally } = await office(
      temporaryDirectory(),
      ...[created, sent, notified, penalty("2020-09-01"), row("2022-01-01", "Send for Credit Collection"), later],
    );
    expect(steps).toEqual([]);
    expect(tally.rejected).toEqual([]);
  });

  test("lets the debt collector wait for the prefect, and calls him when the prefect has said no", async () => {
    const directory = temporaryDirectory();
    const rows = [created, sent, notified, ...appeal(3)];
    expect((await office(directory, ...rows, later)).steps).toMatchObject([{ type: "PenaltyAdded" }]);
    const told = row("2022-07-01", "Notify Result Appeal to Offender");
    const { steps } = await office(
      directory,
      ...rows,
      told,
      later,
      row("2022-08-01", "Send Fine", { fine: "G", expense: 1 }),
    );
    expect(steps).toMatchObject([{ type: "PenaltyAdded" }, { type: "SentToCollection", day: "2022-07-01" }]);
  });

  test("handles a penalty that the file reports after the office took over the fine", async () => {
    const directory = temporaryDirectory();
    await office(directory, created, sent, notified);
    const { tally, steps } = await office(directory, created, sent, notified, penalty("2020-03-20"), later);
    expect(tally.rejected).toEqual([]);
    expect(steps).toEqual([{ type: "SentToCollection", day: "2021-03-20", data: null }]);
  });

  test("refuses a row that repeats a step of the office", async () => {
    const directory = temporaryDirectory();
    await office(directory, created, sent, notified, later);
    const { tally, steps } = await office(directory, created, sent, notified, penalty("2022-01-01"), later);
    expect(tally.rejected).toMatchObject([{ row: 5, reason: `"Add penalty" was booked before` }]);
    expect(steps).toHaveLength(2);
  });

  test("takes each step once when two runs work at the same time", async () => {
    const directory = temporaryDirectory();
    const runs = [office(directory, created, sent, notified, later), office(directory, created, sent, notified, later)];
    await Promise.all(runs);
    expect((await office(directory, created, sent, notified, later)).steps).toHaveLength(2);
  });

  /** Two runs of a whole file: every row is booked, and the second run changes nothing. */
  async function twice(file: string): Promise<string> {
    const store = `${temporaryDirectory()}/store`;
    const first = await importFines(file, store, { office: true });
    const lines = allLines(store);
    const second = await importFines(file, store, { office: true });
    expect(second.report).toBe(first.report);
    expect(second.tally).toEqual({ ...first.tally, accepted: 0, known: first.tally.accepted });
    expect(allLines(store)).toEqual(lines);
    return first.report;
  }

  test("books every row of the sample, takes all open steps, and does nothing in a second run", async () => {
    const report = await twice(SAMPLE);
    expect(report).toMatch(/^done by the office +2 {2}1 penalty, 1 collection$/m);
    expect(report).toMatch(/^rejected rows +4$/m);
    expect(report).toMatch(/^rows accounted for +37 +of 37$/m);
  });

  test.skipIf(!existsSync(REAL_FINES))(
    "does the same with the 100 fines of the public log (skipped without that file)",
    async () => {
      const report = await twice(REAL_FINES);
      // The file reports every penalty; of the 25 open fines, 7 have had one for more than a year when it ends.
      expect(report).toMatch(/^done by the office +7 {2}0 penalties, 7 collections$/m);
      expect(report).toMatch(/^owed +7,766\.30/m);
      expect(report).toMatch(/^rejected rows +0$/m);
      expect(report).toMatch(/^rows accounted for +390 +of 390$/m);
    },
  );

  test("takes a fine over once, and decides by the rules when a step is due", () => {
    const day = (n: number): number => n * 86_400_000;
    const handedOver = { type: "HandedOver", data: { notifiedAt: day(0), penaltyAt: null } } as const;
    spec(Office)
      .when({ aggregate: "fine", id: "F", ...handedOver })
      .thenSchedules({
        at: day(60),
        key: "F",
        dispatch: { ...Fine.at("F").AddPenaltyIfDue(), context: { actor: "office" } },
      });
    const booked = { amount: 40, article: 7, vehicleClass: "A", points: 0, dismissal: null };
    const fine = spec(Fine).given({ type: "Created", data: booked }, handedOver);
    fine.when(Fine.commands.HandOver()).thenNothing();
    fine.when(Fine.commands.AddPenaltyIfDue()).thenNothing();
  });
});

describe("example: statistics of traffic fines", () => {
  const rome = (text: string): number => Date.parse(text);
  const booked = { amount: 4000, article: 7, vehicleClass: "A", points: 0, dismissal: null };
  const event = (id: string, time: string, type: string, data: unknown = null) => ({
    ...{ aggregate: "fine", id, type, data, timestamp: rome(time) },
  });

  test("count by the local year, and give back the amount of a dismissal", () => {
    spec(Statistics)
      .given(
        event("__proto__", "2005-01-01T00:00:00+01:00", "Created", booked),
        event("__proto__", "2005-01-11T00:00:00+01:00", "Sent", { postage: 100 }),
        event("b", "2005-12-31T23:59:59+01:00", "Created", { ...booked, vehicleClass: "C" }),
        event("b", "2006-01-02T00:00:00+01:00", "Paid", { amount: 10, total: null }),
        event("b", "2006-01-03T00:00:00+01:00", "AppealedToJudge", { dismissal: "G" }),
      )
      .thenState(({ groups }) =>
        expect(groups).toEqual({
          "2005 A": { year: "2005", vehicleClass: "A", fines: 1, owed: 4100, collected: 0 },
          "2005 C": { year: "2005", vehicleClass: "C", fines: 1, owed: 0, collected: 10 },
        }),
      );
  });

  test("count the days from step to step, also over the change to summer time", () => {
    spec(Statistics)
      .given(
        event("a", "2005-03-01T00:00:00+01:00", "Created", booked),
        event("a", "2005-04-01T00:00:00+02:00", "Sent", { postage: 100 }),
      )
      .thenState(({ passages }) =>
        expect(passages).toEqual({
          "Create Fine → Send Fine": { from: "Create Fine", to: "Send Fine", times: { 31: 1 } },
        }),
      );
  });

  test.each([
    [{ 3: 1 }, 3, 3],
    [{ 1: 1, 2: 1, 10: 1 }, 2, 10],
    [{ 2: 5, 10: 4, 100: 1 }, 2, 10],
    [{ 2: 4, 9: 5, 100: 1 }, 9, 9],
  ])("take median and 90 % of %j by nearest rank", (times, median, ninety) => {
    const passage = { from: "Create Fine", to: "Payment", times } as const;
    expect([percentile(passage, 50), percentile(passage, 90)]).toEqual([median, ninety]);
  });
});
