/** The command line: transfers money among accounts until every transfer is settled. */
import { parseArgs } from "node:util";
import { storageOf } from "../storage.ts";
import { openBank, report, transferAll } from "./bank.ts";

const DEFAULT_DIRECTORY = "data/bank-transfers";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    transfers: { type: "string", default: "200" },
    accounts: { type: "string", default: "20" },
    patience: { type: "string", default: "500" },
    backwards: { type: "boolean", default: false },
  },
});
const [directory = DEFAULT_DIRECTORY] = positionals;
await using books = await storageOf(directory);
await using bank = await openBank(books.storage);
console.log(`The books are in ${books.place}\n`);
await transferAll(bank, {
  transfers: Number(values.transfers),
  accounts: Number(values.accounts),
  patience: Number(values.patience),
  backwards: values.backwards,
});
console.log(await report(bank));
