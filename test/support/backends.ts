import { AggregateStore, type AggregateStoreBuilder, memory } from "eventfold-es";
import { postgres } from "eventfold-es/postgres";
import { temporaryDirectory } from "./temporary-directory.ts";

interface Backend {
  readonly backend: string;
  readonly builder: () => AggregateStoreBuilder;
}

/** The storages of a store, for `describe.each`. PostgreSQL takes a while to start and is left out unless `CI` or `PG_URL` is set. */
export const backends: readonly Backend[] = [
  { backend: "on disk", builder: () => AggregateStore.builder(temporaryDirectory()) },
  { backend: "in memory", builder: () => AggregateStore.builder(memory()) },
  ...(process.env["CI"] === undefined && process.env["PG_URL"] === undefined ? [] : [await inPostgres()]),
];

async function inPostgres(): Promise<Backend> {
  const { requirePostgres } = await import("./postgres.ts");
  const { pool, schema } = requirePostgres();
  const shared = pool({ max: 20 });
  return {
    backend: "in PostgreSQL",
    builder: () => AggregateStore.builder(postgres({ pool: shared, schema: schema(), timeout: "10m" })),
  };
}
