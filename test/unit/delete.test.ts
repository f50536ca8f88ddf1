import { AggregateStore, checkReplay, memory, processManager, projection } from "eventfold-es";
import { auditStore } from "eventfold-es/schema";
import { describe, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { backends } from "../support/backends.ts";
import { collect } from "../support/collect.ts";
import { Counter } from "../support/counter.ts";
import { linesOf, streamFile } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const Balances = projection("balances", () => ({ byId: {} as Record<string, number>, deletions: [] as unknown[] })).on(
  Account,
  {
    Opened: (s, e) => void (s.byId[e.id] = 0),
    Deposited: (s, e) => void (s.byId[e.id] = (s.byId[e.id] ?? 0) + e.data.amount),
    $deleted: (s, e) => {
      delete s.byId[e.id];
      s.deletions.push([e.id, e.version, e.data.final, e.data.reason ?? null, e.actor ?? null]);
    },
  },
);

const Mourner = processManager("mourner", { dispatches: [Counter] }).on(Account, {
  $deleted: (_state, e) => Counter.at(e.id).Add({ by: e.version }),
});

describe.each(backends)("a deleted instance $backend", ({ builder }) => {
  const open = () =>
    builder()
      .aggregate(Account)
      .aggregate(Counter)
      .projection(Balances)
      .processManager(Mourner)
      .processManagerMode("manual")
      .open();

  const filled = async () => {
    const store = await open();
    const ada = store.get(Account, "ada");
    await ada.execute(Account.commands.Open({ owner: "Ada" }));
    await ada.execute(Account.commands.Deposit({ amount: 5 }), { idempotencyKey: "k" });
    await store.get(Account, "bob").execute(Account.commands.Open({ owner: "Bob" }));
    return { store, ada };
  };

  test("has its initial state, no events, and its version goes on", async () => {
    const { store, ada } = await filled();
    await using _ = store;
    expect(await store.delete(Account, "ada", { reason: "asked to", actor: "u-1" })).toEqual({
      deleted: true,
      version: 3,
      position: 4,
    });
    expect(await ada.state()).toEqual({ open: false, balance: 0 });
    expect(await collect(ada.events())).toEqual([]);
    expect(await collect(store.readEvents("account", "ada"))).toEqual([]);
    expect(await store.list(Account)).toEqual(["bob"]);
    expect(await store.head()).toBe(4);
    const reopened = await ada.execute(Account.commands.Open({ owner: "Eve" }));
    expect(reopened).toMatchObject({ version: 4, position: 5, state: { open: true, balance: 0 } });
    expect(await store.list(Account)).toEqual(["ada", "bob"]);
    expect((await collect(ada.events())).map(({ version }) => version)).toEqual([4]);
  });

  test("reaches projections, process managers and subscriptions", async () => {
    const { store } = await filled();
    await using _ = store;
    expect((await store.projection(Balances)).byId).toEqual({ ada: 5, bob: 0 });
    await store.delete(Account, "ada", { reason: "asked to", actor: "u-1" });
    const expected = { byId: { bob: 0 }, deletions: [["ada", 3, false, "asked to", "u-1"]] };
    expect(await store.projection(Balances)).toEqual(expected);
    await store.rebuildProjection(Balances);
    expect(await store.projection(Balances)).toEqual(expected);
    expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
    expect(await store.get(Counter, "ada").state()).toBe(3);
    const seen: unknown[] = [];
    for await (const event of store.subscribe({ aggregates: [Account] })) {
      seen.push(event.type === "$deleted" ? [event.id, event.data] : event.type);
      if (event.position >= 4) break;
    }
    expect(seen).toEqual(["Opened", ["ada", { version: 3, final: false, reason: "asked to" }]]);
    const deletions = await collect(store.events({ aggregates: [Account], types: ["$deleted"] }));
    expect(deletions.map(({ id, data }) => [id, data.final])).toEqual([["ada", false]]);
  });

  test("with no events is left as it is", async () => {
    await using store = await open();
    expect(await store.delete(Account, "new")).toEqual({ deleted: false, version: 0, position: 0 });
    await store.get(Account, "ada").execute(Account.commands.Open({ owner: "Ada" }));
    await store.delete(Account, "ada");
    expect(await store.delete(Account, "ada")).toEqual({ deleted: false, version: 2, position: 2 });
    expect(await store.head()).toBe(2);
  });

  test("for good refuses every command, also one whose id had no events", async () => {
    const { store, ada } = await filled();
    await using _ = store;
    await store.delete(Account, "ada", { final: true });
    const refusal = {
      code: "INSTANCE_DELETED",
      message: expect.stringContaining('account "ada" was deleted for good'),
    };
    await expect(ada.execute(Account.commands.Open({ owner: "Eve" }))).rejects.toMatchObject(refusal);
    await expect(ada.try(Account.commands.Open({ owner: "Eve" }))).rejects.toMatchObject(refusal);
    const bob = Account.at("bob").Deposit({ amount: 1 });
    await expect(store.dispatchAll([bob, Account.at("ada").Open({ owner: "Eve" })])).rejects.toMatchObject(refusal);
    const event = { type: "Opened", data: { owner: "Eve" } } as const;
    await expect(store.injectEvent(Account, "ada", event)).rejects.toMatchObject(refusal);
    expect(await store.delete(Account, "ada")).toEqual({ deleted: false, version: 3, position: 4 });
    expect(await store.get(Account, "bob").state()).toEqual({ open: true, balance: 0 });
    expect(await ada.state()).toEqual({ open: false, balance: 0 });
    expect(await store.delete(Account, "new", { final: true })).toEqual({ deleted: false, version: 1, position: 5 });
    await expect(store.get(Account, "new").execute(Account.commands.Open({ owner: "N" }))).rejects.toMatchObject({
      code: "INSTANCE_DELETED",
    });
  });

  test("runs a command again whose idempotency key its old life had", async () => {
    const { store, ada } = await filled();
    await using _ = store;
    await store.delete(Account, "ada");
    await ada.execute(Account.commands.Open({ owner: "Ada" }));
    const again = await ada.execute(Account.commands.Deposit({ amount: 5 }), { idempotencyKey: "k" });
    expect(again).toMatchObject({ version: 5, state: { balance: 5 } });
  });

  test("has no past states", async () => {
    const { store, ada } = await filled();
    await using _ = store;
    await store.delete(Account, "ada");
    await ada.execute(Account.commands.Open({ owner: "Eve" }));
    for (const version of [1, 2])
      await expect(ada.state({ version })).rejects.toMatchObject({
        code: "VERSION_NOT_FOUND",
        message: expect.stringContaining("were deleted"),
      });
    await expect(ada.state({ at: 0 })).rejects.toMatchObject({ code: "VERSION_NOT_FOUND" });
    expect(await ada.state({ version: 3 })).toEqual({ open: false, balance: 0 });
    expect(await ada.state({ version: 4 })).toEqual({ open: true, balance: 0 });
    await expect(ada.state({ version: 5 })).rejects.toMatchObject({ code: "VERSION_NOT_FOUND" });
  });

  test("waits for the commands before it and is waited for by those after it", async () => {
    await using store = await open();
    const ada = store.get(Account, "ada");
    const before = ada.execute(Account.commands.Open({ owner: "Ada" }));
    const deleted = store.delete(Account, "ada");
    const after = ada.try(Account.commands.Deposit({ amount: 1 }));
    expect(await before).toMatchObject({ version: 1 });
    expect(await deleted).toMatchObject({ deleted: true, version: 2 });
    expect(await after).toMatchObject({ ok: false, rejection: { type: "NotOpen" } });
  });

  test("is refused with options that cannot be meant", async () => {
    await using store = await open();
    const bad = { code: "INVALID_ARGUMENT" };
    await expect(store.delete(Account, "ada", { final: "yes" as never })).rejects.toMatchObject(bad);
    await expect(store.delete(Account, "ada", { reason: 5 as never })).rejects.toMatchObject(bad);
    await expect(store.delete(Account, "ada", { reason: "\ud800" })).rejects.toMatchObject(bad);
    await expect(store.delete(Account, "ada", { actor: 1 as never })).rejects.toMatchObject({
      code: "INVALID_CONTEXT",
    });
    await expect(store.delete(Account, "", {})).rejects.toMatchObject({ code: "INVALID_ID" });
  });
});

describe("a deletion on disk", () => {
  const open = (directory: string) =>
    AggregateStore.builder(directory).aggregate(Account).projection(Balances).idleTimeout(1).open();

  test("outlives a restart, with and without the caches of the store", async () => {
    const { rmSync } = await import("node:fs");
    const directory = temporaryDirectory();
    const first = await open(directory);
    for (const id of ["ada", "bob", "cyd"]) {
      await first.get(Account, id).execute(Account.commands.Open({ owner: id }));
      await first.get(Account, id).execute(Account.commands.Deposit({ amount: 5 }));
    }
    await first.delete(Account, "ada");
    await first.delete(Account, "bob", { final: true });
    await first.get(Account, "ada").execute(Account.commands.Open({ owner: "Eve" }));
    await first.close();
    for (const lost of [[], ["cuts.json"], ["marker.json"], ["stream_ends"], ["cuts.json", "stream_ends", "head"]]) {
      for (const name of lost) rmSync(`${directory}/meta/${name}`);
      const store = await open(directory);
      expect(await store.list(Account)).toEqual(["ada", "cyd"]);
      expect(await store.get(Account, "ada").state()).toEqual({ open: true, balance: 0 });
      expect((await store.projection(Balances)).byId).toEqual({ ada: 0, cyd: 5 });
      await expect(store.get(Account, "bob").execute(Account.commands.Close())).rejects.toMatchObject({
        code: "INSTANCE_DELETED",
      });
      await store.close();
    }
    // The log, too.
    rmSync(`${directory}/commit_log`, { recursive: true });
    const store = await open(directory);
    expect(await store.list(Account)).toEqual(["ada", "cyd"]);
    expect((await store.projection(Balances)).byId).toEqual({ ada: 0, cyd: 5 });
    await store.close();
  });

  test("reaches the instances and projections of another open store", async () => {
    const directory = temporaryDirectory();
    await using here = await open(directory);
    await using there = await open(directory);
    const ada = there.get(Account, "ada");
    await ada.execute(Account.commands.Open({ owner: "Ada" }));
    await ada.execute(Account.commands.Deposit({ amount: 5 }));
    expect((await there.projection(Balances)).byId).toEqual({ ada: 5 });
    await here.delete(Account, "ada");
    expect(await there.list(Account)).toEqual([]);
    expect((await there.projection(Balances)).byId).toEqual({});
    expect(await ada.try(Account.commands.Deposit({ amount: 1 }))).toMatchObject({ ok: false });
    expect(await ada.execute(Account.commands.Open({ owner: "Eve" }))).toMatchObject({ version: 4 });
    await here.delete(Account, "ada", { final: true });
    await expect(ada.execute(Account.commands.Close())).rejects.toMatchObject({ code: "INSTANCE_DELETED" });
  });

  test("makes the bytes of its events count as reclaimable, in the log and in the stream's file", async () => {
    await using store = await open(temporaryDirectory());
    await store.get(Account, "ada").execute(Account.commands.Open({ owner: "x".repeat(1000) }));
    expect((await store.status()).sizes?.reclaimable).toBe(0);
    await store.delete(Account, "ada");
    const { reclaimable } = (await store.status()).sizes ?? { reclaimable: 0 };
    expect(reclaimable).toBeGreaterThan(2000);
    expect(reclaimable).toBeLessThan(3000);
  });

  test("is a line that the Rust crate skips", async () => {
    const directory = temporaryDirectory();
    await using store = await open(directory);
    await store.get(Account, "ada").execute(Account.commands.Open({ owner: "Ada" }));
    await store.delete(Account, "ada", { reason: "asked to" });
    const [, line] = linesOf(streamFile(directory, "account", "ada"));
    expect(JSON.parse(line ?? "")).toMatchObject({
      type: "$deleted",
      data: { version: 2, reason: "asked to" },
      pos: 2,
    });
  });
});

test("a named subscription goes on after the deletion of the instance of its last event", async () => {
  const storage = memory();
  const store = await AggregateStore.builder(storage).aggregate(Account).open();
  await store.get(Account, "bob").execute(Account.commands.Open({ owner: "Bob" }));
  await store.get(Account, "ada").execute(Account.commands.Open({ owner: "Ada" }));
  const read = async (until: number) => {
    const seen: string[] = [];
    for await (const event of store.subscribe({ name: "mail" })) {
      seen.push(`${event.type} ${event.id}`);
      if (event.position > until) break;
    }
    return seen;
  };
  await store.get(Account, "cyd").execute(Account.commands.Open({ owner: "Cyd" }));
  // The last event that counts as handled is Ada's.
  expect(await read(2)).toEqual(["Opened bob", "Opened ada", "Opened cyd"]);
  await store.delete(Account, "ada");
  expect(await read(3)).toEqual(["Opened cyd", "$deleted ada"]);
  await store.close();
});

test("the checks of changed models do not take a deletion for an unknown event", async () => {
  const store = await AggregateStore.builder(memory())
    .aggregate(Account)
    .aggregate(Counter)
    .projection(Balances)
    .processManager(Mourner)
    .processManagerMode("manual")
    .onUnknownEvent("error")
    .open();
  const ada = store.get(Account, "ada");
  await ada.execute(Account.commands.Open({ owner: "Ada" }));
  await store.delete(Account, "ada");
  await ada.execute(Account.commands.Open({ owner: "Eve" }));
  await ada.execute(Account.commands.Deposit({ amount: 3 }));
  expect(await checkReplay(store, [Account, Balances, Mourner])).toEqual([]);
  expect(await auditStore(store, [Account, Counter])).toEqual([]);
  expect((await store.status()).unknownEvents).toEqual([]);
  expect((await store.projectionAt(Balances, 2)).byId).toEqual({});
  expect((await store.projectionAt(Balances, 4)).byId).toEqual({ ada: 3 });
  expect((await ada.explain("balance")).map(({ type, version }) => [type, version])).toEqual([["Deposited", 4]]);
  expect(await ada.state()).toEqual({ open: true, balance: 3 });
  await store.close();
});

test("a contract cannot declare an event of the reserved name", async () => {
  const { aggregate, data } = await import("eventfold-es");
  expect(() => aggregate("a", { initial: 0, events: { $deleted: data() }, commands: {} })).toThrow("not an identifier");
});
