import { type Duration, milliseconds } from "../duration.ts";
import { EventfoldError } from "../errors.ts";
import type { EventStorage } from "../event-store/event-storage.ts";
import type { PostgresPool } from "./connection/postgres-pool.ts";
import { PostgresEventStore } from "./postgres-event-store.ts";
import { quotedSchema } from "./schema/schema-name.ts";

const DEFAULT_SCHEMA = "eventfold";
const DEFAULT_TIMEOUT_MS = 10_000;

export interface PostgresOptions {
  /**
   * A pool of the package `pg`, or of one with the same methods. It stays yours: end it after the store is closed. A store keeps one
   * of its connections to hear of other processes' commits, if the pool has at least one more for each store that does.
   */
  readonly pool: PostgresPool;
  /** The schema that holds the store, made when missing; `"eventfold"` if left out. Each store of a database has its own. */
  readonly schema?: string;
  /**
   * How long commands and reads wait for a server that does not answer: milliseconds or `"30s"`; 10 seconds if left out. After that they
   * fail with `STORE_UNAVAILABLE` or `COMMIT_UNKNOWN`.
   */
  readonly timeout?: number | Duration;
  /**
   * Whether to listen for other processes' commits (default). With `false`, or through a pooler that shares connections for single
   * transactions, the store looks for them five times a second.
   */
  readonly listen?: boolean;
}

/**
 * A storage that keeps events in a schema of a PostgreSQL database (12 or newer, encoding UTF8), for `AggregateStore.builder` and
 * `AggregateStore.open`. Several processes may use one schema. With `.durability("os")` the server answers before it flushes.
 * Throws `INVALID_ARGUMENT` for options that it cannot use.
 */
export function postgres(options: PostgresOptions): EventStorage {
  const { pool, schema = DEFAULT_SCHEMA, timeout = DEFAULT_TIMEOUT_MS, listen = true } = options;
  if (typeof (pool as Partial<PostgresPool> | undefined)?.connect !== "function")
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      "postgres({ pool }) expected a connection pool, such as new Pool() of the package pg; found none",
    );
  quotedSchema(schema);
  const patience = milliseconds(timeout, "timeout");
  return {
    name: `postgres(${JSON.stringify(schema)})`,
    open: ({ durability }) => PostgresEventStore.open({ pool, schema, durability, patience, listens: listen }),
  };
}
