import { AggregateStore } from "eventfold-es";
import { postgres } from "eventfold-es/postgres";
import pg from "pg";
import { expect, test } from "vitest";
import { Account } from "../../support/account.ts";
import { describePostgres } from "../../support/postgres.ts";
import { until } from "../../support/until.ts";

const { Open, Deposit } = Account.commands;

describePostgres("commits of another process, in PostgreSQL", ({ pool, schema, url }) => {
  for (const listen of [true, false]) {
    test(`reach a subscription ${listen ? "by a notification" : "by looking"}`, async () => {
      const name = schema();
      const open = () => AggregateStore.open(postgres({ pool: pool(), schema: name, listen }));
      await using one = await open();
      await using other = await open();
      const seen: number[] = [];
      const subscription = other.subscribe({}, ({ position }) => void seen.push(position));
      for (let n = 0; n < 3; n++) {
        await one.get(Account, `a${n}`).execute(Open({ owner: "Ada" }));
        await until(() => seen.length === n + 1);
      }
      expect(seen).toEqual([1, 2, 3]);
      await subscription.close();
    });
  }

  test("reach a subscription after the listening connection was killed", async () => {
    const name = schema();
    const open = () => AggregateStore.open(postgres({ pool: pool(), schema: name }));
    await using one = await open();
    await using other = await open();
    const seen: number[] = [];
    const subscription = other.subscribe({}, ({ position }) => void seen.push(position));
    await one.get(Account, "ada").execute(Open({ owner: "Ada" }));
    await until(() => seen.length === 1);
    const admin = new pg.Client({ connectionString: url });
    await admin.connect();
    const listeners = "select pg_terminate_backend(pid) from pg_stat_activity where query = $1";
    await until(async () => (await admin.query(listeners, [`listen "${name}"`])).rows.length === 2);
    await one.get(Account, "bob").execute(Open({ owner: "Bob" }));
    await until(() => seen.length === 2);
    // Both listen again.
    const listening = "select 1 from pg_stat_activity where query = $1";
    await until(async () => (await admin.query(listening, [`listen "${name}"`])).rows.length === 2);
    await admin.end();
    await subscription.close();
  });

  test("are what a rejection rests on", async () => {
    const name = schema();
    const open = () => AggregateStore.open(postgres({ pool: pool(), schema: name }));
    await using one = await open();
    await using other = await open();
    let stale = 0;
    for (let n = 0; n < 30; n++) {
      const [here, there] = [one.get(Account, `a${n}`), other.get(Account, `a${n}`)];
      await here.execute(Open({ owner: "Ada" }));
      await here.execute(Deposit({ amount: 1 }));
      await there.execute(Deposit({ amount: 100 }));
      const outcome = await here.try(Account.commands.Withdraw({ amount: 50 }));
      if (!outcome.ok) stale++;
    }
    expect(stale).toBe(0);
  });

  test("are found by a store whose connections are shared for single statements, where prepared statements get lost", async () => {
    const name = schema();
    const shared = pool({ max: 1 });
    // As a pooler does between two transactions.
    const forget = () => shared.query("deallocate all");
    await using store = await AggregateStore.open(postgres({ pool: shared, schema: name }));
    for (let n = 1; n <= 5; n++) {
      await forget();
      expect((await store.get(Account, `a${n}`).execute(Open({ owner: "Ada" }))).position).toBe(n);
      await forget();
      expect(await store.list(Account)).toHaveLength(n);
    }
  });
});
