import { connect } from "@nats-io/transport-node";
import pg from "pg";
import { isEventfoldError } from "../../src/errors.ts";
import type { EventStore } from "../../src/event-store/event-store.ts";
import { JetStreamEventStore } from "../../src/jetstream/jetstream-event-store.ts";
import { PostgresEventStore } from "../../src/postgres/postgres-event-store.ts";

/** Where a soak's processes find their store, as JSON. */
export type SoakBackend =
  | { readonly kind: "postgres"; readonly url: string; readonly schema: string }
  | { readonly kind: "jetstream"; readonly urls: string[]; readonly name: string; readonly directory: string };

interface OpenedSoakStore {
  readonly store: EventStore;
  /** Closes the store and its connection. */
  readonly end: () => Promise<void>;
}

/** Opens the store. The server may be away for longer than an impatient process waits. */
export async function openSoakStore(backend: SoakBackend, patience: number): Promise<OpenedSoakStore> {
  const { open, disconnect } = await connected(backend, patience);
  for (;;) {
    try {
      const store = await open();
      const end = async (): Promise<void> => {
        await store.close();
        await disconnect();
      };
      return { store, end };
    } catch (error) {
      if (!isEventfoldError(error, "STORE_UNAVAILABLE")) throw error;
    }
  }
}

async function connected(backend: SoakBackend, patience: number) {
  if (backend.kind === "postgres") {
    const { url, schema } = backend;
    const pool = new pg.Pool({ connectionString: url, max: 4 });
    const open = (): Promise<EventStore> =>
      PostgresEventStore.open({ pool, schema, durability: "flush", patience, listens: true });
    return { open, disconnect: () => pool.end() };
  }
  const { urls, name, directory } = backend;
  const options = { reconnectTimeWait: 50, reconnectJitter: 20, timeout: 1000, maxReconnectAttempts: -1 };
  const connection = await connect({ servers: urls, waitOnFirstConnect: true, ...options });
  const open = (): Promise<EventStore> => JetStreamEventStore.open({ connection, name, directory, patience });
  return { open, disconnect: () => connection.close() };
}
