import { aggregate, data, isEventfoldError, projection, replaced } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { backends } from "../support/backends.ts";

const Account = aggregate("account", {
  initial: { owner: "", balance: 0, lines: [] as { amount: number; tags: string[] }[] },
  events: { Opened: data<{ owner: string }>(), Moved: data<{ amount: number }>(), Renamed: data<{ owner: string }>() },
  commands: { Open: data<{ owner: string }>(), Move: data<number[]>(), Rename: data<{ owner: string }>() },
}).define({
  handle: {
    Open: ({ data, emit }) => emit.Opened(data),
    Move: ({ data, emit }) => data.map((amount) => emit.Moved({ amount })),
    Rename: ({ data, emit }) => emit.Renamed(data),
  },
  apply: {
    Opened: (s, { owner }) => ({ ...s, owner }),
    Moved: (s, { amount }) => ({ ...s, balance: s.balance + amount, lines: [...s.lines, { amount, tags: [] }] }),
    Renamed: (s, { owner }) => ({ ...s, owner }),
  },
});
const Totals = projection("totals", () => ({ total: 0, moves: 0 })).on(Account, {
  Moved: (s, { data }) => {
    s.total += data.amount;
    s.moves++;
  },
});

describe.each(backends)("the history of a state $backend", ({ builder }) => {
  async function opened() {
    const store = await builder().aggregate(Account).projection(Totals).open();
    const ada = store.get(Account, "ada");
    await ada.execute(Account.commands.Open({ owner: "Ada" }));
    await ada.execute(Account.commands.Move([5, 0, -2]));
    await ada.execute(Account.commands.Rename({ owner: "Ada L." }));
    return { store, ada };
  }

  test("explain names the events that changed a part of it, the newest first", async () => {
    const { store, ada } = await opened();
    const balance = await ada.explain("balance");
    expect(balance.map(({ type, version, before, after }) => [type, version, before, after])).toEqual([
      ["Moved", 4, 5, 3],
      ["Moved", 2, 0, 5],
    ]);
    expect(balance[0]).toMatchObject({ aggregate: "account", id: "ada", data: { amount: -2 }, position: 4 });
    expect((await ada.explain("owner")).map(({ type }) => type)).toEqual(["Renamed", "Opened"]);
    expect((await ada.explain("lines.1.amount")).map(({ version, before }) => [version, before])).toEqual([
      [3, undefined],
    ]);
    expect((await ada.explain(["lines", 2, "tags"])).map(({ after }) => after)).toEqual([[]]);
    expect(await ada.explain("lines.7")).toEqual([]);
    expect(await ada.explain("nothing.at.all")).toEqual([]);
    expect(await ada.explain("")).toHaveLength(5);
    expect(await store.get(Account, "none").explain("balance")).toEqual([]);
    await expect(ada.explain(5 as never)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await store.close();
  });

  test("diff shows the parts in which two versions differ", async () => {
    const { store, ada } = await opened();
    expect(await ada.diff(1, 2)).toEqual([
      { path: "balance", before: 0, after: 5 },
      { path: "lines.0", before: undefined, after: { amount: 5, tags: [] } },
    ]);
    expect(await ada.diff(2, 1)).toMatchObject([{ path: "balance", before: 5, after: 0 }, { path: "lines.0" }]);
    expect(await ada.diff(0, 5)).toHaveLength(5);
    expect(await ada.diff(3, 3)).toEqual([]);
    await expect(ada.diff(1, 6)).rejects.toMatchObject({ code: "VERSION_NOT_FOUND" });
    await store.close();
  });

  test("projectionAt folds up to a position, beside the live state", async () => {
    const { store } = await opened();
    expect(await store.projection(Totals)).toEqual({ total: 3, moves: 3 });
    for (const [position, expected] of [
      [0, { total: 0, moves: 0 }],
      [1, { total: 0, moves: 0 }],
      [2, { total: 5, moves: 1 }],
      [5, { total: 3, moves: 3 }],
    ] as const)
      expect(await store.projectionAt(Totals, position)).toEqual(expected);
    expect(await store.projection(Totals)).toEqual({ total: 3, moves: 3 });
    await expect(store.projectionAt(Totals, 6)).rejects.toMatchObject({ code: "VERSION_NOT_FOUND" });
    await expect(store.projectionAt(Totals, -1)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await store.close();
  });
});

test.each(backends)("explain shows each part of a split event $backend", async ({ builder }) => {
  const begin = builder();
  const Before = aggregate("order", {
    initial: {},
    events: { Finished: data<{ cents: number; by: string }>() },
    commands: { Finish: data() },
  }).define({
    handle: { Finish: ({ emit }) => emit.Finished({ cents: 5, by: "van" }) },
    apply: { Finished: (s) => s },
  });
  const After = aggregate("order", {
    initial: { cents: 0, carrier: "" },
    events: { Paid: data<{ cents: number }>(), Shipped: data<{ carrier: string }>() },
    commands: {},
    history: [
      replaced("Finished", data<{ cents: number; by: string }>(), ({ cents, by }) => [
        { type: "Paid", data: { cents } },
        { type: "Shipped", data: { carrier: by } },
      ]),
    ],
  }).define({
    handle: {},
    apply: { Paid: (s, { cents }) => ({ ...s, cents }), Shipped: (s, { carrier }) => ({ ...s, carrier }) },
  });
  await using before = await begin.aggregate(Before).open();
  await before.dispatch(Before.at("o").Finish());
  await using store = await begin.aggregate(After).open();
  const order = store.get(After, "o");
  expect((await order.explain("carrier")).map(({ type, data: payload }) => [type, payload])).toEqual([
    ["Shipped", { carrier: "van" }],
  ]);
  const error: unknown = await order.diff(0, 2).catch((thrown: unknown) => thrown);
  expect(isEventfoldError(error, "VERSION_NOT_FOUND")).toBe(true);
});
