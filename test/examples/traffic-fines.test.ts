import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { CsvError, parseCsv } from "../../examples/traffic-fines/csv.ts";
import { importFines, SAMPLE } from "../../examples/traffic-fines/main.ts";
import { readRows } from "../../examples/traffic-fines/rows.ts";
import {
  appeal,
  collection,
  created,
  notified,
  pay,
  penalty,
  REAL_FINES as REAL,
  row,
  sent,
  writeFines,
} from "../support/fine-rows.ts";

describe("example: traffic fines", () => {
  let directory: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "traffic-fines-"));
  });
  afterEach(() => rm(directory, { recursive: true, force: true }));

  const store = () => join(directory, "store");

  /** Every line of every stream. */
  async function lines(): Promise<Record<string, unknown>[]> {
    const found: Record<string, unknown>[] = [];
    for (const type of await readdir(join(store(), "streams")))
      for (const id of await readdir(join(store(), "streams", type))) {
        const text = await readFile(join(store(), "streams", type, id, "app.jsonl"), "utf8");
        for (const line of text.split("\n").slice(0, -1)) found.push(JSON.parse(line));
      }
    return found;
  }

  async function run(...rows: string[]) {
    const { report, tally } = await importFines(await writeFines(directory, ...rows), store());
    return { report, tally, reasons: tally.rejected.map(({ row, reason }) => `${row}: ${reason}`) };
  }

  describe("the sample", () => {
    test("accounts for every row, and prints and stores the same after a second run", async () => {
      const first = await importFines(SAMPLE, store());
      const before = await lines();
      const second = await importFines(SAMPLE, store());

      expect(second.report).toBe(first.report);
      expect(await lines()).toEqual(before);
      expect(before).toHaveLength(first.tally.rows);
      expect(first.tally).toMatchObject({ rows: 37, accepted: 33, known: 0 });
      expect(second.tally).toMatchObject({ rows: 37, accepted: 0, known: 33, rejected: first.tally.rejected });
    });

    test("names each rejected row with its fine, activity and reason", async () => {
      const { report } = await importFines(SAMPLE, store());
      expect(report).toContain(`rejected rows                    4`);
      expect(report).toContain(
        `row 20, fine T-004, Send for Credit Collection: an appeal to the prefect is not decided yet`,
      );
      expect(report).toContain(`row 28, fine T-005, Add penalty: nothing is owed: 41.50 paid of 41.50`);
      expect(report).toContain(`row 29, fine T-006/B, Payment: there is no such fine`);
      expect(report).toContain(
        `row 34, fine T-007, Payment: the row says 60.00 paid in all, the books would say 120.00`,
      );
    });

    test("records each event at its row's time", async () => {
      await importFines(SAMPLE, store());
      const recorded = (await lines()).toSorted((a, b) => Number(a.pos) - Number(b.pos));
      const rows = readRows(await readFile(SAMPLE, "utf8"));
      expect(recorded.map(({ ts, ms }) => Number(ts) * 1000 + Number(ms))).toEqual(rows.map(({ at }) => at));
    });
  });

  describe("the rules", () => {
    test("charge fine and postage, less payments; a penalty replaces the fine", async () => {
      const { report } = await run(created, sent, notified, pay(30, 30), penalty(), pay(5, 35, "2020-04-01"));
      expect(report).toMatch(/^owed +90\.00/m);
      expect(report).toMatch(/^paid +35\.00$/m);
      expect(report).toMatch(/^open +55\.00 +on 1 fine$/m);
    });

    test("add no penalty to a paid fine", async () => {
      expect((await run(created, sent, notified, pay(50), penalty())).reasons).toEqual([
        "6: nothing is owed: 50.00 paid of 50.00",
      ]);
    });

    test("add no penalty within 60 days of the notification, none that lowers the fine, and no second one", async () => {
      const { reasons } = await run(
        created,
        sent,
        penalty(),
        notified,
        penalty("2020-03-19"),
        penalty("2020-03-20", 39),
        penalty(),
        penalty(),
      );
      expect(reasons).toEqual([
        `4: "Insert Fine Notification" has to come first`,
        "6: only 59 days after the notification, not 60",
        "7: 39.00 would lower the fine of 40.00",
        `9: "Add penalty" was booked before`,
      ]);
    });

    test("book an overpayment, and report it as such", async () => {
      const { report, reasons } = await run(created, pay(40, 40), pay(40, 80, "2020-02-02"));
      expect(reasons).toEqual([]);
      expect(report).toMatch(/^paid +80\.00 +of it 40\.00 too much, on 1 fine$/m);
      expect(report).toMatch(/^open +0\.00 +on 0 fines$/m);
    });

    test("refuse a payment whose running total does not agree with the books", async () => {
      expect((await run(created, pay(20, 20), pay(20, 20))).reasons).toEqual([
        "4: the row says 20.00 paid in all, the books would say 40.00",
      ]);
    });

    test("distinguish two rows with the same content", async () => {
      const { tally } = await run(created, pay(20), pay(20));
      expect(tally).toMatchObject({ accepted: 3, rejected: [] });
    });

    test("collect a notified debt once, and accept payments even then", async () => {
      const { report, reasons } = await run(created, collection, sent, notified, collection, collection, pay(10));
      expect(reasons).toEqual([
        `3: "Insert Fine Notification" has to come first`,
        `7: "Send for Credit Collection" was booked before`,
      ]);
      expect(report).toMatch(/^in collection +40\.00 +on 1 fine$/m);
      expect(
        (await run(...[created, sent, notified, pay(50), collection].map((line) => line.replace(",F,", ",G,"))))
          .reasons,
      ).toEqual(["6: nothing is owed: 50.00 paid of 50.00"]);
    });

    test("take the steps of an appeal in their order", async () => {
      const [filed, passedOn, answered, told] = appeal(4) as [string, string, string, string];
      const { reasons } = await run(created, passedOn, filed, filed, told, passedOn, answered, told);
      expect(reasons).toEqual([
        `3: "Insert Date Appeal to Prefecture" has to come first`,
        `5: "Insert Date Appeal to Prefecture" was booked before`,
        `6: "Send Appeal to Prefecture" has to come first`,
      ]);
    });

    test("let the debt collector and the judge wait for the prefect", async () => {
      const judge = row("2020-06-01", "Appeal to Judge", { dismissal: "NIL" });
      const { reasons } = await run(
        created,
        sent,
        notified,
        ...appeal(3),
        collection,
        judge,
        ...appeal(4).slice(3),
        judge,
        collection,
      );
      expect(reasons).toEqual([8, 9].map((number) => `${number}: an appeal to the prefect is not decided yet`));
    });

    test.each([
      ["prefect", appeal(2, "#")],
      ["judge", [row("2020-02-02", "Appeal to Judge", { dismissal: "G" })]],
    ])("charges nothing for a fine that the %s dismissed, and gives the money back", async (_, appealed) => {
      const { report, reasons } = await run(created, sent, notified, pay(10), ...appealed, penalty());
      expect(reasons).toEqual([`${6 + appealed.length}: the fine was dismissed`]);
      expect(report).toMatch(/^owed +0\.00/m);
      expect(report).toMatch(/^paid +10\.00 +of it 10\.00 too much/m);
    });

    test("book each step once", async () => {
      const { reasons } = await run(created, created, sent, sent, notified, notified);
      expect(reasons).toEqual([
        `3: "Create Fine" was booked before`,
        `5: "Send Fine" was booked before`,
        `7: "Insert Fine Notification" was booked before`,
      ]);
    });
  });

  describe("a second run", () => {
    test("keeps refusing a row that the later rows would have made acceptable", async () => {
      const rows = [pay(40), created];
      const first = await run(...rows);
      const second = await run(...rows);
      expect(first.reasons).toEqual(["2: there is no such fine"]);
      expect(second.report).toBe(first.report);
      expect(await lines()).toHaveLength(2);
    });

    test("does not count a fine that has refused rows only", async () => {
      expect((await run(pay(40))).report).toMatch(/^fines +0$/m);
    });

    test("books rows that were added to the file, wherever the other fines' rows have moved", async () => {
      await run(created, sent);
      const { tally } = await run(row("2019-12-01", "Create Fine", { fine: "E", amount: 10 }), created, sent, notified);
      expect(tally).toMatchObject({ accepted: 2, known: 2, rejected: [] });
    });

    test("books each row once when two runs work at the same time", async () => {
      const [first, second] = await Promise.all([importFines(SAMPLE, store()), importFines(SAMPLE, store())]);
      expect(await lines()).toHaveLength(37);
      expect(first.tally.accepted + second.tally.accepted).toBe(33);
      expect(first.tally.rejected).toEqual(second.tally.rejected);
    });

    test("reports a row that was changed after it was booked", async () => {
      await run(created, pay(10));
      const { reasons, report } = await run(created, pay(11));
      expect(reasons).toEqual(["3: this row was changed after it was booked; the books keep what it said then"]);
      expect(report).toMatch(/^paid +10\.00$/m);
    });
  });

  describe("the CSV reader", () => {
    test("reads quoted cells, doubled quotes, line breaks in cells, CRLF and a byte order mark", () => {
      expect(parseCsv('\uFEFFa,b\r\n"x ""y"", z","1\n2"\r\n,\n"",last', ["a"])).toEqual([
        { line: 2, number: 2, cells: { a: 'x "y", z', b: "1\n2" } },
        { line: 4, number: 3, cells: { a: "", b: "" } },
        { line: 5, number: 4, cells: { a: "", b: "last" } },
      ]);
    });

    test.each([
      ["", "line 1: the file is empty"],
      ["a,a\n", 'line 1: column "a" occurs twice'],
      ["b\n", 'line 1: missing column "a"'],
      ["a,b\n1,2\n3\n", "line 3: cells: 1, but columns: 2"],
      ["a,b\n\n1,2\n", "line 2: cells: 1, but columns: 2"],
      ['a\n1\n"2\n3\n', "line 3: a quoted cell does not end"],
      ['a\n"1"2\n', "line 2: a quoted cell does not end, or goes on"],
      ['a\n1"2\n', "line 2: a quote or a lone carriage return"],
    ])("refuses %j", (text, message) => {
      expect(() => parseCsv(text, ["a"])).toThrow(message);
    });

    test.each([
      [created.replace("2020-01-01", "2020-02-30"), 'line 3: column "time:timestamp" must be a time with its offset'],
      [created.replace("+00:00", ""), 'line 3: column "time:timestamp"'],
      [
        created.replace("40,", "40.005,"),
        'line 3: column "amount" must be an amount of euros and cents, but is "40.005"',
      ],
      [created.replace("40,", "-1,"), 'line 3: column "amount"'],
      [created.replace("7.0", "seven"), 'line 3: column "article" must be a whole number, but is "seven"'],
      [created.replace(",F,", ",,"), 'line 3: column "case:concept:name" must be filled in'],
      [created.replace("Create Fine", "toString"), 'line 3: column "concept:name" must be an activity'],
      [created.replace("complete", "start"), 'line 3: column "lifecycle:transition" must be "complete"'],
    ])("books nothing of a file with a bad row: %s", async (bad, message) => {
      const attempt = run(created, bad);
      await expect(attempt).rejects.toThrow(CsvError);
      await expect(attempt).rejects.toThrow(message);
      expect(existsSync(store())).toBe(false);
    });
  });

  test.skipIf(!existsSync(REAL))("books the 100 fines of the public log once (skipped without that file)", async () => {
    const first = await importFines(REAL, store());
    const before = await lines();
    const second = await importFines(REAL, store());

    expect(first.tally).toEqual({ rows: 390, accepted: 390, known: 0, rejected: [] });
    expect(second.tally).toEqual({ rows: 390, accepted: 0, known: 390, rejected: [] });
    expect(second.report).toBe(first.report);
    expect(before).toHaveLength(390);
    expect(await lines()).toEqual(before);
    expect(first.report).toMatch(/^fines +100$/m);
    // Worked out by other means: the last `amount` and every `expense` of a fine, less every `paymentAmount`.
    expect(first.report).toMatch(/^owed +7,766\.30/m);
    expect(first.report).toMatch(/^paid +2,968\.03$/m);
    expect(first.report).toMatch(/^open +1,417\.99 +on 25 fines$/m);
    expect(first.report).toMatch(/^in collection +3,380\.28 +on 36 fines$/m);
    expect(first.report).toMatch(/^rows accounted for +390 +of 390$/m);
    // The sum of the second table is the line of the first; the steps are as many as the rows but for the first of each fine.
    const groups = [...first.report.matchAll(/^20\d\d {2}[AM] +(\d+) +([\d,.]+) +([\d,.]+)$/gm)];
    const sum = (column: number): number =>
      groups.reduce((total, group) => total + Math.round(Number(group[column]!.replaceAll(",", "")) * 100), 0);
    expect([sum(1) / 100, sum(2), sum(3)]).toEqual([100, 776_630, 296_803]);
    const steps = [...first.report.matchAll(/ → .+? +(\d+) +\d+ +\d+$/gm)];
    expect(steps.reduce((total, [, times]) => total + Number(times), 0)).toBe(290);
    expect(first.report).toMatch(/^Insert Fine Notification → Add penalty +\d+ +60 +60$/m);
  });
});
