import { eventStoreContract, type EventStore } from "eventfold-es/testing";
import { test } from "vitest";
// The store has no public name of its own: users get it through AggregateStore.
import { PostgresEventStore } from "../../src/postgres/postgres-event-store.ts";
import { describePostgres } from "../support/postgres.ts";

for (const durability of ["flush", "os"] as const) {
  describePostgres(`the store in PostgreSQL, durability ${durability}`, (postgres) => {
    const pool = postgres.pool();
    const schemas = new WeakMap<EventStore, string>();
    const open = async (schema: string): Promise<EventStore> => {
      const store = await PostgresEventStore.open({ pool, schema, durability, patience: 10_000, listens: true });
      schemas.set(store, schema);
      return store;
    };
    eventStoreContract({
      test,
      create: () => open(postgres.schema()),
      reopen: (store) => open(schemas.get(store) ?? "this store was not made here"),
      capabilities: { durable: durability === "flush", multiProcess: true },
    });
  });
}
