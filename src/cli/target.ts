import type { AggregateStore, AggregateStoreBuilder, AnyAggregate, AnyProjection, EventStorage } from "eventfold-es";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { connect as NatsConnect } from "@nats-io/transport-node";
import type { Pool } from "pg";
import { loadModel, type Model } from "./model.ts";
import { UsageError } from "./exit-codes.ts";

type Store = AggregateStore<AnyAggregate, AnyProjection>;

export interface OpenOptions {
  /** The module with the program's definitions. */
  readonly app?: string | undefined;
  /** Whether the command writes. Otherwise the store is opened read-only. */
  readonly writes?: boolean;
  /** Whether a writing command may make a new store. */
  readonly mayBeNew?: boolean;
}

export interface OpenedStore {
  readonly store: Store;
  readonly model: Model;
}

const IS_POSTGRES = /^postgres(ql)?:\/\//;
const IS_NATS = /^(nats|tls):\/\//;

/** Opens a store, calls `work`, and closes the store. */
export async function withStore<T>(
  target: string,
  { app, writes = false, mayBeNew = false }: OpenOptions,
  work: (opened: OpenedStore) => Promise<T>,
): Promise<T> {
  const model = await loadModel(app);
  // Not at the start: `--help` and completion are quicker without the library.
  const { AggregateStore } = await import("eventfold-es");
  if (IS_POSTGRES.test(target))
    return withPostgres(target, (storage) => run(AggregateStore.builder(storage), model, work));
  const opened = (storage: string | EventStorage): AggregateStoreBuilder =>
    writes ? AggregateStore.builder(storage) : AggregateStore.builder(storage).readOnly();
  if (IS_NATS.test(target)) return withJetStream(target, (storage) => run(opened(storage), model, work));
  if (!mayBeNew) checkDirectory(target);
  return run(opened(target), model, work);
}

/** Throws for a path that is no store: opening it for writing would make one there. */
export function checkDirectory(path: string): void {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) throw new Error(`expected a store at ${path}, found nothing there`);
  if (!found.isDirectory()) throw new Error(`expected the directory of a store at ${path}, found a file`);
  const has = (name: string): boolean => statSync(`${path}/${name}`, { throwIfNoEntry: false }) !== undefined;
  if (!has("commit_log") && !has("streams"))
    throw new Error(`expected a store at ${path}, found a directory without commit_log/ and streams/`);
}

async function run<T>(
  builder: AggregateStoreBuilder,
  model: Model,
  work: (opened: OpenedStore) => Promise<T>,
): Promise<T> {
  let wired = builder as unknown as AggregateStoreBuilder<AnyAggregate, never>;
  for (const aggregate of model.aggregates) wired = wired.aggregate(aggregate);
  for (const projection of model.projections) wired = wired.projection(projection as never);
  for (const manager of model.processManagers) wired = wired.processManager(manager as never);
  // The app runs its process managers, not a tool beside it.
  const store = (await wired.processManagerMode("manual").open()) as unknown as Store;
  try {
    return await work({ store, model });
  } finally {
    await store.close();
  }
}

async function withPostgres<T>(url: string, work: (storage: EventStorage) => Promise<T>): Promise<T> {
  const { default: pg } = await clientOf<{ readonly default: { readonly Pool: typeof Pool } }>("pg", "PostgreSQL");
  const pool = new pg.Pool({ connectionString: url });
  try {
    const { postgres } = await import("eventfold-es/postgres");
    return await work(postgres({ pool }));
  } finally {
    await pool.end();
  }
}

/** The path of the URL is the store's name. The replica lasts as long as the command. */
async function withJetStream<T>(url: string, work: (storage: EventStorage) => Promise<T>): Promise<T> {
  const server = new URL(url);
  const name = decodeURIComponent(server.pathname.slice(1));
  if (name === "") throw new UsageError(`expected the name of a store in ${url}, as in nats://localhost:4222/bank`);
  const { connect } = await clientOf<{ readonly connect: typeof NatsConnect }>("@nats-io/transport-node", "JetStream");
  const user = server.username === "" ? {} : { user: decodeURIComponent(server.username) };
  const pass = server.password === "" ? {} : { pass: decodeURIComponent(server.password) };
  const servers = `${server.protocol}//${server.host}`;
  const connection = await connect({ servers, ...user, ...pass, ...(server.protocol === "tls:" ? { tls: {} } : {}) });
  const directory = mkdtempSync(join(tmpdir(), "eventfold-replica-"));
  try {
    const { jetStream } = await import("eventfold-es/jetstream");
    return await work(jetStream({ connection, name, directory }));
  } finally {
    await connection.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

/** The client library of the project in which the command was called. */
async function clientOf<T>(name: string, storage: string): Promise<T> {
  try {
    const path = createRequire(`${process.cwd()}/`).resolve(name);
    return (await import(pathToFileURL(path).href)) as T;
  } catch (error) {
    throw new UsageError(
      `a store in ${storage} needs the package ${name}: run \`npm install ${name}\` in this directory`,
      { cause: error },
    );
  }
}
