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

type Key = readonly [account: string, version: number];

interface StoredEvent extends BankEvent {
  readonly time: number;
  readonly id: string;
  readonly meta: typeof CONTEXT;
}

interface Database {
  put(key: Key, value: StoredEvent): Promise<boolean>;
  getRange(options: {
    readonly start?: Key;
    readonly end?: Key;
  }): Iterable<{ readonly key: Key; readonly value: StoredEvent }>;
  close(): Promise<void>;
}

interface Lmdb {
  open(options: { readonly path: string; readonly overlappingSync: boolean; readonly encoding: "json" }): Database;
}

/**
 * One key for each event, by account and version; it has no order over all accounts, which would cost it a second key. lmdb
 * makes one transaction of all that was put in one turn of the event loop. Without `overlappingSync` a put resolves when it is durable.
 */
export async function openLmdb(directory: string): Promise<Bank> {
  const { open } = await loadPeer<Lmdb>("lmdb");
  const database = open({ path: `${directory}/events`, overlappingSync: false, encoding: "json" });
  const cached = new Map<string, { state: AccountState; version: number }>();

  const stored = (account: string): { state: AccountState; version: number } => {
    let state = UNOPENED;
    let version = 0;
    for (const { value } of database.getRange({ start: [account, 0], end: [account, Infinity] })) {
      state = apply(state, value);
      version++;
    }
    return { state, version };
  };
  const execute = async (account: string, decide: (state: AccountState) => BankEvent): Promise<AccountState> => {
    let entry = cached.get(account);
    if (entry === undefined) cached.set(account, (entry = stored(account)));
    const event = decide(entry.state);
    entry.state = apply(entry.state, event);
    const { state } = entry;
    await database.put([account, ++entry.version], { ...event, time: Date.now(), id: randomUUID(), meta: CONTEXT });
    return state;
  };

  return {
    open: (account) => execute(account, decideOpen),
    deposit: (account, amount) => execute(account, (state) => decideDeposit(state, amount)),
    load: async (account) => stored(account).state.balance,
    async project() {
      const byAccount: Record<string, number> = {};
      let total = 0;
      for (const { key, value } of database.getRange({})) {
        if (value.type !== "Deposited") continue;
        const { amount } = value.data as { readonly amount: number };
        byAccount[key[0]] = (byAccount[key[0]] ?? 0) + amount;
        total += amount;
      }
      return total;
    },
    async fill(accounts, deposits) {
      for (const { from, to } of pieces(deposits + 1, Math.max(1, Math.floor(10_000 / accounts.length)))) {
        const written: Promise<unknown>[] = [];
        for (let turn = from; turn < to; turn++) {
          for (const account of accounts)
            written.push(execute(account, turn === 0 ? decideOpen : (state) => decideDeposit(state, 1)));
        }
        await Promise.all(written);
      }
    },
    close: () => database.close(),
  };
}
