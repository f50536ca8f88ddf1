import { AggregateStore } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { backends } from "../support/backends.ts";
import { collect } from "../support/collect.ts";
import { holes, oneTo } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

describe.each(backends)("dispatchAll $backend", ({ builder }) => {
  async function opened(...ids: string[]) {
    const store = await builder().aggregate(Account).open();
    for (const id of ids) await store.get(Account, id).execute(Account.commands.Open({ owner: id }));
    return store;
  }

  test("writes the events of several instances in one commit", async () => {
    await using store = await opened("a", "b");
    const { results, position } = await store.dispatchAll(
      [
        Account.at("b").Split({ amounts: [1, 2] }),
        Account.at("a").Deposit({ amount: 3 }),
        Account.at("c").Open({ owner: "c" }),
      ],
      { actor: "u" },
    );
    expect(results.map(({ version, state }) => [version, state.balance])).toEqual([
      [3, 3],
      [2, 3],
      [1, 0],
    ]);
    expect(position).toBe(6);
    expect(
      holes(
        results.flatMap(({ events }) => events.map((event) => event.position)),
        6,
        3,
      ),
    ).toBeUndefined();
    for (const { events } of results) for (const event of events) expect(event.actor).toBe("u");
    for (const [i, id] of ["b", "a", "c"].entries()) {
      const events = await collect(store.get(Account, id).events());
      expect(events.slice(-(results[i]?.events.length ?? 0))).toEqual(results[i]?.events);
      expect(results[i]?.position).toBe(events.at(-1)?.position);
    }
  });

  test("writes nothing if one command is rejected or meets a bug", async () => {
    await using store = await opened("a", "b");
    const deposit = Account.at("a").Deposit({ amount: 5 });
    await expect(store.dispatchAll([deposit, Account.at("b").Withdraw({ amount: 1 })])).rejects.toMatchObject({
      code: "COMMAND_REJECTED",
      rejection: { type: "InsufficientFunds", data: { balance: 0, needed: 1 } },
    });
    await expect(store.dispatchAll([deposit, Account.at("b").Crash()])).rejects.toThrow(TypeError);
    await expect(store.dispatchAll([deposit, Account.at("new").Deposit({ amount: 1 })])).rejects.toMatchObject({
      rejection: { type: "NotOpen" },
    });
    await expect(store.dispatchAll([deposit, Account.at("b").Deposit({ amount: NaN })])).rejects.toMatchObject({
      code: "INVALID_PAYLOAD",
    });
    expect(await store.get(Account, "a").state()).toEqual({ open: true, balance: 0 });
    expect(await collect(store.get(Account, "a").events())).toHaveLength(1);
    expect(await store.list(Account)).toEqual(["a", "b"]);
    expect((await store.dispatch(deposit)).position).toBe(3);
  });

  test("decides several commands on one instance on each other's events", async () => {
    await using store = await opened();
    const a = Account.at("a");
    const { results } = await store.dispatchAll([
      a.Open({ owner: "a" }),
      a.Deposit({ amount: 10 }),
      Account.at("b").Open({ owner: "b" }),
      a.Withdraw({ amount: 4 }),
      a.Open({ owner: "again" }),
    ]);
    expect(results.map(({ version, state, events }) => [version, state.balance, events.length])).toEqual([
      [1, 0, 1],
      [2, 10, 1],
      [1, 0, 1],
      [3, 6, 1],
      [3, 6, 0],
    ]);
    await expect(
      store.dispatchAll([a.Withdraw({ amount: 6 }), Account.at("b").Deposit({ amount: 1 }), a.Withdraw({ amount: 1 })]),
    ).rejects.toMatchObject({ rejection: { type: "InsufficientFunds", data: { balance: 0, needed: 1 } } });
    expect(await store.get(Account, "a").state()).toEqual({ open: true, balance: 6 });
    expect(await store.get(Account, "b").state()).toEqual({ open: true, balance: 0 });
  });

  test("does not deadlock in opposite orders at once, and between other commands", async () => {
    await using store = await opened("a", "b", "c");
    const work: Promise<unknown>[] = [];
    for (let i = 0; i < 50; i++) {
      const [a, b, c] = ["a", "b", "c"].map((id) => Account.at(id).Deposit({ amount: 1 }));
      if (a === undefined || b === undefined || c === undefined) continue;
      work.push(store.dispatchAll([a, b]), store.dispatchAll([b, a]), store.dispatchAll([c, b, a]));
      work.push(store.get(Account, "b").execute(Account.commands.Deposit({ amount: 1 })));
    }
    await Promise.all(work);
    const balances = await Promise.all(
      ["a", "b", "c"].map(async (id) => (await store.get(Account, id).state()).balance),
    );
    expect(balances).toEqual([150, 200, 50]);
    const events = await Promise.all(["a", "b", "c"].map((id) => collect(store.readEvents("account", id))));
    expect(
      holes(
        events.flat().map(({ position }) => position),
        403,
      ),
    ).toBeUndefined();
  });

  test("without envelopes, or without events, writes nothing", async () => {
    await using store = await opened("a");
    expect((await store.dispatchAll([])).results).toEqual([]);
    const { results } = await store.dispatchAll([Account.at("a").Open({ owner: "x" }), Account.at("b").Close()]);
    expect(results.map(({ version, events }) => [version, events.length])).toEqual([
      [1, 0],
      [0, 0],
    ]);
    expect(await store.list(Account)).toEqual(["a"]);
  });

  test("refuses conditions, which it could not keep", async () => {
    await using store = await opened("a");
    const conditions = { expectedVersion: 1, signal: new AbortController().signal, timeout: 1000 };
    for (const condition of Object.entries(conditions))
      await expect(
        store.dispatchAll([Account.at("a").Deposit({ amount: 1 })], Object.fromEntries([condition])),
      ).rejects.toMatchObject({ code: "INVALID_ARGUMENT", message: expect.stringContaining(condition[0]) as string });
    expect(await store.head()).toBe(1);
  });

  test("spans more instances than the store keeps descriptors", async () => {
    await using store = await opened();
    const ids = oneTo(400).map((n) => `a-${n}`);
    await store.dispatchAll(ids.map((id) => Account.at(id).Open({ owner: id })));
    const { position } = await store.dispatchAll(ids.map((id) => Account.at(id).Split({ amounts: [1, 2] })));
    expect(position).toBe(1200);
    expect(await store.list(Account)).toHaveLength(400);
    for (const id of ids) expect(await store.get(Account, id).state()).toEqual({ open: true, balance: 3 });
  });
});

test("the events of dispatchAll are all there after a restart", async () => {
  const directory = temporaryDirectory();
  const store = await AggregateStore.builder(directory).aggregate(Account).open();
  const { results } = await store.dispatchAll([
    Account.at("a").Open({ owner: "a" }),
    Account.at("b").Open({ owner: "b" }),
    Account.at("a").Deposit({ amount: 1 }),
  ]);
  await store.close();
  await using again = await AggregateStore.builder(directory).aggregate(Account).open();
  const events = results.flatMap((result) => [...result.events]);
  const read = [
    ...(await collect(again.get(Account, "a").events())),
    ...(await collect(again.get(Account, "b").events())),
  ];
  expect(read.sort((x, y) => x.position - y.position)).toEqual(events.sort((x, y) => x.position - y.position));
});
