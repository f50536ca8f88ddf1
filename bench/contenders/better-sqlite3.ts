import { randomUUID } from "node:crypto";
import {
  type AccountState,
  apply,
  type Bank,
  type BankEvent,
  CONTEXT,
  decideDeposit,
  decideOpen,
  pieces,
  UNOPENED,
} from "./bank.ts";
import { loadPeer } from "./peer.ts";

interface Statement {
  run(...values: unknown[]): unknown;
  all(...values: unknown[]): unknown[];
  iterate(...values: unknown[]): IterableIterator<unknown>;
}

export interface Database {
  pragma(text: string): unknown;
  exec(sql: string): unknown;
  prepare(sql: string): Statement;
  transaction(work: () => void): () => void;
  close(): void;
}

export interface BetterSqlite3 {
  readonly default: new (file: string) => Database;
}

interface Row {
  readonly stream: string;
  readonly type: BankEvent["type"];
  readonly data: string;
}

const SCHEMA = `
  create table if not exists events (
    position integer primary key,
    stream text not null,
    version integer not null,
    type text not null,
    data text not null,
    time integer not null,
    id text not null,
    meta text not null,
    unique (stream, version)
  )`;

/** SQLite without a framework: prepared statements, one transaction per command, states in a map. */
export async function openBetterSqlite3(directory: string): Promise<Bank> {
  const { default: Sqlite } = await loadPeer<BetterSqlite3>("better-sqlite3");
  const database = new Sqlite(`${directory}/events.db`);
  database.pragma("journal_mode = WAL");
  database.pragma("synchronous = FULL");
  database.exec(SCHEMA);
  const insert = database.prepare(
    "insert into events (stream, version, type, data, time, id, meta) values (?, ?, ?, ?, ?, ?, ?)",
  );
  const select = database.prepare("select type, data from events where stream = ? order by version");
  const selectAll = database.prepare("select stream, type, data from events order by position");
  const meta = JSON.stringify(CONTEXT);
  const cached = new Map<string, { state: AccountState; version: number }>();

  const stored = (account: string): { state: AccountState; version: number } => {
    let state = UNOPENED;
    let version = 0;
    for (const row of select.iterate(account) as IterableIterator<Row>) {
      state = apply(state, { type: row.type, data: JSON.parse(row.data) as BankEvent["data"] });
      version++;
    }
    return { state, version };
  };
  const execute = (account: string, decide: (state: AccountState) => BankEvent): AccountState => {
    let entry = cached.get(account);
    if (entry === undefined) cached.set(account, (entry = stored(account)));
    const event = decide(entry.state);
    insert.run(account, entry.version + 1, event.type, JSON.stringify(event.data), Date.now(), randomUUID(), meta);
    entry.state = apply(entry.state, event);
    entry.version++;
    return entry.state;
  };

  return {
    open: async (account) => execute(account, decideOpen),
    deposit: async (account, amount) => execute(account, (state) => decideDeposit(state, amount)),
    load: async (account) => stored(account).state.balance,
    async project() {
      const byAccount: Record<string, number> = {};
      let total = 0;
      for (const { stream, type, data } of selectAll.iterate() as IterableIterator<Row>) {
        const parsed = JSON.parse(data) as { readonly amount: number };
        if (type !== "Deposited") continue;
        byAccount[stream] = (byAccount[stream] ?? 0) + parsed.amount;
        total += parsed.amount;
      }
      return total;
    },
    async fill(accounts, deposits) {
      for (const { from, to } of pieces(deposits + 1, Math.max(1, Math.floor(10_000 / accounts.length)))) {
        database.transaction(() => {
          for (let turn = from; turn < to; turn++) {
            for (const account of accounts)
              execute(account, turn === 0 ? decideOpen : (state) => decideDeposit(state, 1));
          }
        })();
      }
    },
    close: async () => database.close(),
  };
}
