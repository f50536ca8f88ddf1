import { AggregateStore } from "eventfold-es";
import { postgres, type PostgresPool } from "eventfold-es/postgres";
import pg from "pg";
import { describe, expect, test } from "vitest";
import { Account } from "../../support/account.ts";
import { describePostgres } from "../../support/postgres.ts";

const { Open, Deposit } = Account.commands;

describePostgres("opening a store in PostgreSQL", ({ pool, schema, url }) => {
  test("makes the schema, and finds the events when it is opened again", async () => {
    const storage = postgres({ pool: pool(), schema: schema() });
    const first = await AggregateStore.open(storage);
    await first.get(Account, "ada").execute(Open({ owner: "Ada" }));
    await first.close();
    await using second = await AggregateStore.open(storage);
    expect(await second.get(Account, "ada").state()).toMatchObject({ open: true });
    expect((await second.get(Account, "ada").execute(Deposit({ amount: 1 }))).position).toBe(2);
  });

  test("works when many processes open a new store at the same time", async () => {
    const [name, shared] = [schema(), pool({ max: 20 })];
    const stores = await Promise.all(
      Array.from({ length: 8 }, () => AggregateStore.open(postgres({ pool: shared, schema: name }))),
    );
    const results = await Promise.all(
      stores.map((store, n) => store.get(Account, `a${n}`).execute(Open({ owner: "Ada" }))),
    );
    expect(results.map(({ position }) => position).sort((a, b) => a - b)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    for (const store of stores) await store.close();
  });

  test("keeps the stores of one database apart", async () => {
    const shared = pool();
    await using one = await AggregateStore.open(postgres({ pool: shared, schema: schema() }));
    await using other = await AggregateStore.open(postgres({ pool: shared, schema: schema() }));
    await one.get(Account, "ada").execute(Open({ owner: "Ada" }));
    expect(await other.list(Account)).toEqual([]);
    expect((await other.get(Account, "bob").execute(Open({ owner: "Bob" }))).position).toBe(1);
  });

  test("leaves the pool to its owner", async () => {
    const shared = pool();
    const before = shared.listenerCount("error");
    const store = await AggregateStore.open(postgres({ pool: shared, schema: schema() }));
    await store.close();
    expect((await shared.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
    expect(shared.listenerCount("error")).toBe(before);
  });

  test("works with a pool of a single connection, and with several stores on a small pool", async () => {
    for (const [max, count] of [
      [1, 1],
      [2, 3],
    ] as const) {
      const small = pool({ max });
      const stores = await Promise.all(
        Array.from({ length: count }, () => AggregateStore.open(postgres({ pool: small, schema: schema() }))),
      );
      for (const store of stores) await store.get(Account, "ada").execute(Open({ owner: "Ada" }));
      for (const store of stores) await store.close();
    }
  });

  test("is refused when a newer version of the library has made the schema", async () => {
    const [name, shared] = [schema(), pool()];
    await (await AggregateStore.open(postgres({ pool: shared, schema: name }))).close();
    await shared.query(`update ${name}.format set version = version + 1`);
    const opening = AggregateStore.open(postgres({ pool: shared, schema: name }));
    await expect(opening).rejects.toMatchObject({ code: "UNSUPPORTED_FORMAT", message: /newer eventfold-es/ });
  });

  test("leaves nothing behind when it fails in the middle of making the schema", async () => {
    const [name, shared] = [schema(), pool()];
    await shared.query(`create schema ${name}; create table ${name}.checkpoints (mine int)`);
    const storage = postgres({ pool: shared, schema: name });
    await expect(AggregateStore.open(storage)).rejects.toMatchObject({ code: "IO_ERROR", message: /checkpoints/ });
    await shared.query(`drop table ${name}.checkpoints`);
    await (await AggregateStore.open(storage)).close();
  });

  test("is refused in a database with another encoding than UTF8", async () => {
    const [admin, name] = [pool(), schema()];
    await admin.query(`create database ${name} encoding 'LATIN1' locale 'C' template template0`);
    const latin = new pg.Pool({ connectionString: Object.assign(new URL(url), { pathname: `/${name}` }).href });
    const opening = AggregateStore.open(postgres({ pool: latin }));
    await expect(opening).rejects.toMatchObject({ code: "UNSUPPORTED_FORMAT", message: /LATIN1/ });
    await latin.end();
    await admin.query(`drop database ${name}`);
  });

  test("is refused where transactions do not read what was committed meanwhile", async () => {
    const strict = pool({ options: "-c default_transaction_isolation=serializable" });
    const opening = AggregateStore.open(postgres({ pool: strict, schema: schema() }));
    await expect(opening).rejects.toMatchObject({ code: "UNSUPPORTED_FORMAT", message: /serializable/ });
  });

  test("needs no right to make tables once the schema is there", async () => {
    const [name, role, admin] = [schema(), schema(), pool()];
    await (await AggregateStore.open(postgres({ pool: admin, schema: name }))).close();
    await admin.query(`create role ${role} login; grant usage on schema ${name} to ${role};
      grant select, insert, update, delete on all tables in schema ${name} to ${role};
      grant execute on all functions in schema ${name} to ${role}`);
    const plain = new pg.Pool({ connectionString: Object.assign(new URL(url), { username: role }).href });
    const store = await AggregateStore.open(postgres({ pool: plain, schema: name }));
    expect((await store.get(Account, "ada").execute(Open({ owner: "Ada" }))).position).toBe(1);
    await store.close();
    await plain.end();
    await admin.query(`drop owned by ${role}; drop role ${role}`);
  });

  test("fails at once when the server does not let the role in", async () => {
    const stranger = pool({ connectionString: Object.assign(new URL(url), { username: "no_such_role" }).href });
    const opening = AggregateStore.open(postgres({ pool: stranger, schema: schema(), timeout: "1h" }));
    await expect(opening).rejects.toMatchObject({ code: "IO_ERROR", message: /no_such_role/ });
  });

  test("fails at once when the pool has ended", async () => {
    const ended = new pg.Pool({ connectionString: url });
    await ended.end();
    const opening = AggregateStore.open(postgres({ pool: ended, schema: schema(), timeout: "1h" }));
    await expect(opening).rejects.toMatchObject({ code: "IO_ERROR", message: /after calling end/ });
  });
});

describe("the options of postgres", () => {
  const pool = { connect: () => Promise.reject(new Error("not called")) } as unknown as PostgresPool;

  test.each([
    ["without a pool", {}],
    ["with something else for a pool", { pool: "postgres://localhost" }],
    ["with a schema that is no name", { pool, schema: 'a"; drop' }],
    ["with a schema that is too long", { pool, schema: "a".repeat(64) }],
    ["with a schema of the server's own", { pool, schema: "pg_catalog" }],
    ["with a timeout that is no time", { pool, timeout: "soon" }],
  ])("are refused %s", (_, options) => {
    expect(() => postgres(options as never)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  });
});
