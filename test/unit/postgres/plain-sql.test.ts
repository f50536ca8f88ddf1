import { AggregateStore, processManager } from "eventfold-es";
import { postgres } from "eventfold-es/postgres";
import { expect, test } from "vitest";
import { Account } from "../../support/account.ts";
import { describePostgres } from "../../support/postgres.ts";

const { Open, Deposit } = Account.commands;

describePostgres("a store in PostgreSQL, read with plain SQL", ({ pool, schema }) => {
  test("shows events, streams, consumers and dead letters in views", async () => {
    const [name, shared] = [schema(), pool()];
    const Greedy = processManager("greedy", { dispatches: [Account] }).on(Account, {
      Opened: () => ({ dispatch: Account.at("ghost").Withdraw({ amount: 5 }) }),
    });
    const store = await AggregateStore.builder(postgres({ pool: shared, schema: name }))
      .aggregate(Account)
      .processManager(Greedy)
      .processManagerMode("manual")
      .clock(() => 1_767_323_045_678)
      .open();
    await store.get(Account, "ada").execute(Open({ owner: "Ada" }), { actor: "u-1", correlationId: "r-1" });
    await store.get(Account, "ada").execute(Deposit({ amount: 50 }));
    await store.runProcessManagers();
    await store.close();

    const rows = async (sql: string) => (await shared.query(sql.replaceAll("$", name))).rows as unknown[];
    expect(
      await rows(
        "select position::int, at, aggregate, id, version::int, type, data, actor, correlation_id from $.history order by position",
      ),
    ).toMatchObject([
      {
        ...{
          position: 1,
          at: new Date(1_767_323_045_678),
          aggregate: "account",
          id: "ada",
          version: 1,
          type: "Opened",
        },
        ...{ data: { owner: "Ada" }, actor: "u-1", correlation_id: "r-1" },
      },
      { position: 2, version: 2, type: "Deposited", data: { amount: 50 }, actor: null, correlation_id: null },
    ]);
    expect(
      await rows("select sum((data->>'amount')::int)::int as total from $.history where type = 'Deposited'"),
    ).toEqual([{ total: 50 }]);
    expect(await rows("select id, version::int, last_type from $.streams")).toEqual([
      { id: "ada", version: 2, last_type: "Deposited" },
    ]);
    expect(await rows("select process_manager, aggregate, id, error from $.dead_letters")).toMatchObject([
      { process_manager: "greedy", aggregate: "account", id: "ghost", error: /rejected|NotOpen/ },
    ]);
    expect(await rows("select kind, name, last_position::int, head::int from $.consumers")).toEqual([
      { kind: "process-manager", name: "greedy", last_position: 1, head: 2 },
    ]);
  });

  test("keeps every payload as the JSON text that was written", async () => {
    const [name, shared] = [schema(), pool()];
    const storage = postgres({ pool: shared, schema: name });
    const events = await storage.open({ durability: "flush", now: () => 0, nextId: () => "" });
    const data = '{"b":1,"a":1.50,"a":"\\u0000","n":12345678901234567890}';
    await events.commit({
      appends: [
        {
          stream: { type: "account", id: "\u0000\u0001" },
          expectedVersion: 0,
          events: [{ type: "T", data, schemaVersion: 0, timestamp: 0 }],
        },
      ],
    });
    await events.close();
    const { rows } = await shared.query(`select data::text, id from ${name}.events`);
    expect(rows).toEqual([{ data, id: "\u0001\u0001\u0001\u0002" }]);
  });

  test("says so when transactions are not isolated as a commit needs it", async () => {
    const [name, shared] = [schema(), pool()];
    await (await AggregateStore.open(postgres({ pool: shared, schema: name }))).close();
    const client = await shared.connect();
    await client.query("begin isolation level repeatable read");
    const call = client.query(
      `select ${name}.commit_batch(gen_random_uuid(), false, true, '{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}')`,
    );
    await expect(call).rejects.toThrow("read committed");
    await client.query("rollback");
    client.release();
  });
});
