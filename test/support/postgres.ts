import pg from "pg";
import { afterAll, describe, inject, test } from "vitest";
import { pause } from "./until.ts";
import { installedBinaries, sharedPostgres } from "./postgres-server.ts";

/** A database for the tests of one file. */
export interface TestPostgres {
  readonly url: string;
  /** A pool that is ended when the file is done. */
  readonly pool: (options?: pg.PoolConfig) => pg.Pool;
  /** The name of a schema that does not exist yet; it is dropped when the file is done. */
  readonly schema: () => string;
}

const found = await sharedPostgres(inject("servers")).then(
  (url) => ({ url }),
  (error: unknown) => ({ missing: error instanceof Error ? error.message : String(error) }),
);

/** Tests that need PostgreSQL. Without one they are skipped, but fail where `CI` is set. */
export function describePostgres(name: string, tests: (postgres: TestPostgres) => void): void {
  if ("url" in found) describe(name, () => tests(testPostgres(found.url)));
  else withoutPostgres(name, found.missing);
}

/** For a file whose tests run on PostgreSQL too. Throws where there is none. */
export function requirePostgres(): TestPostgres {
  if ("missing" in found) throw new Error(`there must be a PostgreSQL: ${found.missing}`);
  return testPostgres(found.url);
}

/** Tests that start servers of their own, which they may kill. */
export function describePrivatePostgres(name: string, tests: () => void): void {
  if (installedBinaries() !== undefined) describe(name, tests);
  else withoutPostgres(name, "its binaries are not installed here");
}

function withoutPostgres(name: string, why: string): void {
  if (process.env["CI"] === undefined) describe.skip(`${name} (no PostgreSQL: ${why})`, () => test("skipped"));
  else
    test(name, () => {
      throw new Error(`there must be a PostgreSQL where CI is set: ${why}`);
    });
}

function testPostgres(url: string): TestPostgres {
  const pools: pg.Pool[] = [];
  const schemas: string[] = [];
  const pool = (options: pg.PoolConfig = {}): pg.Pool => {
    const made = new pg.Pool({ connectionString: url, max: 5, ...options });
    made.on("error", () => {});
    pools.push(made);
    return made;
  };
  afterAll(async () => {
    // A store that a failed test has left open keeps a connection.
    await Promise.race([Promise.all(pools.map((each) => each.end())), pause(2000)]);
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    for (const schema of schemas) await client.query(`drop schema if exists "${schema}" cascade`);
    await client.end();
  });
  return {
    url,
    pool,
    schema: () => {
      const name = `test_${process.pid}_${Math.random().toString(36).slice(2)}`;
      schemas.push(name);
      return name;
    },
  };
}
