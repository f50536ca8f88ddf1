import type { EventStorage } from "eventfold-es";
import { jetStream } from "eventfold-es/jetstream";
import { postgres } from "eventfold-es/postgres";
import { onTestFinished } from "vitest";
import { LossyProxy } from "./lossy-proxy.ts";
import { describeNats, type TestNats } from "./nats.ts";
import { describePostgres, type TestPostgres } from "./postgres.ts";
import { temporaryDirectory } from "./temporary-directory.ts";

/** Storages on a server, for tests that are the same for all of them. */
export interface ServerStorage {
  readonly name: string;
  /** A new storage. Every store that is opened on it has the same events. */
  readonly storage: () => Promise<EventStorage>;
  /** A new storage that reaches its server through a proxy. */
  readonly throughProxy: (timeout: "30s" | "300ms") => Promise<{ storage: EventStorage; proxy: LossyProxy }>;
  /** The lines of a program that make a new storage, an expression for it, and the program's last lines. */
  readonly program: () => { readonly imports: string; readonly storage: string; readonly end: string };
}

/** Registers tests for the storages in PostgreSQL and in JetStream. */
export function describeServers(name: string, tests: (server: ServerStorage) => void): void {
  describePostgres(`${name}: PostgreSQL`, (server) => tests(inPostgres(server)));
  describeNats(`${name}: JetStream`, (server) => tests(inJetStream(server)));
}

function inPostgres({ pool, schema, url }: TestPostgres): ServerStorage {
  return {
    name: "PostgreSQL",
    storage: async () => postgres({ pool: pool({ max: 10 }), schema: schema() }),
    throughProxy: async (timeout) => {
      const proxy = await startProxy(url);
      const storage = postgres({ pool: pool({ connectionString: proxy.url }), schema: schema(), timeout });
      return { proxy, storage };
    },
    program: () => ({
      imports: 'import pg from "pg";\nimport { postgres } from "eventfold-es/postgres";\n',
      storage: `postgres({ pool: new pg.Pool({ connectionString: "${url}", allowExitOnIdle: true }), schema: "${schema()}" })`,
      end: "",
    }),
  };
}

function inJetStream({ connect, name, urls }: TestNats): ServerStorage {
  return {
    name: "JetStream",
    storage: async () => jetStream({ connection: await connect(), name: name(), directory: temporaryDirectory() }),
    throughProxy: async (timeout) => {
      const proxy = await startProxy(urls[0] ?? "");
      const connection = await connect({ servers: [proxy.url], ignoreClusterUpdates: true });
      return { proxy, storage: jetStream({ connection, name: name(), directory: temporaryDirectory(), timeout }) };
    },
    program: () => ({
      imports:
        'import { connect } from "@nats-io/transport-node";\nimport { jetStream } from "eventfold-es/jetstream";\n' +
        `const connection = await connect({ servers: ${JSON.stringify(urls)} });\n`,
      storage: `jetStream({ connection, name: "${name()}" })`,
      end: "await connection.close();\n",
    }),
  };
}

async function startProxy(url: string): Promise<LossyProxy> {
  const proxy = await LossyProxy.start(url);
  onTestFinished(async () => {
    proxy.up();
    await proxy.stop();
  });
  return proxy;
}
