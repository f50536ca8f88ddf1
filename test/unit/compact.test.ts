import { aggregate, AggregateStore, data, memory, processManager, projection } from "eventfold-es";
import { verify } from "eventfold-es/doctor";
import { describe, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { backends } from "../support/backends.ts";
import { collect } from "../support/collect.ts";
import { Counter } from "../support/counter.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";
import { until } from "../support/until.ts";

const Balances = projection("balances", { byId: {} as Record<string, number>, events: 0 }).on(Account, {
  Opened: (s, e) => void ((s.byId[e.id] = 0), s.events++),
  Deposited: (s, e) => void ((s.byId[e.id] = (s.byId[e.id] ?? 0) + e.data.amount), s.events++),
});

/** Adds each deposit to a counter of the same name. */
const Echo = processManager("echo", { dispatches: [Counter] }).on(Account, {
  Deposited: (_state, e) => Counter.at(e.id).Add({ by: e.data.amount }),
});

const into = ({ open, balance }: { readonly open: boolean; readonly balance: number }) => [
  ...(open ? [Account.events.Opened({ owner: "kept" })] : []),
  Account.events.Deposited({ amount: balance }),
];

describe.each(backends)("a compacted instance $backend", ({ builder }) => {
  const open = (storage = builder()) =>
    storage
      .aggregate(Account)
      .aggregate(Counter)
      .projection(Balances)
      .processManager(Echo)
      .processManagerMode("manual")
      .open();

  const filled = async () => {
    const store = await open();
    const ada = store.get(Account, "ada");
    await ada.execute(Account.commands.Open({ owner: "Ada" }));
    await ada.execute(Account.commands.Deposit({ amount: 5 }), { idempotencyKey: "k" });
    await store.get(Account, "bob").execute(Account.commands.Open({ owner: "Bob" }));
    await ada.execute(Account.commands.Deposit({ amount: 6 }));
    return { store, ada };
  };

  test("has the same state, the new events, and its version goes on", async () => {
    const { store, ada } = await filled();
    await using _ = store;
    const result = await store.compact(Account, "ada", { into, actor: "u-1" });
    expect(result).toEqual({ compacted: true, replaced: 3, version: 6, position: 7 });
    expect(await ada.state()).toEqual({ open: true, balance: 11 });
    expect((await collect(ada.events())).map(({ type, version, position }) => [type, version, position])).toEqual([
      ["Opened", 5, 6],
      ["Deposited", 6, 7],
    ]);
    expect(await ada.execute(Account.commands.Deposit({ amount: 1 }))).toMatchObject({ version: 7, position: 8 });
    expect(await ada.state()).toEqual({ open: true, balance: 12 });
    expect(await store.list(Account)).toEqual(["ada", "bob"]);
    expect((await collect(store.events())).map(({ type, id }) => `${type} ${id}`)).toEqual([
      "Opened bob",
      "Opened ada",
      "Deposited ada",
      "Deposited ada",
    ]);
    // A second compaction replaces the first.
    expect(await store.compact(Account, "ada", { into })).toMatchObject({ compacted: true, replaced: 3, version: 10 });
    expect(await ada.state()).toEqual({ open: true, balance: 12 });
    expect(await collect(store.events({ limit: 1 }))).toMatchObject([{ id: "bob" }]);
  });

  test("writes nothing if the events fold to another state, or nothing is new", async () => {
    const { store, ada } = await filled();
    await using _ = store;
    await expect(store.compact(Account, "ada", { into: () => [] })).rejects.toMatchObject({
      code: "COMPACTION_DIFFERS",
      message: expect.stringContaining("state.balance 0 in place of 11"),
    });
    await expect(store.compact(Account, "ada", { into: () => ({}) as never })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    await expect(store.compact(Account, "ada")).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(store.compact(Account, "ada", { into: () => [{ type: "Nothing" } as never] })).rejects.toMatchObject({
      code: "UNKNOWN_EVENT",
    });
    expect(await store.head()).toBe(4);
    expect(await ada.execute(Account.commands.Deposit({ amount: 1 }))).toMatchObject({ version: 4 });
    const unchanged = { compacted: false, replaced: 0 };
    expect(await store.compact(Account, "new", { into })).toEqual({ ...unchanged, version: 0, position: 0 });
    await store.compact(Account, "ada", { into });
    expect(await store.compact(Account, "ada", { into })).toEqual({ ...unchanged, version: 7, position: 8 });
    await store.delete(Account, "bob");
    expect(await store.compact(Account, "bob", { into })).toMatchObject(unchanged);
  });

  test("keeps the effect of idempotency keys, through two compactions and a restart", async () => {
    const storage = builder();
    const store = await open(storage);
    const ada = store.get(Account, "ada");
    await ada.execute(Account.commands.Open({ owner: "Ada" }), { idempotencyKey: "o" });
    await ada.execute(Account.commands.Deposit({ amount: 5 }), { idempotencyKey: "k" });
    await store.compact(Account, "ada", { into });
    const again = () => ada.execute(Account.commands.Deposit({ amount: 5 }), { idempotencyKey: "k" });
    expect(await again()).toMatchObject({ events: [], state: { open: true, balance: 5 }, version: 5 });
    await ada.execute(Account.commands.Deposit({ amount: 1 }), { idempotencyKey: "l" });
    await store.compact(Account, "ada", { into });
    expect(await again()).toMatchObject({ events: [], state: { balance: 6 } });
    await store.close();
    await using reopened = await open(storage);
    const there = reopened.get(Account, "ada");
    for (const idempotencyKey of ["o", "k", "l"])
      expect(await there.execute(Account.commands.Deposit({ amount: 5 }), { idempotencyKey })).toMatchObject({
        events: [],
        state: { open: true, balance: 6 },
      });
    expect(await reopened.head()).toBe(9);
  });

  test("still refuses injected events that it had, unless their ids are forgotten", async () => {
    const { store } = await filled();
    await using _ = store;
    const event = { type: "Deposited", data: { amount: 2 }, eventId: "from-elsewhere" } as const;
    await store.injectEvent(Account, "ada", event);
    await store.compact(Account, "ada", { into });
    expect(await store.injectEvent(Account, "ada", event)).toMatchObject({ injected: false });
    await store.get(Account, "ada").execute(Account.commands.Deposit({ amount: 1 }));
    await store.compact(Account, "ada", { into });
    expect(await store.injectEvent(Account, "ada", event)).toMatchObject({ injected: false });
    await store.get(Account, "ada").execute(Account.commands.Deposit({ amount: 1 }));
    await store.compact(Account, "ada", { into, forgetEventIds: true });
    expect(await store.injectEvent(Account, "ada", event)).toMatchObject({ injected: true });
  });

  test("gives its new events to no projection that had the old ones, and in their place to one that starts over", async () => {
    const storage = builder();
    const store = await open(storage);
    const ada = store.get(Account, "ada");
    await ada.execute(Account.commands.Open({ owner: "Ada" }));
    for (let i = 0; i < 3; i++) await ada.execute(Account.commands.Deposit({ amount: 1 }));
    expect(await store.projection(Balances)).toEqual({ byId: { ada: 3 }, events: 4 });
    await ada.execute(Account.commands.Deposit({ amount: 1 }));
    await store.compact(Account, "ada", { into });
    await ada.execute(Account.commands.Deposit({ amount: 1 }));
    // It was behind: it gets the old events, and none in their place.
    expect(await store.projection(Balances)).toEqual({ byId: { ada: 5 }, events: 6 });
    await store.rebuildProjection(Balances);
    expect(await store.projection(Balances)).toEqual({ byId: { ada: 5 }, events: 3 });
    await ada.execute(Account.commands.Deposit({ amount: 1 }));
    await store.compact(Account, "ada", { into });
    await store.close();
    await using reopened = await open(storage);
    expect(await reopened.projection(Balances)).toEqual({ byId: { ada: 6 }, events: 4 });
    await reopened.rebuildProjection(Balances);
    expect(await reopened.projection(Balances)).toEqual({ byId: { ada: 6 }, events: 2 });
  });

  test("lets a process manager react to each event once, wherever it was, and with its caches lost", async () => {
    const { store, ada } = await filled();
    await using _ = store;
    const total = () => store.get(Counter, "ada").state();
    expect(await store.runProcessManagers()).toEqual({ dispatched: 2, deadLettered: 0 });
    await ada.execute(Account.commands.Deposit({ amount: 7 }));
    // The manager has not reacted to the last event.
    await store.compact(Account, "ada", { into });
    expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
    expect(await total()).toBe(18);
    await ada.execute(Account.commands.Deposit({ amount: 1 }));
    await store.compact(Account, "ada", { into });
    await ada.execute(Account.commands.Deposit({ amount: 1 }));
    expect(await store.runProcessManagers()).toEqual({ dispatched: 2, deadLettered: 0 });
    expect(await total()).toBe(20);
  });

  test("gives a process manager that is new the new events", async () => {
    const storage = builder();
    const first = await storage.aggregate(Account).aggregate(Counter).open();
    const ada = first.get(Account, "ada");
    await ada.execute(Account.commands.Open({ owner: "Ada" }));
    for (let i = 0; i < 3; i++) await ada.execute(Account.commands.Deposit({ amount: 2 }));
    await first.compact(Account, "ada", { into });
    await first.close();
    await using store = await open(storage);
    expect(await store.runProcessManagers()).toEqual({ dispatched: 1, deadLettered: 0 });
    expect(await store.get(Counter, "ada").state()).toBe(6);
  });

  test("gives a subscription the events that it had not, and none twice", async () => {
    const { store, ada } = await filled();
    await using _ = store;
    const read = async (options: { name?: string; from?: "now" }, count: number) => {
      const seen: string[] = [];
      for await (const event of store.subscribe({ ...options, aggregates: [Account] })) {
        seen.push(`${event.type}@${event.position}`);
        if (seen.length === count) break;
      }
      return seen;
    };
    expect(await read({ name: "mail" }, 3)).toEqual(["Opened@1", "Deposited@2", "Opened@3"]);
    const now = store.subscribe({ from: "now", aggregates: [Account] })[Symbol.asyncIterator]();
    await store.compact(Account, "ada", { into });
    await ada.execute(Account.commands.Deposit({ amount: 1 }));
    // The last one that was asked for counts as not handled.
    expect(await read({ name: "mail" }, 3)).toEqual(["Opened@3", "Deposited@4", "Deposited@8"]);
    expect((await now.next()).value).toMatchObject({ position: 8 });
    await now.return?.();
    expect(await read({}, 4)).toEqual(["Opened@3", "Opened@6", "Deposited@7", "Deposited@8"]);
  });

  test("has no past states before the compaction", async () => {
    const { store, ada } = await filled();
    await using _ = store;
    await store.compact(Account, "ada", { into });
    await expect(ada.state({ version: 3 })).rejects.toMatchObject({ code: "VERSION_NOT_FOUND" });
    expect(await ada.state({ version: 6 })).toEqual({ open: true, balance: 11 });
    expect((await store.projectionAt(Balances, 2)).byId).toEqual({ ada: 5 });
    expect((await store.projectionAt(Balances, 4)).byId).toEqual({ ada: 11, bob: 0 });
    expect(await store.projectionAt(Balances, 7)).toEqual({ byId: { ada: 11, bob: 0 }, events: 3 });
  });

  test("is compacted on the state of a concurrent command, or after it", async () => {
    const { store, ada } = await filled();
    await using _ = store;
    const all = await Promise.all([
      ada.execute(Account.commands.Deposit({ amount: 1 })),
      store.compact(Account, "ada", { into }),
      ada.execute(Account.commands.Deposit({ amount: 1 })),
    ]);
    expect(all.map(({ version }) => version)).toEqual([4, 7, 8]);
    expect(await ada.state()).toEqual({ open: true, balance: 13 });
  });

  test("is moved to another store", async () => {
    const { store, ada } = await filled();
    await using _ = store;
    await store.compact(Account, "ada", { into });
    await ada.execute(Account.commands.Deposit({ amount: 1 }));
    const lines = await collect(store.export());
    await using target = await open();
    expect(await target.import(lines)).toMatchObject({ events: 8, position: 8, renumbered: false });
    expect(await target.import(lines)).toMatchObject({ events: 0, skipped: 8, renumbered: false });
    expect(await collect(target.events())).toEqual(await collect(store.events()));
    expect(await target.get(Account, "ada").state()).toEqual({ open: true, balance: 12 });
    expect((await collect(target.export())).slice(1)).toEqual(lines.slice(1));
    const again = await target
      .get(Account, "ada")
      .execute(Account.commands.Deposit({ amount: 5 }), { idempotencyKey: "k" });
    expect(again.events).toEqual([]);
    // To a store that has events of its own.
    await using other = await open();
    await other.get(Account, "eve").execute(Account.commands.Open({ owner: "Eve" }));
    expect(await other.import(lines)).toMatchObject({ renumbered: true });
    expect(await other.get(Account, "ada").state()).toEqual({ open: true, balance: 12 });
    expect(await other.import(lines)).toMatchObject({ events: 0 });
  });
});

describe("the rule compactAfter", () => {
  const Tally = aggregate("tally", {
    initial: { sum: 0, bad: false },
    events: { Added: data<{ by: number }>(), Broken: data() },
    commands: { Add: data<{ by: number }>(), Break: data() },
  }).define({
    handle: { Add: ({ data: d, emit }) => emit.Added(d), Break: ({ emit }) => emit.Broken() },
    apply: { Added: (s, { by }) => ({ ...s, sum: s.sum + by }), Broken: (s) => ({ ...s, bad: true }) },
    compactAfter: 10,
    compactInto: ({ sum }) => [{ type: "Added", data: { by: sum } }],
  });

  test("compacts instances in the background, also after a restart", async () => {
    const storage = memory();
    for (let run = 0; run < 3; run++) {
      await using store = await AggregateStore.builder(storage).aggregate(Tally).open();
      const one = store.get(Tally, "one");
      for (let i = 0; i < 25; i++) await one.execute(Tally.commands.Add({ by: 1 }));
      await until(async () => (await collect(one.events())).length < 12);
      expect(await one.state()).toEqual({ sum: 25 * (run + 1), bad: false });
    }
  });

  test("reports a failure and lets commands go on", async () => {
    const { subscribe, unsubscribe } = await import("node:diagnostics_channel");
    const seen: unknown[] = [];
    const listener = (notice: unknown): void => void seen.push(notice);
    subscribe("eventfold-es:compaction", listener);
    try {
      await using store = await AggregateStore.builder(memory()).aggregate(Tally).open();
      const one = store.get(Tally, "one");
      await one.execute(Tally.commands.Break());
      for (let i = 0; i < 12; i++) await one.execute(Tally.commands.Add({ by: 1 }));
      await until(() => seen.length > 0);
      expect(seen[0]).toMatchObject({ aggregate: "tally", id: "one", error: { code: "COMPACTION_DIFFERS" } });
      expect(await one.state()).toEqual({ sum: 12, bad: true });
    } finally {
      unsubscribe("eventfold-es:compaction", listener);
    }
  });

  test("needs compactInto, and a number of events", () => {
    const define = (more: object) => () =>
      Tally.contract &&
      aggregate("t", Tally.contract as never).define({
        ...Tally.behaviour,
        compactAfter: undefined,
        compactInto: undefined,
        ...more,
      } as never);
    for (const more of [{ compactAfter: 5 }, { compactAfter: 0, compactInto: () => [] }, { compactInto: 5 }])
      expect(define(more)).toThrow(expect.objectContaining({ code: "INVALID_DEFINITION" }));
  });
});

test("a process manager that has not seen a compaction and has lost its checkpoint reacts once", async () => {
  const { rmSync } = await import("node:fs");
  const directory = temporaryDirectory();
  const open = (manager = Echo) =>
    AggregateStore.builder(directory)
      .aggregate(Account)
      .aggregate(Counter)
      .processManager(manager)
      .processManagerMode("manual")
      .open();
  const total = async (store: Awaited<ReturnType<typeof open>>) => store.get(Counter, "ada").state();
  let store = await open();
  let ada = store.get(Account, "ada");
  await ada.execute(Account.commands.Open({ owner: "Ada" }));
  for (let i = 0; i < 3; i++) await ada.execute(Account.commands.Deposit({ amount: 1 }));
  expect(await store.runProcessManagers()).toMatchObject({ dispatched: 3 });
  for (let i = 0; i < 2; i++) await ada.execute(Account.commands.Deposit({ amount: 1 }));
  await store.compact(Account, "ada", { into });
  await store.close();
  rmSync(`${directory}/process_managers`, { recursive: true });
  store = await open();
  ada = store.get(Account, "ada");
  expect(await store.runProcessManagers()).toMatchObject({ dispatched: 2 });
  expect(await total(store)).toBe(5);
  // Now it is past the compaction, and reads the new events when it starts over; it has reacted to what they stand for.
  await ada.execute(Account.commands.Deposit({ amount: 1 }));
  expect(await store.runProcessManagers()).toMatchObject({ dispatched: 1 });
  await ada.execute(Account.commands.Deposit({ amount: 1 }));
  await store.close();
  rmSync(`${directory}/process_managers`, { recursive: true });
  const seen: number[] = [];
  const Changed = processManager("echo", { dispatches: [Counter] }).on(Account, {
    Deposited: (_state, e) => (seen.push(e.data.amount), Counter.at(e.id).Add({ by: e.data.amount })),
  });
  store = await open(Changed);
  expect(await store.runProcessManagers()).toMatchObject({ dispatched: 1 });
  expect(seen).toEqual([5, 1, 1]);
  expect(await total(store)).toBe(7);
  await store.close();
});

test("a compaction on disk outlives restarts without caches, and verifies clean", async () => {
  const { rmSync } = await import("node:fs");
  const directory = temporaryDirectory();
  const open = () => AggregateStore.builder(directory).aggregate(Account).projection(Balances).open();
  const first = await open();
  for (const id of ["ada", "bob"]) {
    await first.get(Account, id).execute(Account.commands.Open({ owner: id }));
    for (let i = 0; i < 5; i++) await first.get(Account, id).execute(Account.commands.Deposit({ amount: 1 }));
  }
  await first.compact(Account, "ada", { into });
  await first.close();
  expect(await verify(directory)).toMatchObject({ clean: true, findings: [] });
  for (const lost of [["cuts.json"], ["marker.json"], ["stream_ends", "cuts.json"], ["head"]]) {
    for (const name of lost) rmSync(`${directory}/meta/${name}`);
    rmSync(`${directory}/projections`, { recursive: true, force: true });
    const store = await open();
    expect(await store.get(Account, "ada").state()).toEqual({ open: true, balance: 5 });
    expect(await store.projection(Balances)).toEqual({ byId: { ada: 5, bob: 5 }, events: 8 });
    await store.close();
  }
  rmSync(`${directory}/commit_log`, { recursive: true });
  await using store = await open();
  expect(await store.get(Account, "ada").state()).toEqual({ open: true, balance: 5 });
  await store.rebuildProjection(Balances);
  expect(await store.projection(Balances)).toEqual({ byId: { ada: 5, bob: 5 }, events: 8 });
});
