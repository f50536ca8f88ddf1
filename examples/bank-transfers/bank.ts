/** The bank's books, and the work on them. */
import { setTimeout as sleep } from "node:timers/promises";
import { AggregateStore, type EventStorage } from "eventfold-es";
import { Account } from "./account.ts";
import { accountId, answerTo, FIRST_BALANCE, orderOf, transferId } from "./customers.ts";
import { Ledger } from "./ledger.ts";
import { Transfer } from "./transfer.ts";
import { Transfers } from "./transfers.ts";

/** How many transfers are on their way at most. */
const OPEN_TRANSFERS = 200;
/** How many are requested at the same time. */
const LANES = 16;

export type Work = {
  readonly transfers: number;
  readonly accounts: number;
  /** How long a receiver has for an answer, in milliseconds. */
  readonly patience: number;
  /** Begins with the last transfer, so that two processes meet in the middle. */
  readonly backwards?: boolean;
};

export function openBank(storage: string | EventStorage, processManagers: "automatic" | "manual" = "automatic") {
  return AggregateStore.builder(storage)
    .aggregate(Account)
    .aggregate(Transfer)
    .projection(Ledger)
    .processManager(Transfers)
    .processManagerMode(processManagers)
    .open();
}

export type Bank = Awaited<ReturnType<typeof openBank>>;

/**
 * Requests the transfers that are not there yet and answers for their receivers, until all are settled. May be killed and
 * started again at any time, and run beside others on the same storage: every step is there or is not, and none is taken twice.
 */
export async function transferAll(bank: Bank, { transfers, accounts, patience, backwards }: Work): Promise<void> {
  const { accounts: open } = await bank.projection(Ledger);
  for (let n = 0; open < accounts && n < accounts; n++) {
    const opening = Account.commands.Open({ owner: `customer ${n}`, balance: FIRST_BALANCE });
    await bank.get(Account, accountId(n)).execute(opening);
  }

  // Two of these at work answer every offer twice; the transfer rejects the second answer.
  const receivers = bank.subscribe({ aggregates: [Transfer], types: ["Offered"], name: "receivers" }, ({ id }) =>
    answer(bank, id, patience),
  );
  // Only to save time: a request that is repeated has the key of the first one, and counts once.
  const known = new Set(await bank.list(Transfer));
  const missing = Array.from({ length: transfers }, (_, n) => n).filter((n) => !known.has(transferId(n)));
  if (backwards === true) missing.reverse();
  let next = 0;
  const request = async (): Promise<void> => {
    for (let n = missing[next++]; n !== undefined; n = missing[next++]) {
      while (await tooManyOpen(bank)) await sleep(10);
      const order = Transfer.commands.Request({ ...orderOf(n, accounts), patience });
      await bank.get(Transfer, transferId(n)).execute(order, { idempotencyKey: "request" });
      // Half-way through, one account closes: what is on its way there has to go back.
      if ((await bank.projection(Ledger)).requested >= transfers / 2)
        await bank.get(Account, accountId(accounts - 1)).execute(Account.commands.Close());
    }
  };
  await Promise.all(Array.from({ length: LANES }, request));
  while ((await bank.projection(Ledger)).settled < transfers) await sleep(10);
  await receivers.close();
}

async function tooManyOpen(bank: Bank): Promise<boolean> {
  const { requested, settled } = await bank.projection(Ledger);
  return requested - settled >= OPEN_TRANSFERS;
}

/** Answers an offer in the receiver's place. An answer that comes too late is rejected, and so is the second one of two. */
async function answer(bank: Bank, id: string, patience: number): Promise<void> {
  const transfer = bank.get(Transfer, id);
  switch (answerTo(id)) {
    case "accept":
      await transfer.try(Transfer.commands.Accept());
      break;
    case "decline":
      await transfer.try(Transfer.commands.Decline());
      break;
    case "too late":
      // By then the work may be done and the bank closed.
      setTimeout(() => void transfer.try(Transfer.commands.Accept()).catch(() => {}), patience).unref();
      break;
    case "nothing":
  }
}

/** The table that a run ends with. */
export async function report(bank: Bank): Promise<string> {
  const { accounts, inAccounts, inTransit, requested, completed, returned, failed } = await bank.projection(Ledger);
  const sum = (counts: Record<string, number>): string => `${Object.values(counts).reduce((a, b) => a + b, 0)}`;
  const reasons = (counts: Record<string, number>): [string, string][] =>
    Object.entries(counts)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([reason, count]) => [`  ${reason}`, `${count}`]);
  const lines: [string, string][] = [
    ["accounts", `${accounts}`],
    ["money in accounts", (inAccounts / 100).toFixed(2)],
    ["money in transit", (inTransit / 100).toFixed(2)],
    ["transfers", `${requested}`],
    ["completed", `${completed}`],
    ["returned", sum(returned)],
    ...reasons(returned),
    ["failed", sum(failed)],
    ...reasons(failed),
    ["dead letters", `${(await bank.deadLetters()).length}`],
  ];
  return lines.map(([label, value]) => `${label.padEnd(22)}${value.padStart(12)}`).join("\n");
}
