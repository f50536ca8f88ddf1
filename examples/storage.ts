/**
 * Where an example keeps its events: in the PostgreSQL that `DATABASE_URL` names, in the JetStream that `NATS_URL` names, or else in a
 * directory.
 */
import { basename, resolve } from "node:path";
import { connect } from "@nats-io/transport-node";
import type { EventStorage } from "eventfold-es";
import { jetStream } from "eventfold-es/jetstream";
import { postgres } from "eventfold-es/postgres";
import pg from "pg";

/** Dispose of it when the stores are closed. */
export interface ExampleStorage extends AsyncDisposable {
  readonly storage: string | EventStorage;
  readonly place: string;
}

/** On a server, each directory's name is that of a schema or a stream. */
export async function storageOf(directory: string): Promise<ExampleStorage> {
  const { DATABASE_URL: database, NATS_URL: nats } = process.env;
  const name = basename(directory).replaceAll(/[^a-z0-9]/gi, "_");
  if (database !== undefined) {
    const pool = new pg.Pool({ connectionString: database });
    const place = `the schema ${name} of the database`;
    return { storage: postgres({ pool, schema: name }), place, [Symbol.asyncDispose]: () => pool.end() };
  }
  if (nats !== undefined) {
    const connection = await connect({ servers: nats.split(","), maxReconnectAttempts: -1 });
    const storage = jetStream({ connection, name, directory: `${resolve(directory)}.replica` });
    return { storage, place: `the stream ${name}`, [Symbol.asyncDispose]: () => connection.close() };
  }
  return { storage: directory, place: resolve(directory), [Symbol.asyncDispose]: () => Promise.resolve() };
}
