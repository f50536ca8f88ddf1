import { describe, expect, test } from "vitest";
import { Account } from "../support/account.ts";
import { backends } from "../support/backends.ts";

const { Open, Deposit } = Account.commands;

describe.each(backends)("an event that was seen is part of the state, $backend", ({ builder }) => {
  test("for a subscriber, with commands one after the other and many at once", async () => {
    const store = await builder().aggregate(Account).open();
    const ada = store.get(Account, "ada");
    const behind: string[] = [];
    let seen = 0;
    const subscription = store.subscribe({}, async (event) => {
      seen++;
      const { balance } = await ada.state();
      if (balance < event.version - 1) behind.push(`${balance} at version ${event.version}`);
    });
    await ada.execute(Open({ owner: "Ada" }));
    for (let n = 0; n < 20; n++) await ada.execute(Deposit({ amount: 1 }));
    await Promise.all(Array.from({ length: 50 }, () => ada.execute(Deposit({ amount: 1 }))));
    await expect.poll(() => seen, { timeout: 50_000 }).toBe(71);
    await store.close();
    await subscription.done;
    expect(behind).toEqual([]);
  });

  test("for a reader of the stream in the same turn", async () => {
    const store = await builder().aggregate(Account).open();
    const ada = store.get(Account, "ada");
    const behind: string[] = [];
    const commands = [ada.execute(Open({ owner: "Ada" }))];
    for (let n = 0; n < 30; n++) {
      commands.push(ada.execute(Deposit({ amount: 1 })));
      let version = 0;
      for await (const event of ada.events()) ({ version } = event);
      const { balance } = await ada.state();
      if (balance < version - 1) behind.push(`${balance} at version ${version}`);
    }
    await Promise.all(commands);
    await store.close();
    expect(behind).toEqual([]);
  });

  test("for dispatchAll", async () => {
    const store = await builder().aggregate(Account).open();
    const behind: string[] = [];
    const subscription = store.subscribe({}, async ({ id, version }) => {
      const { balance } = await store.get(Account, id).state();
      if (balance < version - 1) behind.push(`${balance} of ${id} at version ${version}`);
    });
    await store.dispatchAll(["a", "b"].map((id) => Account.at(id).Open({ owner: id })));
    for (let n = 0; n < 10; n++) await store.dispatchAll(["a", "b"].map((id) => Account.at(id).Deposit({ amount: 1 })));
    await store.close();
    await subscription.done;
    expect(behind).toEqual([]);
  });
});
