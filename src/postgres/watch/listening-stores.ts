import type { PostgresPool } from "../connection/postgres-pool.ts";

/** How many stores keep a connection of a pool to listen on. */
const listening = new WeakMap<PostgresPool, number>();

/** Takes note of a store that keeps a connection. False, and nothing noted, if that would leave none for its queries. */
export function mayListen(pool: PostgresPool): boolean {
  const count = listening.get(pool) ?? 0;
  if (count + 1 >= (pool.options?.max ?? Infinity)) return false;
  listening.set(pool, count + 1);
  return true;
}

export function endedListening(pool: PostgresPool): void {
  listening.set(pool, (listening.get(pool) ?? 1) - 1);
}
