import { AggregateStore, processManager, projection } from "eventfold-es";
import { expect, onTestFinished, test } from "vitest";
import { Account } from "../support/account.ts";
import { describeServers } from "../support/server-storages.ts";
import { pause, until } from "../support/until.ts";

const { Open, Deposit } = Account.commands;

const Balance = projection("balance", () => ({ total: 0 })).on(Account, {
  Deposited: (state, { data }) => ({ total: state.total + data.amount }),
});

/** For each account that is opened, a deposit to the account `bonus`. */
const Bonus = processManager("bonus", { dispatches: [Account] }).on(Account, {
  Opened: (_, { id }) => (id === "bonus" ? undefined : { dispatch: Account.at("bonus").Deposit({ amount: 1 }) }),
});

describeServers("a program whose server goes away", ({ throughProxy }) => {
  async function stage(timeout: "30s" | "300ms") {
    const { proxy, storage } = await throughProxy(timeout);
    const errors: unknown[] = [];
    const open = () =>
      AggregateStore.builder(storage)
        .aggregate(Account)
        .projection(Balance)
        .processManager(Bonus)
        .onProcessManagerError((error) => errors.push(error))
        .open();
    const store = await open();
    onTestFinished(async () => {
      proxy.up();
      await store.close();
    });
    return { proxy, store, open, errors };
  }

  test("goes on by itself when it is back: commands, managers, projections and subscriptions", async () => {
    const { proxy, store } = await stage("30s");
    const seen: number[] = [];
    store.subscribe({}, ({ position }) => void seen.push(position));
    await store.get(Account, "bonus").execute(Open({ owner: "all" }));
    for (let n = 0; n < 3; n++) {
      await store.get(Account, `a${n}`).execute(Open({ owner: "Ada" }));
      proxy.down();
      const waiting = store.get(Account, `a${n}`).execute(Deposit({ amount: 10 }));
      const read = store.projection(Balance);
      await pause(50);
      proxy.up();
      await waiting;
      await read;
    }
    await store.runProcessManagers();
    expect((await store.get(Account, "bonus").state()).balance).toBe(3);
    expect((await store.projection(Balance)).total).toBe(33);
    await until(() => seen.length === 10);
    expect(seen).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  });

  test("gets errors when it stays away, and nothing is done twice or forgotten afterwards", async () => {
    const { proxy, store } = await stage("300ms");
    const seen: number[] = [];
    store.subscribe({ onError: () => {} }, ({ position }) => void seen.push(position));
    await store.get(Account, "bonus").execute(Open({ owner: "all" }));
    await store.get(Account, "ada").execute(Open({ owner: "Ada" }));
    proxy.down();
    const away = { code: expect.stringMatching(/^(STORE_UNAVAILABLE|COMMIT_UNKNOWN)$/) as string };
    await until(() =>
      store.projection(Balance).then(
        () => false,
        () => true,
      ),
    );
    const key = { idempotencyKey: "k" };
    await expect(store.get(Account, "ada").execute(Deposit({ amount: 10 }), key)).rejects.toMatchObject(away);
    await expect(store.get(Account, "new").state()).rejects.toMatchObject(away);
    await expect(store.projection(Balance)).rejects.toMatchObject(away);
    await expect(store.list(Account)).rejects.toMatchObject(away);
    proxy.up();
    await store.get(Account, "ada").execute(Deposit({ amount: 10 }), key);
    await store.runProcessManagers();
    expect((await store.get(Account, "bonus").state()).balance).toBe(1);
    expect((await store.projection(Balance)).total).toBe(11);
    await until(() => seen.length === 4);
    expect(seen).toEqual([1, 2, 3, 4]);
  });

  test("can be closed while it is away, and loses nothing that was acknowledged", async () => {
    const { proxy, store, open } = await stage("300ms");
    await store.get(Account, "bonus").execute(Open({ owner: "all" }));
    await store.get(Account, "ada").execute(Open({ owner: "Ada" }));
    await store.projection(Balance);
    store.subscribe({ name: "named", onError: () => {} }, () => {});
    proxy.down();
    // Whether closing reports the outage or not, it ends.
    await store.close().catch(() => {});
    proxy.up();
    await using again = await open();
    await again.runProcessManagers();
    expect((await again.get(Account, "bonus").state()).balance).toBe(1);
    expect(await again.list(Account)).toEqual(["ada", "bonus"]);
  });
});
