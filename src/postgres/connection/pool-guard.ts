import type { PostgresClient, PostgresPool } from "./postgres-pool.ts";

interface Guard {
  stores: number;
  readonly release: () => void;
}

const guards = new WeakMap<PostgresPool, Guard>();

/**
 * Keeps errors of a pool's connections from ending the process while a store uses it. An idle connection reports its error to the pool.
 * One that was just made can report it before the caller of `connect` has had a chance to listen: the server's welcome and its
 * farewell may arrive in one piece. Each error also makes a query or `connect` fail, so nothing is hidden.
 */
export function guardPool(pool: PostgresPool): void {
  let guard = guards.get(pool);
  if (guard === undefined) {
    const ignore = (): void => {};
    const onConnect = (client: PostgresClient): void => void client.on("error", ignore);
    pool.on("error", ignore);
    pool.on("connect", onConnect);
    const release = (): void => {
      pool.removeListener("error", ignore);
      pool.removeListener("connect", onConnect);
    };
    guards.set(pool, (guard = { stores: 0, release }));
  }
  guard.stores++;
}

export function releasePool(pool: PostgresPool): void {
  const guard = guards.get(pool);
  if (guard === undefined || --guard.stores > 0) return;
  guards.delete(pool);
  guard.release();
}
