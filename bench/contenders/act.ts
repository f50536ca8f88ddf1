import { type AccountState, type Bank, CONTEXT, pieces } from "./bank.ts";
import { loadPeer } from "./peer.ts";

interface Stored {
  readonly stream: string;
  readonly name: string;
  readonly data: { readonly amount: number };
}

interface Store {
  seed(): Promise<void>;
  commit(stream: string, events: readonly object[], meta: object): Promise<unknown>;
  dispose(): Promise<void>;
}

interface App {
  do(action: string, target: object, payload: object): Promise<unknown>;
  load(state: unknown, stream: string): Promise<{ readonly state: AccountState }>;
  query(filter: object, callback: (event: Stored) => void): Promise<unknown>;
}

interface StateBuilder {
  init(initial: () => AccountState): StateBuilder;
  emits(events: object): StateBuilder;
  patch(patches: object): StateBuilder;
  on(action: object): StateBuilder;
  given(invariants: readonly object[]): StateBuilder;
  emit(emit: (action: object) => readonly [string, object]): StateBuilder;
  build(): unknown;
}

interface AppBuilder {
  withState(state: unknown): AppBuilder;
  build(): App;
}

interface Act {
  act(): AppBuilder;
  state(entry: object): StateBuilder;
  store(adapter?: Store): Store;
}

interface ActSqlite {
  readonly SqliteStore: new (options: { readonly url: string }) => Store;
}

interface Zod {
  readonly z: {
    object(shape: object): object;
    number(): object;
    boolean(): object;
    string(): object;
  };
}

/** As its documentation shows; its cache of states is on by default. Needs Node.js 22. */
export async function openAct(directory: string): Promise<Bank> {
  // Outside of production it writes two lines for each command.
  process.env["LOG_LEVEL"] = "fatal";
  const { act, state, store } = await loadPeer<Act>("@rotorsoft/act");
  const { SqliteStore } = await loadPeer<ActSqlite>("@rotorsoft/act-sqlite");
  const { z } = await loadPeer<Zod>("zod");
  const isOpen = { description: "the account is open", valid: (account: AccountState) => account.open };
  const Account = state({ Account: z.object({ open: z.boolean(), balance: z.number() }) })
    .init(() => ({ open: false, balance: 0 }))
    .emits({ Opened: z.object({ owner: z.string() }), Deposited: z.object({ amount: z.number() }) })
    .patch({
      Opened: () => ({ open: true }),
      Deposited: ({ data }: Stored, account: AccountState) => ({ balance: account.balance + data.amount }),
    })
    .on({ Open: z.object({ owner: z.string() }) })
    .emit((action) => ["Opened", action])
    .on({ Deposit: z.object({ amount: z.number() }) })
    .given([isOpen])
    .emit((action) => ["Deposited", action])
    .build();
  const events = store(new SqliteStore({ url: `file:${directory}/events.db` }));
  await events.seed();
  const app = act().withState(Account).build();
  const target = (stream: string): object => ({ stream, actor: { id: CONTEXT.actor, name: "Ada" } });
  return {
    open: (account) => app.do("Open", target(account), { owner: "Ada" }),
    deposit: (account, amount) => app.do("Deposit", target(account), { amount }),
    load: async (account) => (await app.load(Account, account)).state.balance,
    async project() {
      const byAccount: Record<string, number> = {};
      let total = 0;
      await app.query({}, ({ stream, name, data }) => {
        if (name !== "Deposited") return;
        byAccount[stream] = (byAccount[stream] ?? 0) + data.amount;
        total += data.amount;
      });
      return total;
    },
    async fill(accounts, deposits) {
      const meta = { correlation: CONTEXT.correlationId, causation: {} };
      for (const account of accounts) {
        await events.commit(account, [{ name: "Opened", data: { owner: "Ada" } }], meta);
        for (const { from, to } of pieces(deposits, 100)) {
          const many = Array.from({ length: to - from }, () => ({ name: "Deposited", data: { amount: 1 } }));
          await events.commit(account, many, meta);
        }
      }
    },
    close: () => events.dispose(),
  };
}
