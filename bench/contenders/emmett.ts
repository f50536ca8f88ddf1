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

interface EmmettEvent extends BankEvent {
  readonly metadata?: typeof CONTEXT & { readonly streamName?: string };
}

interface Processor {
  readonly processorId: string;
  readonly eachMessage: (message: EmmettEvent) => void;
  readonly stopAfter: (message: EmmettEvent) => boolean;
}

interface Consumer {
  processor(options: Processor): void;
  start(): Promise<void>;
  close(): Promise<void>;
}

interface EventStore {
  appendToStream(stream: string, events: readonly EmmettEvent[]): Promise<unknown>;
  aggregateStream(
    stream: string,
    options: { readonly evolve: typeof apply; readonly initialState: () => AccountState },
  ): Promise<{ readonly state: AccountState }>;
  consumer(options: object): Consumer;
  close?(): Promise<void>;
}

interface EmmettSqlite {
  getSQLiteEventStore(options: { readonly fileName: string; readonly schema: object }): EventStore;
}

interface Emmett {
  CommandHandler(options: {
    readonly evolve: typeof apply;
    readonly initialState: () => AccountState;
  }): (store: EventStore, stream: string, handle: (state: AccountState) => EmmettEvent) => Promise<unknown>;
}

const EVOLUTION = { evolve: apply, initialState: () => UNOPENED };

/** As its documentation shows; it has no cache of states. */
export async function openEmmett(directory: string): Promise<Bank> {
  const { CommandHandler } = await loadPeer<Emmett>("@event-driven-io/emmett");
  const { getSQLiteEventStore } = await loadPeer<EmmettSqlite>("@event-driven-io/emmett-sqlite");
  const store = getSQLiteEventStore({
    fileName: `${directory}/events.db`,
    schema: { autoMigration: "CreateOrUpdate" },
  });
  const handle = CommandHandler(EVOLUTION);
  const complete = (event: BankEvent): EmmettEvent => ({ ...event, metadata: CONTEXT });
  return {
    open: (account) => handle(store, account, (state) => complete(decideOpen(state))),
    deposit: (account, amount) => handle(store, account, (state) => complete(decideDeposit(state, amount))),
    load: async (account) => (await store.aggregateStream(account, EVOLUTION)).state.balance,
    async project(events) {
      const byAccount: Record<string, number> = {};
      let total = 0;
      let messages = 0;
      const consumer = store.consumer({ pulling: { batchSize: 1000 } });
      consumer.processor({
        processorId: "balances",
        eachMessage({ type, data, metadata }) {
          messages++;
          if (type !== "Deposited") return;
          const { amount } = data as { readonly amount: number };
          const account = metadata?.streamName ?? "";
          byAccount[account] = (byAccount[account] ?? 0) + amount;
          total += amount;
        },
        stopAfter: () => messages >= events,
      });
      await consumer.start();
      await consumer.close();
      return total;
    },
    async fill(accounts, deposits) {
      const event = complete({ type: "Deposited", data: { amount: 1 } });
      for (const account of accounts) {
        await store.appendToStream(account, [complete({ type: "Opened", data: { owner: "Ada" } })]);
        // One append is one statement, whose variables are limited.
        for (const { from, to } of pieces(deposits, 1000))
          await store.appendToStream(account, Array<EmmettEvent>(to - from).fill(event));
      }
    },
    close: async () => store.close?.(),
  };
}
