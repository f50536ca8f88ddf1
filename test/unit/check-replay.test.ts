import { aggregate, AggregateStore, checkReplay, data, memory, processManager, projection } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { oneTo } from "../support/store-files.ts";

/** A model whose `apply`, handlers and reactions call a helper, as the text of their functions does not show. */
function modelOf(rate: (amount: number) => number) {
  const Account = aggregate("account", {
    initial: { balance: 0 },
    events: { Moved: data<{ amount: number }>(), Noted: data() },
    commands: { Move: data<number[]>(), Note: data() },
  }).define({
    handle: {
      Move: ({ data, emit }) => data.map((amount) => emit.Moved({ amount })),
      Note: ({ emit }) => emit.Noted(),
    },
    apply: { Moved: (s, { amount }) => ({ balance: s.balance + rate(amount) }), Noted: (s) => s },
  });
  const Totals = projection("totals", () => ({ total: 0 })).on(Account, {
    Moved: (s, { data }) => void (s.total += rate(data.amount)),
  });
  const Echo = processManager("echo", { dispatches: [Account] }).on(Account, {
    Moved: (_, { data }) => (rate(data.amount) > 100 ? Account.at("big").Note() : undefined),
  });
  return { Account, Totals, Echo };
}

const same = modelOf((amount) => amount);
const changed = modelOf((amount) => (amount === 70 ? 700 : amount));

async function filled() {
  const { Account, Totals, Echo } = same;
  const store = await AggregateStore.builder(memory())
    .aggregate(Account)
    .projection(Totals)
    .processManager(Echo)
    .processManagerMode("manual")
    .open();
  await store.dispatch(Account.at("a").Move(oneTo(50)));
  await store.dispatch(Account.at("b").Move([1, 2, 70, 4, 70]));
  await store.dispatch(Account.at("c").Note());
  return store;
}

describe("checkReplay", () => {
  test("finds nothing if the code does the same", async () => {
    await using store = await filled();
    const again = modelOf((amount) => amount);
    expect(await checkReplay(store, [again.Account, again.Totals, again.Echo])).toEqual([]);
  });

  test("finds a changed helper: what comes out differently, and the first event that does", async () => {
    await using store = await filled();
    const found = await checkReplay(store, [changed.Account, changed.Totals, changed.Echo]);
    const seventy = { aggregate: "account", id: "b", version: 3, position: 53, type: "Moved", data: { amount: 70 } };
    expect(found).toMatchObject([
      {
        kind: "instance",
        name: "account",
        id: "b",
        event: seventy,
        changes: [{ path: "balance", before: 73, after: 703 }],
      },
      { kind: "projection", name: "totals", event: seventy, changes: [{ path: "total", before: 1348, after: 1978 }] },
      { kind: "process-manager", name: "echo", event: seventy, changes: [{ path: "done.0", before: undefined }] },
    ]);
    expect(await store.head()).toBe(56);
    expect(await store.projection(same.Totals)).toEqual({ total: 1275 + 147 });
  });

  test("looks past deletions", async () => {
    await using store = await filled();
    await store.delete(same.Account, "a");
    await store.dispatch(same.Account.at("d").Move([70]));
    const found = await checkReplay(store, [changed.Account, changed.Totals, changed.Echo]);
    expect(found.map(({ kind, id }) => [kind, id])).toEqual([
      ["instance", "b"],
      ["instance", "d"],
      ["projection", undefined],
      ["process-manager", undefined],
    ]);
  });

  test("reports another initial state, an error, and an event that the new model does not declare", async () => {
    await using store = await filled();
    const { contract, behaviour } = same.Account;
    const Other = aggregate("account", { ...contract, initial: { balance: 1 } }).define(behaviour);
    const Throwing = modelOf((amount) => {
      if (amount === 70) throw new Error("no rate for 70");
      return amount;
    });
    const { Noted: _, ...events } = contract.events;
    const Less = aggregate("account", { ...contract, events, commands: {} }).define({
      handle: {},
      apply: { Moved: behaviour.apply.Moved },
    });
    const LessTotals = projection("totals", () => ({ total: 0 })).on(Less, {
      Moved: (s, { data }) => void (s.total += data.amount),
    });
    expect((await checkReplay(store, [Other])).map(({ id, event }) => [id, event])).toEqual([
      ["a", undefined],
      ["b", undefined],
      ["c", undefined],
    ]);
    expect(await checkReplay(store, [Throwing.Account, Throwing.Totals])).toMatchObject([
      { kind: "instance", id: "b", event: { version: 3 }, error: "no rate for 70", changes: [] },
      { kind: "projection", event: { position: 53 }, error: "no rate for 70" },
    ]);
    expect(await checkReplay(store, [Less, LessTotals])).toMatchObject([
      { kind: "instance", id: "c", event: { type: "Noted" }, error: expect.stringContaining("Noted") },
      { kind: "projection", event: { type: "Noted", position: 56 }, error: expect.stringContaining("Noted") },
    ]);
  });

  test("refuses a definition that replaces none, and a closed store", async () => {
    await using store = await filled();
    const Unknown = projection("unknown", 0).on(same.Account, { Noted: (n) => n + 1 });
    const code = "INVALID_ARGUMENT";
    await expect(checkReplay(store, [Unknown])).rejects.toMatchObject({
      code,
      message: expect.stringContaining("unknown"),
    });
    await expect(checkReplay({} as never, [])).rejects.toMatchObject({ code });
    await store.close();
    await expect(checkReplay(store, [])).rejects.toMatchObject({ code: "STORE_CLOSED" });
  });
});
