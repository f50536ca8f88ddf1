import {
  type AccountState,
  type Bank,
  type BankEvent,
  CONTEXT,
  decideDeposit,
  decideOpen,
  pieces,
  UNOPENED,
} from "./bank.ts";
import type { BetterSqlite3 } from "./better-sqlite3.ts";
import { loadPeer } from "./peer.ts";

interface Client {
  raw(sql: string): Promise<unknown>;
  (table: string): unknown;
  destroy(): Promise<void>;
}

interface Knex {
  default(options: object): Client;
}

interface KnexProvider {
  createProvider(options: object): unknown;
  migrate(options: object): Promise<void>;
}

interface Command {
  (account: string, body: { readonly amount: number; readonly context: typeof CONTEXT }): Promise<unknown>;
}

interface Handler {
  handle(
    stream: "account",
    type: string,
    callback: (id: string, event: { readonly amount: number }) => Promise<void>,
  ): void;
  runOnce(): Promise<number>;
}

interface Evtstore {
  createAggregate(options: object): unknown;
  createDomain(
    options: object,
    aggregates: object,
  ): {
    readonly domain: { readonly account: { getAggregate(id: string): Promise<AccountState> } };
    createHandler(bookmark: unknown, streams: readonly ["account"], options?: object): Handler;
  };
  createCommands(domain: unknown, handlers: object): { readonly Open: Command; readonly Deposit: Command };
  readonly MemoryBookmark: unknown;
}

/** With better-sqlite3, as its documentation shows, and with its fast options: WAL, cached aggregates, a bookmark in memory. */
export async function openEvtstore(directory: string): Promise<Bank> {
  const file = `${directory}/events.db`;
  const { createAggregate, createCommands, createDomain, MemoryBookmark } = await loadPeer<Evtstore>("evtstore");
  const { createProvider, migrate } = await loadPeer<KnexProvider>("evtstore/provider/knex.js");
  const { default: knex } = await loadPeer<Knex>("knex");
  const client = knex({ client: "better-sqlite3", connection: { filename: file }, useNullAsDefault: true });
  await client.raw("pragma journal_mode = WAL");
  await client.raw("pragma synchronous = FULL");
  await migrate({ client, events: "events", bookmarks: "bookmarks" });
  const provider = createProvider({
    limit: 1000,
    events: () => client("events"),
    bookmarks: () => client("bookmarks"),
  });
  const account = createAggregate({
    stream: "account",
    create: () => ({ ...UNOPENED }),
    fold: (event: { readonly type: BankEvent["type"]; readonly amount: number }, state: AccountState) =>
      event.type === "Opened" ? { open: true } : { balance: state.balance + event.amount },
  });
  const { domain, createHandler } = createDomain({ provider, useCache: true }, { account });
  const stored = ({ type, data }: BankEvent, context: unknown): object => ({ type, ...data, context });
  const commands = createCommands(domain.account, {
    Open: async ({ context }: { readonly context: unknown }, state: AccountState) => stored(decideOpen(state), context),
    Deposit: async ({ amount, context }: { readonly amount: number; readonly context: unknown }, state: AccountState) =>
      stored(decideDeposit(state, amount), context),
  });

  return {
    open: (id) => commands.Open(id, { amount: 0, context: CONTEXT }),
    deposit: (id, amount) => commands.Deposit(id, { amount, context: CONTEXT }),
    load: async (id) => (await domain.account.getAggregate(id)).balance,
    async project() {
      const byAccount: Record<string, number> = {};
      let total = 0;
      const handler = createHandler(MemoryBookmark, ["account"]);
      handler.handle("account", "Deposited", async (id, { amount }) => {
        byAccount[id] = (byAccount[id] ?? 0) + amount;
        total += amount;
      });
      await handler.runOnce();
      return total;
    },
    async fill(accounts, deposits) {
      // Writes the library's rows directly: the library would take a transaction for each.
      const { default: Sqlite } = await loadPeer<BetterSqlite3>("better-sqlite3");
      const database = new Sqlite(file);
      const insert = database.prepare(
        "insert into events (stream, aggregate_id, event, version, timestamp) values ('account', ?, ?, ?, ?)",
      );
      const event = (turn: number): string =>
        JSON.stringify(
          stored(
            turn === 0 ? { type: "Opened", data: { owner: "Ada" } } : { type: "Deposited", data: { amount: 1 } },
            CONTEXT,
          ),
        );
      for (const { from, to } of pieces(deposits + 1, Math.max(1, Math.floor(10_000 / accounts.length)))) {
        database.transaction(() => {
          for (let turn = from; turn < to; turn++)
            for (const id of accounts) insert.run(id, event(turn), turn + 1, Date.now());
        })();
      }
      database.close();
    },
    close: () => client.destroy(),
  };
}
