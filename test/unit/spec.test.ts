import { projection } from "eventfold-es";
import { manualClock, sequentialIds, spec } from "eventfold-es/testing";
import { describe, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { Purse, Transfer, Transfers } from "../support/transfer.ts";

const Total = projection("total", { total: 0 }).on(Account, {
  Deposited: (s, e) => {
    s.total += e.data.amount;
  },
  Withdrawn: (s, e) => ({ total: s.total - e.data.amount }),
});

describe("spec of an aggregate", () => {
  const open = spec(Account).given(Account.events.Opened({ owner: "Ada" }), Account.events.Deposited({ amount: 10 }));

  test("accepts right expectations", () => {
    open.when(Account.commands.Withdraw({ amount: 4 })).thenEvents({ type: "Withdrawn", data: { amount: 4 } });
    open.when(Account.commands.Withdraw({ amount: 4 })).thenState({ balance: 6, open: true });
    open.when(Account.commands.Withdraw({ amount: 4 })).thenState((s) => expect(s.balance).toBe(6));
    open.when(Account.commands.Withdraw({ amount: 40 })).thenRejects("InsufficientFunds", { balance: 10, needed: 40 });
    open.when(Account.commands.Withdraw({ amount: 40 })).thenRejects("InsufficientFunds");
    spec(Account).when({ type: "Close" }).thenNothing();
    open.when({ type: "Crash" }).thenThrows("a bug");
  });

  test("throws for wrong expectations", () => {
    const withdraw = open.when(Account.commands.Withdraw({ amount: 4 }));
    expect(() => withdraw.thenEvents({ type: "Withdrawn", data: { amount: 5 } })).toThrow(
      /events:[^]*"amount": 5[^]*"amount": 4/,
    );
    expect(() => withdraw.thenNothing()).toThrow("Withdrawn");
    expect(() => withdraw.thenState({ open: true, balance: 7 })).toThrow("state");
    expect(() => withdraw.thenRejects("NotOpen")).toThrow("expected a rejection, got the events");
    expect(() => withdraw.thenThrows()).toThrow("expected an error, got none");
    const tooMuch = open.when(Account.commands.Withdraw({ amount: 40 }));
    expect(() => tooMuch.thenNothing()).toThrow("got the rejection");
    expect(() => tooMuch.thenRejects("NotOpen")).toThrow("rejection");
    expect(() => tooMuch.thenRejects("InsufficientFunds", { balance: 1, needed: 40 })).toThrow("rejection data");
    expect(() => open.when({ type: "Crash" }).thenNothing()).toThrow("a bug");
    expect(() => open.when({ type: "Crash" }).thenThrows("another")).toThrow(/contains "another", got "[^"]*a bug/);
  });
});

describe("spec of a projection", () => {
  test("folds the given events, and none of other aggregates", () => {
    const given = spec(Total).given(
      { aggregate: "account", id: "a", type: "Deposited", data: { amount: 5 } },
      { aggregate: "account", id: "b", type: "Withdrawn", data: { amount: 2 } },
      { aggregate: "purse", id: "b", type: "Deposited", data: { amount: 100 } },
    );
    given.thenState({ total: 3 });
    given.thenState((s) => expect(s.total).toBe(3));
    expect(() => given.thenState({ total: 4 })).toThrow("state");
  });
});

describe("spec of a process manager", () => {
  const requested = { aggregate: "transfer", id: "t", type: "Requested", data: { from: "a", to: "b", amount: 5 } };

  test("handles the event on the state after the given events", () => {
    const first = spec(Transfers).when(requested);
    first.thenDispatches(Purse.at("a").Take({ amount: 5, transfer: "t" }));
    first.thenSchedules({ in: "30m", key: "t", dispatch: Transfer.at("t").TimeOut() });
    first.thenState({ t: { to: "b", amount: 5 } });
    expect(() => first.thenNothing()).toThrow("outputs");
    expect(() => first.thenDispatches()).toThrow("dispatched");
    expect(() => first.thenSchedules({ in: "31m", key: "t", dispatch: Transfer.at("t").TimeOut() })).toThrow(
      "scheduled",
    );
    const taken = { aggregate: "purse", id: "a", type: "Taken", data: { amount: 5, transfer: "t" } };
    spec(Transfers)
      .given(requested)
      .when(taken)
      .thenDispatches(Purse.at("b").Give({ amount: 5, transfer: "t" }));
    spec(Transfers).when(taken).thenNothing();
    const given = { aggregate: "purse", id: "b", type: "Given", data: { amount: 5, transfer: "t" } };
    spec(Transfers).given(requested, taken).when(given).thenCancels("t");
  });
});

test("a manual clock moves only by calls, and sequential ids count up", () => {
  const clock = manualClock(1000);
  clock.advance("2s");
  expect(clock.now()).toBe(3000);
  clock.set(new Date(5));
  expect(clock.now()).toBe(5);
  const next = sequentialIds("e");
  expect([next(), next()]).toEqual(["e1", "e2"]);
});
