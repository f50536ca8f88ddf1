import { AggregateStore, type CommandEnvelope, isEventfoldError, memory, processManager } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { Counter } from "../support/counter.ts";
import { linesOf } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

describe("ExecuteError and StateError", () => {
  test("Domain: a rejection with its type and data is thrown, or returned as a value", async () => {
    await using store = await AggregateStore.open(memory());
    const ada = store.get(Account, "ada");
    await ada.execute(Account.commands.Open({ owner: "Ada" }));
    const rejection = { type: "InsufficientFunds", data: { balance: 0, needed: 9 } };
    const withdraw = Account.commands.Withdraw({ amount: 9 });
    await expect(ada.execute(withdraw)).rejects.toMatchObject({ code: "COMMAND_REJECTED", rejection });
    expect(await ada.try(withdraw)).toEqual({ ok: false, rejection });
  });

  test("ActorGone does not exist: a bug in handle is thrown unchanged, and the next command works", async () => {
    await using store = await AggregateStore.open(memory());
    const ada = store.get(Account, "ada");
    await ada.execute(Account.commands.Open({ owner: "Ada" }));
    await expect(ada.execute(Account.commands.Crash())).rejects.toThrow(new TypeError("a bug in handle"));
    expect(await ada.execute(Account.commands.Deposit({ amount: 1 }))).toMatchObject({ version: 2 });
  });

  test("ActorGone: only a closed store refuses its handles", async () => {
    const store = await AggregateStore.open(memory());
    const counter = store.get(Counter, "c");
    await store.close();
    const failure: unknown = await counter.state().catch((error: unknown) => error);
    expect(isEventfoldError(failure, "STORE_CLOSED")).toBe(true);
  });
});

describe("DispatchError", () => {
  test("in dead letters has the Rust crate's words and its form of the line", async () => {
    const directory = temporaryDirectory();
    const unknown = { ...Account.at("a").Close(), command: { type: "Explode" } };
    const Clerk = processManager("clerk", { dispatches: [Account] }).on(Counter, {
      Added: () => Account.at("a").Deposit({ amount: 1 }),
      Cleared: () => unknown as unknown as CommandEnvelope<"account", { type: "Close" }>,
    });
    const store = await AggregateStore.builder(directory)
      .aggregate(Counter)
      .aggregate(Account)
      .processManager(Clerk)
      .processManagerMode("manual")
      .clock(() => 5_000)
      .open();
    const counter = store.get(Counter, "c");
    await counter.execute(Counter.commands.Add({ by: 1 }), { correlationId: "r-1" });
    await counter.execute(Counter.commands.Clear());
    expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 2 });
    const [rejected, nonsense] = await store.deadLetters(Clerk);
    expect(rejected?.error).toMatch(/^command execution failed: .*NotOpen/);
    expect(nonsense?.error).toMatch(/^command deserialization failed: .*Explode/);
    await store.close();

    const lines = linesOf(`${directory}/process_managers/clerk/dead_letters.jsonl`);
    const [first] = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines).toHaveLength(2);
    expect(Object.keys(first ?? {}).slice(0, 3)).toEqual(["envelope", "error", "ts"]);
    expect(first).toMatchObject({
      envelope: {
        aggregate_type: "account",
        instance_id: "a",
        command: { type: "Deposit", data: { amount: 1 } },
        context: { actor: null, correlation_id: "r-1", metadata: null },
      },
      ts: 5,
    });
  });
});
