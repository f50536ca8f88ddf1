import * as fs from "node:fs";
import { AggregateStore, CommandBus, memory, processManager } from "eventfold-es";
import { verify } from "eventfold-es/doctor";
import { describe, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { backends } from "../support/backends.ts";
import { collect } from "../support/collect.ts";
import { oneTo } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { until } from "../support/until.ts";

const { Open, Deposit, Withdraw, Close } = Account.commands;
const all = { idempotencyKey: "k", remember: "all" } as const;
const POOR = { type: "InsufficientFunds", data: { balance: 0, needed: 5 } };

describe.each(backends)("an outcome without events that is to be remembered $backend", ({ builder }) => {
  async function opened() {
    const store = await builder().aggregate(Account).open();
    await store.get(Account, "ada").execute(Open({ owner: "Ada" }));
    return store;
  }

  test("answers a second command with its key: a rejection", async () => {
    await using store = await opened();
    const ada = store.get(Account, "ada");
    expect(await ada.try(Withdraw({ amount: 5 }), all)).toEqual({ ok: false, rejection: POOR });
    await ada.execute(Deposit({ amount: 5 }));
    expect(await ada.try(Withdraw({ amount: 5 }), all)).toEqual({ ok: false, rejection: POOR });
    // Without `remember`, the key counts as well; and another key is another command.
    const again = ada.execute(Withdraw({ amount: 5 }), { idempotencyKey: "k" });
    await expect(again).rejects.toMatchObject({ code: "COMMAND_REJECTED", rejection: POOR });
    await expect(again).rejects.toThrow('account "ada" rejected Withdraw: InsufficientFunds');
    expect(await ada.try(Withdraw({ amount: 5 }), { ...all, idempotencyKey: "l" })).toMatchObject({ ok: true });
    expect(await ada.try(Withdraw({ amount: 5 }), { ...all, idempotencyKey: "l" })).toMatchObject({ ok: true });
    expect(await ada.state()).toEqual({ open: true, balance: 0 });
  });

  test("answers a second command with its key: nothing to do", async () => {
    await using store = await opened();
    const ada = store.get(Account, "ada");
    const first = await ada.execute(Open({ owner: "Ada" }), all);
    expect(first).toEqual({ events: [], state: { open: true, balance: 0 }, version: 1, position: 1 });
    await ada.execute(Close());
    expect(await ada.execute(Open({ owner: "Ada" }), all)).toEqual(first);
    expect(await ada.state()).toEqual({ open: false, balance: 0 });
  });

  test("is not in memory alone: of an instance without events, in a new store on the same storage", async () => {
    const storage = builder().aggregate(Account);
    const first = await storage.open();
    expect(await first.get(Account, "bob").try(Deposit({ amount: 1 }), all)).toMatchObject({ ok: false });
    expect(await first.list(Account)).toEqual([]);
    await first.close();
    await using store = await storage.open();
    const bob = store.get(Account, "bob");
    expect(await store.listStreams()).toEqual([]);
    await bob.execute(Open({ owner: "Bob" }));
    expect(await bob.try(Deposit({ amount: 1 }), all)).toEqual({ ok: false, rejection: { type: "NotOpen" } });
    expect(await bob.try(Deposit({ amount: 1 }), { idempotencyKey: "m" })).toMatchObject({ ok: true, version: 2 });
  });

  test("is no event for readers, and no version of the instance", async () => {
    await using store = await opened();
    const ada = store.get(Account, "ada");
    const seen: number[] = [];
    const subscription = store.subscribe({}, ({ position }) => void seen.push(position));
    for (const n of oneTo(3)) await ada.try(Withdraw({ amount: n }), { ...all, idempotencyKey: `k${n}` });
    const { version, position } = await ada.execute(Deposit({ amount: 1 }), { expectedVersion: 1 });
    expect(version).toBe(2);
    expect(position).toBe(await store.head());
    await store.idle();
    await subscription.close();
    expect(seen).toEqual([1, position]);
    expect(await collect(store.events())).toHaveLength(2);
    expect(await collect(store.events({ reverse: true }))).toHaveLength(2);
    expect(await collect(ada.events())).toHaveLength(2);
    expect(await store.listStreams()).toEqual([{ type: "account", id: "ada" }]);
    expect((await store.status()).streams).toBe(1);
    // Who names the type gets them, for example to see who was refused.
    const kept = await collect(store.events({ aggregates: ["$outcomes.account"] }));
    expect(kept.map(({ id, type, data }) => ({ id, type, data }))[0]).toEqual({
      id: "ada",
      type: "Rejected",
      data: {
        command: "Withdraw",
        version: 1,
        rejection: { type: "InsufficientFunds", data: { balance: 0, needed: 1 } },
      },
    });
  });

  test("counts once for concurrent commands, in the order in which they were given", async () => {
    await using store = await opened();
    const ada = store.get(Account, "ada");
    const outcomes = await Promise.all([
      ada.try(Withdraw({ amount: 5 }), all),
      ada.try(Deposit({ amount: 5 })),
      ada.try(Withdraw({ amount: 5 }), all),
      store.dispatch(Account.at("ada").Withdraw({ amount: 5 }), all).catch((error: unknown) => error),
      ada.try(Withdraw({ amount: 2 }), { ...all, idempotencyKey: "l" }),
      ada.try(Withdraw({ amount: 5 }), { ...all, idempotencyKey: "m" }),
    ]);
    expect(outcomes).toMatchObject([
      { ok: false, rejection: POOR },
      { ok: true, version: 2 },
      { ok: false, rejection: POOR },
      { rejection: POOR },
      { ok: true, version: 3 },
      { ok: false, rejection: { data: { balance: 3, needed: 5 } } },
    ]);
  });

  test("is remembered by dispatch, the bus, middleware and their try", async () => {
    const passed: string[] = [];
    const storage = builder()
      .aggregate(Account)
      .use((envelope, next) => {
        passed.push(envelope.command.type);
        return next(envelope);
      });
    await using store = await storage.open();
    const bus = new CommandBus(store).register(Account);
    const { at } = Account;
    await expect(store.dispatch(at("ada").Deposit({ amount: 1 }), all)).rejects.toMatchObject({
      code: "COMMAND_REJECTED",
    });
    expect(await bus.try("bob", { type: "Deposit", data: { amount: 1 } }, all)).toMatchObject({ ok: false });
    await expect(
      bus.dispatchUnknown({ aggregate: "account", id: "cyd", command: { type: "Close" } }, all),
    ).resolves.toMatchObject({ events: [] });
    for (const id of ["ada", "bob", "cyd"]) await store.dispatch(at(id).Open({ owner: id }));
    expect(await bus.try(at("ada").Deposit({ amount: 1 }), all)).toMatchObject({ ok: false });
    expect(await store.get(Account, "bob").try(Deposit({ amount: 1 }), all)).toMatchObject({ ok: false });
    expect(await bus.dispatch("cyd", { type: "Close" }, all)).toMatchObject({ events: [], version: 0 });
    expect(passed).toHaveLength(9);
  });

  test("of a list of commands answers the same list: a rejection by one of its instances", async () => {
    await using store = await opened();
    const list = [Account.at("ada").Deposit({ amount: 5 }), Account.at("bob").Deposit({ amount: 1 })];
    await expect(store.dispatchAll(list, all)).rejects.toMatchObject({ rejection: { type: "NotOpen" } });
    expect(await store.get(Account, "ada").state()).toMatchObject({ balance: 0 });
    await store.get(Account, "bob").execute(Open({ owner: "Bob" }));
    await store.get(Account, "ada").execute(Close());
    const again = store.dispatchAll(list, all);
    await expect(again).rejects.toThrow('account "bob" rejected Deposit: NotOpen');
    expect(await store.get(Account, "bob").state()).toMatchObject({ balance: 0 });
  });

  test("of a list of commands answers the same list: nothing to do, beside events of others", async () => {
    await using store = await opened();
    const list = [
      Account.at("ada").Open({ owner: "Ada" }),
      Account.at("bob").Open({ owner: "Bob" }),
      Account.at("cyd").Close(),
    ];
    const first = await store.dispatchAll(list, all);
    expect(first.results.map(({ events }) => events.length)).toEqual([0, 1, 0]);
    expect(first.results[1]?.position).toBe(await store.head());
    for (const id of ["ada", "bob"]) await store.get(Account, id).execute(Close());
    await store.get(Account, "cyd").execute(Open({ owner: "Cyd" }));
    expect((await store.dispatchAll(list, all)).results).toEqual(first.results);
    expect(
      await store.dispatchAll([Account.at("ada").Open({ owner: "Ada" })], { ...all, idempotencyKey: "l" }),
    ).toMatchObject({ results: [{ version: 3 }] });
    const nothing = [Account.at("dan").Close(), Account.at("eve").Close()];
    const none = await store.dispatchAll(nothing, all);
    await store.get(Account, "dan").execute(Open({ owner: "Dan" }));
    expect((await store.dispatchAll(nothing, all)).results).toEqual(none.results);
  });

  test("is lost when its instance is deleted, also without events", async () => {
    await using store = await opened();
    const [ada, bob] = [store.get(Account, "ada"), store.get(Account, "bob")];
    await ada.try(Withdraw({ amount: 5 }), all);
    await bob.try(Deposit({ amount: 5 }), all);
    const head = await store.head();
    const { deleted, version, position } = await store.delete(Account, "ada");
    expect({ deleted, version, position }).toEqual({ deleted: true, version: 2, position: await store.head() });
    expect(await store.delete(Account, "bob")).toEqual({ deleted: false, version: 0, position: 0 });
    expect(await store.head()).toBe(head + 3);
    expect(await store.delete(Account, "bob")).toMatchObject({ deleted: false });
    expect(await store.head()).toBe(head + 3);
    expect(await store.list(Account)).toEqual([]);
    const [again] = [await ada.execute(Open({ owner: "Ada" }), all), await bob.execute(Open({ owner: "Bob" }), all)];
    expect(again).toMatchObject({ version: 3, events: [{ type: "Opened" }] });
    expect(await ada.execute(Open({ owner: "Ada" }), all)).toEqual(again);
    await ada.try(Withdraw({ amount: 7 }), { ...all, idempotencyKey: "l" });
    await ada.execute(Deposit({ amount: 7 }));
    expect(await ada.try(Withdraw({ amount: 7 }), { ...all, idempotencyKey: "l" })).toMatchObject({ ok: false });
  });

  test("survives a compaction, with the state after it", async () => {
    await using store = await opened();
    const ada = store.get(Account, "ada");
    await ada.execute(Open({ owner: "Ada" }), { ...all, idempotencyKey: "open" });
    await ada.try(Withdraw({ amount: 5 }), all);
    await ada.execute(Deposit({ amount: 5 }));
    const into = ({ balance }: { readonly balance: number }) => [
      Account.events.Opened({ owner: "Ada" }),
      Account.events.Deposited({ amount: balance }),
    ];
    const { compacted, version } = await store.compact(Account, "ada", { into });
    expect(compacted).toBe(true);
    expect(await ada.try(Withdraw({ amount: 5 }), all)).toEqual({ ok: false, rejection: POOR });
    const again = { events: [], state: { open: true, balance: 5 }, version };
    expect(await ada.execute(Open({ owner: "Ada" }), { ...all, idempotencyKey: "open" })).toMatchObject(again);
    await ada.execute(Deposit({ amount: 1 }));
    expect(await ada.execute(Open({ owner: "Ada" }), { ...all, idempotencyKey: "open" })).toMatchObject(again);
  });

  test("needs a key, and an error is none", async () => {
    await using store = await opened();
    const ada = store.get(Account, "ada");
    const bad = { code: "INVALID_ARGUMENT" };
    await expect(ada.execute(Close(), { remember: "all" })).rejects.toMatchObject(bad);
    await expect(ada.execute(Close(), { ...all, remember: "some" as never })).rejects.toMatchObject(bad);
    await expect(
      store.dispatchAll([Account.at("a").Close(), Account.at("b").Close()], { remember: "all" }),
    ).rejects.toMatchObject(bad);
    await expect(store.dispatchAll([], { remember: 1 as never })).rejects.toMatchObject(bad);
    await expect(ada.execute(Account.commands.Crash(), all)).rejects.toThrow(TypeError);
    await expect(ada.execute(Withdraw({ amount: 1 }), { ...all, expectedVersion: 7 })).rejects.toMatchObject({
      code: "CONFLICT",
    });
    expect(await ada.execute(Close(), all)).toMatchObject({ version: 2 });
    expect(await store.head()).toBe(2);
  });

  test("of another key stays when a command fails", async () => {
    await using store = await opened();
    const ada = store.get(Account, "ada");
    const outcomes = await Promise.allSettled([
      ada.execute(Withdraw({ amount: 5 }), all),
      ada.execute(Account.commands.Crash(), { ...all, idempotencyKey: "l" }),
      ada.execute(Deposit({ amount: 5 })),
      ada.execute(Withdraw({ amount: 5 }), all),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual(["rejected", "rejected", "fulfilled", "rejected"]);
    expect((outcomes[3] as PromiseRejectedResult).reason).toMatchObject({ rejection: POOR });
  });

  test("is in an export", async () => {
    await using store = await opened();
    const ada = store.get(Account, "ada");
    await ada.try(Withdraw({ amount: 5 }), all);
    await ada.execute(Deposit({ amount: 5 }));
    await using copy = await AggregateStore.builder(memory()).aggregate(Account).open();
    await copy.import(store.export());
    expect(await copy.get(Account, "ada").try(Withdraw({ amount: 5 }), all)).toEqual({ ok: false, rejection: POOR });
    // Into a store with events of its own, too.
    await using other = await AggregateStore.builder(memory()).aggregate(Account).open();
    await other.get(Account, "bob").execute(Open({ owner: "Bob" }));
    await other.import(store.export());
    expect(await other.get(Account, "ada").try(Withdraw({ amount: 5 }), all)).toEqual({ ok: false, rejection: POOR });
  });

  test("answers a process manager as well, whose own rejections are dead letters", async () => {
    const Mover = processManager("mover", { dispatches: [Account], initial: {} }).on(Account, {
      Closed: (state, { id }) => ({
        state,
        dispatch: {
          ...Account.at(id === "ada" ? "bob" : "ada").Deposit({ amount: 1 }),
          context: { idempotencyKey: "k" },
        },
      }),
    });
    await using store = await builder().aggregate(Account).processManager(Mover).processManagerMode("manual").open();
    const [ada, bob] = [store.get(Account, "ada"), store.get(Account, "bob")];
    await bob.try(Deposit({ amount: 1 }), all);
    for (const each of [ada, bob]) await each.execute(Open({ owner: each.id }));
    await ada.execute(Close());
    expect(await store.runProcessManagers()).toEqual({ dispatched: 0, deadLettered: 1 });
    expect((await store.deadLetters())[0]?.error).toContain(`"bob" rejected Deposit: NotOpen`);
    expect(await bob.state()).toEqual({ open: true, balance: 0 });
  });
});

describe("a remembered outcome in a directory", () => {
  const open = (directory: string) => AggregateStore.builder(directory).aggregate(Account).open();

  test("survives a snapshot, an eviction, a backup and the loss of the log", async () => {
    const directory = temporaryDirectory();
    const store = await AggregateStore.builder(directory).aggregate(Account).idleTimeout(10).open();
    const ada = store.get(Account, "ada");
    await ada.execute(Open({ owner: "Ada" }));
    await ada.try(Withdraw({ amount: 5 }), all);
    for (const _ of oneTo(150)) await ada.execute(Deposit({ amount: 1 }));
    await until(() => !ada.isAlive());
    expect(await ada.try(Withdraw({ amount: 5 }), all)).toEqual({ ok: false, rejection: POOR });
    const copy = temporaryDirectory();
    await store.backup(copy);
    await store.close();
    fs.rmSync(`${directory}/commit_log`, { recursive: true });
    for (const place of [directory, copy]) {
      await using again = await open(place);
      expect(await again.get(Account, "ada").try(Withdraw({ amount: 5 }), all)).toEqual({ ok: false, rejection: POOR });
    }
    for (const place of [directory, copy]) expect((await verify(place)).findings).toEqual([]);
  });

  test("costs other commands and readers no file", async () => {
    const directory = temporaryDirectory();
    await using store = await open(directory);
    await store.get(Account, "ada").execute(Open({ owner: "Ada" }), { idempotencyKey: "k" });
    await store.get(Account, "ada").try(Withdraw({ amount: 1 }), { idempotencyKey: "l" });
    expect(fs.readdirSync(`${directory}/streams`)).toEqual(["account"]);
  });
});

describe.each(backends)("two stores $backend", ({ builder }) => {
  test("give one answer to one key", async () => {
    const storage = builder().aggregate(Account);
    await using first = await storage.open();
    await using second = await storage.open();
    await first.get(Account, "ada").execute(Open({ owner: "Ada" }));
    for (const n of oneTo(30)) {
      const options = { idempotencyKey: `k${n}`, remember: "all" } as const;
      // Whether there is enough money depends on who comes first.
      const answers = await Promise.all([
        first.get(Account, "ada").try(Withdraw({ amount: 1 }), options),
        second.get(Account, "ada").execute(Deposit({ amount: 1 })),
        second.get(Account, "ada").try(Withdraw({ amount: 1 }), options),
        first.get(Account, "ada").try(Withdraw({ amount: 1 }), options),
      ]);
      expect(answers[2]).toEqual(answers[0]);
      expect(answers[3]).toEqual(answers[0]);
      const later = await second.get(Account, "ada").try(Withdraw({ amount: 1 }), options);
      expect(later).toEqual(answers[0]);
      if (!later.ok) await first.get(Account, "ada").execute(Withdraw({ amount: 1 }));
    }
    expect(await first.get(Account, "ada").state()).toEqual({ open: true, balance: 0 });
  });

  test("see what the other has remembered, on the instance that they have in memory", async () => {
    const storage = builder().aggregate(Account);
    await using first = await storage.open();
    await using second = await storage.open();
    const [here, there] = [first.get(Account, "ada"), second.get(Account, "ada")];
    await here.execute(Open({ owner: "Ada" }), { ...all, idempotencyKey: "open" });
    await there.execute(Deposit({ amount: 1 }), { ...all, idempotencyKey: "deposit" });
    const rejected = await here.try(Withdraw({ amount: 9 }), all);
    await there.execute(Deposit({ amount: 9 }), { ...all, idempotencyKey: "deposit-2" });
    expect(await there.try(Withdraw({ amount: 9 }), all)).toEqual(rejected);
    await first.delete(Account, "ada");
    await here.execute(Open({ owner: "Ada" }));
    await here.execute(Deposit({ amount: 9 }));
    expect(await there.try(Withdraw({ amount: 9 }), all)).toMatchObject({ ok: true });
  });
});
