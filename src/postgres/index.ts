export { postgres, type PostgresOptions } from "./postgres.ts";
export type { PostgresClient, PostgresPool, PostgresQuery } from "./connection/postgres-pool.ts";
