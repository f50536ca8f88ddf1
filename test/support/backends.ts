import { AggregateStore, type AggregateStoreBuilder, memory } from "eventfold-es";
import { jetStream } from "eventfold-es/jetstream";
import { postgres } from "eventfold-es/postgres";
import { temporaryDirectory } from "./temporary-directory.ts";

interface Backend {
  readonly backend: string;
  readonly builder: () => AggregateStoreBuilder;
}

/**
 * The storages of a store, for `describe.each`. Servers take a while to start: PostgreSQL is left out unless `CI` or `PG_URL` is set, and
 * JetStream unless `CI` or `NATS_SERVER` is.
 */
export const backends: readonly Backend[] = [
  { backend: "on disk", builder: () => AggregateStore.builder(temporaryDirectory()) },
  { backend: "in memory", builder: () => AggregateStore.builder(memory()) },
  ...(isWanted("PG_URL") ? [await inPostgres()] : []),
  ...(isWanted("NATS_SERVER") ? [await inJetStream()] : []),
];

function isWanted(variable: string): boolean {
  return process.env["CI"] !== undefined || process.env[variable] !== undefined;
}

async function inPostgres(): Promise<Backend> {
  const { requirePostgres } = await import("./postgres.ts");
  const { pool, schema } = requirePostgres();
  const shared = pool({ max: 20 });
  return {
    backend: "in PostgreSQL",
    builder: () => AggregateStore.builder(postgres({ pool: shared, schema: schema(), timeout: "10m" })),
  };
}

async function inJetStream(): Promise<Backend> {
  const { requireNats } = await import("./nats.ts");
  const { connect, name } = requireNats();
  const connection = await connect();
  return {
    backend: "in JetStream",
    builder: () =>
      AggregateStore.builder(jetStream({ connection, name: name(), directory: temporaryDirectory(), timeout: "10m" })),
  };
}
