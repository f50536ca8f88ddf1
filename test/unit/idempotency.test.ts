import { AggregateStore } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { backends } from "../support/backends.ts";
import { collect } from "../support/collect.ts";
import { oneTo } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const { Open, Deposit, Split, Withdraw } = Account.commands;
const key = { idempotencyKey: "k" };

describe.each(backends)("an idempotency key $backend", ({ backend, builder }) => {
  async function opened() {
    const store = await builder().aggregate(Account).open();
    await store.get(Account, "ada").execute(Open({ owner: "Ada" }));
    return store;
  }

  test("returns the first result again and writes nothing, also after other commands", async () => {
    await using store = await opened();
    const ada = store.get(Account, "ada");
    const first = await ada.execute(Split({ amounts: [1, 2, 3] }), key);
    expect(first).toMatchObject({ version: 4, state: { balance: 6 } });
    expect(await ada.execute(Split({ amounts: [1, 2, 3] }), key)).toEqual(first);
    for (const amount of oneTo(5)) await ada.execute(Deposit({ amount }), { idempotencyKey: `other-${amount}` });
    expect(await ada.execute(Split({ amounts: [1, 2, 3] }), key)).toEqual(first);
    expect(await ada.try(Split({ amounts: [1, 2, 3] }), key)).toEqual({ ok: true, ...first });
    expect(await ada.state()).toEqual({ open: true, balance: 21 });
    expect(await collect(ada.events())).toHaveLength(9);
  });

  test("counts once for concurrent commands", async () => {
    await using store = await opened();
    const ada = store.get(Account, "ada");
    const results = await Promise.all([
      ...oneTo(10).map(() => ada.execute(Deposit({ amount: 1 }), key)),
      ...oneTo(10).map(() => store.dispatch(Account.at("ada").Deposit({ amount: 1 }), key)),
    ]);
    for (const result of results) expect(result).toEqual(results[0]);
    expect(await ada.state()).toEqual({ open: true, balance: 1 });
  });

  test("is answered by a store that is closed meanwhile", async () => {
    const store = await builder().aggregate(Account).open();
    const ada = store.get(Account, "ada");
    await ada.execute(Open({ owner: "Ada" }));
    // Enough results that reading them back takes more than one turn. In JetStream, all must fit into one message.
    const first = await ada.execute(Split({ amounts: oneTo(backend === "in JetStream" ? 5000 : 40_000) }), key);
    const again = ada.execute(Split({ amounts: [1] }), key);
    await Promise.all([store.close(), expect(again).resolves.toMatchObject({ version: first.version })]);
  });

  test("counts for one instance only", async () => {
    await using store = await opened();
    await store.get(Account, "bob").execute(Open({ owner: "Bob" }), key);
    const { state } = await store.get(Account, "ada").execute(Deposit({ amount: 1 }), key);
    expect(state.balance).toBe(1);
  });

  test("lets two commands with different keys both count", async () => {
    await using store = await opened();
    const ada = store.get(Account, "ada");
    await Promise.all(["a", "b", "__proto__"].map((k) => ada.execute(Deposit({ amount: 1 }), { idempotencyKey: k })));
    expect((await ada.state()).balance).toBe(3);
    await ada.execute(Deposit({ amount: 1 }), { idempotencyKey: "__proto__" });
    expect((await ada.state()).balance).toBe(3);
  });

  test("can be used again after a rejected or failed command", async () => {
    await using store = await opened();
    const ada = store.get(Account, "ada");
    expect(await ada.try(Withdraw({ amount: 5 }), key)).toMatchObject({ ok: false });
    await expect(ada.execute(Account.commands.Crash(), key)).rejects.toThrow(TypeError);
    await ada.execute(Deposit({ amount: 5 }));
    expect(await ada.try(Withdraw({ amount: 5 }), key)).toMatchObject({ ok: true, state: { balance: 0 } });
    expect(await ada.try(Withdraw({ amount: 5 }), key)).toMatchObject({ ok: true, state: { balance: 0 } });
  });

  test("works for several instances in one commit", async () => {
    await using store = await opened();
    const envelopes = [Account.at("bob").Open({ owner: "Bob" }), Account.at("ada").Deposit({ amount: 1 })];
    const first = await store.dispatchAll(envelopes, key);
    const bob = store.get(Account, "bob");
    await bob.execute(Deposit({ amount: 7 }));
    expect((await store.dispatchAll(envelopes, key)).results).toEqual(first.results);
    expect((await bob.state()).balance).toBe(7);
    expect((await store.get(Account, "ada").state()).balance).toBe(1);
    // One command is new and takes effect; the other does not take effect again.
    await store.dispatchAll([...envelopes, Account.at("cyd").Open({ owner: "Cyd" })], key);
    expect(await store.list(Account)).toEqual(["ada", "bob", "cyd"]);
    expect((await store.get(Account, "ada").state()).balance).toBe(1);
  });

  test("counts once within one dispatchAll", async () => {
    await using store = await opened();
    const deposit = Account.at("ada").Deposit({ amount: 1 });
    const { results } = await store.dispatchAll([deposit, deposit], key);
    expect(results[1]).toEqual(results[0]);
    expect((await store.dispatchAll([deposit, deposit], key)).results).toEqual(results);
    expect((await store.get(Account, "ada").state()).balance).toBe(1);
  });
});

describe("an idempotency key after a restart", () => {
  test("still returns the first result", async () => {
    const directory = temporaryDirectory();
    const open = () => AggregateStore.builder(directory).aggregate(Account).open();
    const store = await open();
    const ada = store.get(Account, "ada");
    const opening = await ada.execute(Open({ owner: "Ada" }), { idempotencyKey: "open" });
    const first = await ada.execute(Split({ amounts: [1, 2] }), key);
    // Enough events for a snapshot, which is after the key.
    for (const amount of oneTo(150)) await ada.execute(Deposit({ amount }));
    await store.close();
    await using again = await open();
    const results = await Promise.all(
      oneTo(3).map(() => again.get(Account, "ada").execute(Split({ amounts: [1, 2] }), key)),
    );
    for (const result of results) expect(result).toEqual(first);
    expect(await again.get(Account, "ada").execute(Open({ owner: "Ada" }), { idempotencyKey: "open" })).toEqual(
      opening,
    );
    expect(await collect(again.readEvents("account", "ada"))).toHaveLength(153);
  });
});
