import { describe, expect, test } from "vitest";
import { spec } from "eventfold-es/testing";
import { Account } from "../../examples/bank-transfers/account.ts";
import { audit } from "../../examples/bank-transfers/audit.ts";
import { openBank, report, transferAll } from "../../examples/bank-transfers/bank.ts";
import { Transfer } from "../../examples/bank-transfers/transfer.ts";
import { Transfers } from "../../examples/bank-transfers/transfers.ts";
import { soak } from "../../scripts/soak-transfers.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const work = { transfers: 120, accounts: 20, patience: 800 };

describe("example: bank transfers", () => {
  test("settles every transfer, keeps the sum of money, and reports how each transfer ended", async () => {
    const directory = temporaryDirectory();
    const options = { ...work, patience: 200 };
    const bank = await openBank(directory);
    await transferAll(bank, options);
    const table = await report(bank);
    await bank.close();
    expect(table).toMatch(/^money in accounts +20000\.00$/m);
    expect(table).toMatch(/^money in transit +0\.00$/m);
    expect(table).toMatch(/^transfers +120$/m);
    for (const reason of ["closed account", "declined", "timed out", "unknown account", "insufficient funds"])
      expect(table).toMatch(new RegExp(`^ {2}${reason} +[1-9]`, "m"));
    expect(table).toMatch(/^dead letters +0$/m);
    expect(await audit(directory, options)).toMatchObject({ transfers: 120, money: 2_000_000, problems: [] });
  });

  test("does so although two processes share the work and are killed repeatedly", async () => {
    const { kills, ...findings } = await soak({
      ...work,
      directory: temporaryDirectory(),
      killEvery: 300,
      maxKills: 6,
    });
    // Some receivers never answer: the run takes longer than the time-out, and a process is killed meanwhile.
    expect(kills).toBeGreaterThan(0);
    expect(findings).toMatchObject({ transfers: 120, money: 2_000_000, problems: [] });
  });

  test("has an auditor that finds money without a source", async () => {
    const directory = temporaryDirectory();
    const options = { transfers: 5, accounts: 4, patience: 50 };
    const bank = await openBank(directory);
    await transferAll(bank, options);
    await bank.get(Account, "a-000").execute(Account.commands.Refund({ transfer: "t-000000", amount: 1 }));
    await bank.close();
    const { problems } = await audit(directory, options);
    expect(problems.join("\n")).toMatch(/Refunded of account a-000: .*the transfer is about \d+, not 1/);
    expect(problems.join("\n")).toMatch(/\d+ in accounts and 0 in transit are not 400000/);
  });

  describe("a transfer", () => {
    const requested = { type: "Requested", data: { from: "a", to: "b", amount: 5, patience: 50 } } as const;
    const offered = { type: "Offered", data: { patience: 50 } } as const;

    test("that was answered in time does not time out", () => {
      const accepted = { type: "Accepted", data: { to: "b", amount: 5 } } as const;
      spec(Transfer).given(requested, offered, accepted).when(Transfer.commands.TimeOut()).thenNothing();
    });

    test("that has timed out cannot be accepted any more", () => {
      const reversed = { type: "Reversed", data: { from: "a", amount: 5, reason: "timed out" } } as const;
      spec(Transfer).given(requested, offered).when(Transfer.commands.TimeOut()).thenEvents(reversed);
      spec(Transfer)
        .given(requested, offered, reversed)
        .when(Transfer.commands.Accept())
        .thenRejects("OutOfTurn", { status: "reversed" });
    });

    test.each([
      ["from an account to the same", { ...requested.data, to: "a" }],
      ["of nothing", { ...requested.data, amount: 0 }],
      ["of half a cent", { ...requested.data, amount: 0.5 }],
    ])("%s is refused", (_, order) => {
      spec(Transfer).when(Transfer.commands.Request(order)).thenRejects("Invalid");
    });
  });

  describe("the process manager", () => {
    test("gives the receiver a limited time", () => {
      spec(Transfers)
        .when({ aggregate: "transfer", id: "t", type: "Offered", data: { patience: 50 } })
        .thenSchedules({ in: 50, key: "t", dispatch: Transfer.at("t").TimeOut() });
    });

    test("returns the money when the receiver's account refuses it", () => {
      const refusal = { transfer: "t", amount: 5, reason: "closed account" };
      spec(Transfers)
        .when({ aggregate: "account", id: "b", type: "DepositRefused", data: refusal })
        .thenDispatches(Transfer.at("t").Refuse({ reason: "closed account" }));
      const reversal = { from: "a", amount: 5, reason: "closed account" };
      const outcome = spec(Transfers).when({ aggregate: "transfer", id: "t", type: "Reversed", data: reversal });
      outcome.thenDispatches(Account.at("a").Refund({ transfer: "t", amount: 5 }));
      outcome.thenCancels("t");
    });
  });
});
