import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { audit } from "../../examples/bank-transfers/audit.ts";
import { openBank, report, transferAll } from "../../examples/bank-transfers/bank.ts";
import { importFines, SAMPLE } from "../../examples/traffic-fines/main.ts";
import { runProgram } from "../docs/documentation.ts";
import { describeServers } from "../support/server-storages.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

describeServers("the examples, by one changed line", ({ storage: makeStorage, program }) => {
  test("the counters print the same, and continue in the next run", async () => {
    const inFiles = readFileSync(new URL("../../examples/counter/main.ts", import.meta.url), "utf8");
    const { imports, storage, end } = program();
    const changed =
      imports + inFiles.replace("AggregateStore.builder(directory)", `AggregateStore.builder(${storage})`) + end;
    const [files, server] = [temporaryDirectory(), temporaryDirectory()];
    for (const _ of ["first run", "second run"])
      expect(await runProgram(changed, server)).toBe(await runProgram(inFiles, files));
  });

  test("bank transfers settle every transfer and keep the money", async () => {
    const storage = await makeStorage();
    const work = { transfers: 120, accounts: 20, patience: 800 };
    const bank = await openBank(storage);
    await transferAll(bank, work);
    const table = await report(bank);
    await bank.close();
    expect(table).toMatch(/^money in accounts +20000\.00$/m);
    expect(table).toMatch(/^dead letters +0$/m);
    expect(await audit(storage, work)).toMatchObject({ transfers: 120, money: 2_000_000, problems: [] });
  });

  test("two banks on one store share the work", async () => {
    const storage = await makeStorage();
    const work = { transfers: 60, accounts: 20, patience: 800 };
    const banks = await Promise.all([openBank(storage), openBank(storage)]);
    await Promise.all(banks.map((bank, n) => transferAll(bank, { ...work, backwards: n === 1 })));
    for (const bank of banks) await bank.close();
    expect(await audit(storage, work)).toMatchObject({ transfers: 60, money: 2_000_000, problems: [] });
  });

  for (const office of [false, true]) {
    test(`traffic fines${office ? " with the office" : ""} come to the same as in files, and a second run changes nothing`, async () => {
      const storage = await makeStorage();
      const inFiles = await importFines(SAMPLE, temporaryDirectory(), { office });
      const first = await importFines(SAMPLE, storage, { office });
      expect(first).toEqual(inFiles);
      const second = await importFines(SAMPLE, storage, { office });
      expect(second.report).toBe(first.report);
      expect(second.tally).toMatchObject({ rows: 37, accepted: 0, known: 33 });
    });
  }
});
