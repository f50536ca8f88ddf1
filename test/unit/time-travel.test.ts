import { AggregateStore } from "eventfold-es";
import { describe, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { backends } from "../support/backends.ts";
import { oneTo } from "../support/store-files.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

const { Open, Deposit, Split } = Account.commands;

describe.each(backends)("time travel $backend", ({ builder }) => {
  async function history() {
    let time = 0;
    const store = await builder()
      .aggregate(Account)
      .clock(() => (time += 1000))
      .open();
    const ada = store.get(Account, "ada");
    await ada.execute(Open({ owner: "Ada" }));
    await ada.execute(Deposit({ amount: 10 }));
    await ada.execute(Split({ amounts: [100, 1000] }));
    return { store, ada };
  }

  test("to a version", async () => {
    const { store, ada } = await history();
    const balances: unknown[] = [];
    for (const version of [0, 1, 2, 3, 4]) balances.push(await ada.state({ version }));
    expect(balances).toEqual([
      { open: false, balance: 0 },
      { open: true, balance: 0 },
      { open: true, balance: 10 },
      { open: true, balance: 110 },
      { open: true, balance: 1110 },
    ]);
    await expect(ada.state({ version: 5 })).rejects.toMatchObject({ code: "VERSION_NOT_FOUND" });
    await expect(store.get(Account, "ghost").state({ version: 1 })).rejects.toMatchObject({
      code: "VERSION_NOT_FOUND",
    });
    expect(await ada.state()).toEqual({ open: true, balance: 1110 });
    await store.close();
  });

  test("to a time", async () => {
    const { store, ada } = await history();
    const at = async (time: number): Promise<number[]> => {
      const states = [await ada.state({ at: time }), await ada.state({ at: new Date(time) })];
      expect(states[0]).toEqual(states[1]);
      return states.map(({ balance }) => balance).slice(1);
    };
    expect(await ada.state({ at: 999 })).toEqual({ open: false, balance: 0 });
    expect(await ada.state({ at: new Date(1000) })).toEqual({ open: true, balance: 0 });
    expect([await at(1999), await at(2000), await at(2999), await at(3000), await at(9e12)].flat()).toEqual([
      0, 10, 10, 1110, 1110,
    ]);
    await store.close();
  });

  test("to a time after the clock went back is the state after the last event that is not later", async () => {
    const times = [1000, 5000, 2000, 9000, 3000, 9000];
    let time = 0;
    const store = await builder()
      .aggregate(Account)
      .clock(() => time)
      .open();
    const ada = store.get(Account, "ada");
    for (const [index, moment] of times.entries()) {
      time = moment;
      await ada.execute(index === 0 ? Open({ owner: "Ada" }) : Deposit({ amount: 10 ** index }));
    }
    const at = async (moment: number): Promise<number> => (await ada.state({ at: moment })).balance;
    expect([await at(999), await at(1000), await at(1999)]).toEqual([0, 0, 0]);
    // The third event has the time 2000, and the second one is part of the state before it.
    expect([await at(2000), await at(2999)]).toEqual([110, 110]);
    expect([await at(3000), await at(5000), await at(8999), await at(9000)]).toEqual([11_110, 11_110, 11_110, 111_110]);
    expect((await ada.state({ at: 2500, version: 2 })).balance).toBe(10);
    await expect(ada.state({ at: 9e12, version: 7 })).rejects.toMatchObject({ code: "VERSION_NOT_FOUND" });
    await store.close();
  });

  test("to the earlier of version and time", async () => {
    const { store, ada } = await history();
    expect((await ada.state({ version: 3, at: 2500 })).balance).toBe(10);
    expect((await ada.state({ version: 1, at: 9000 })).balance).toBe(0);
    await store.close();
  });
});

test("time travel does not depend on snapshots, restarts or commands in flight", async () => {
  const directory = temporaryDirectory();
  const open = () => AggregateStore.builder(directory).aggregate(Account).open();
  const store = await open();
  const ada = store.get(Account, "ada");
  await ada.execute(Open({ owner: "Ada" }));
  const work = oneTo(250).map((amount) => ada.execute(Deposit({ amount })));
  await work[100];
  expect((await ada.state({ version: 50 })).balance).toBe((49 * 50) / 2);
  await Promise.all(work);
  await store.close();
  await using again = await open();
  for (const version of [1, 2, 99, 100, 101, 200, 251])
    expect((await again.get(Account, "ada").state({ version })).balance).toBe(((version - 1) * version) / 2);
});
