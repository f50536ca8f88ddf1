import { Account, AggregateStore, balances, memory } from "../eventfold.ts";
import { type Bank, CONTEXT, pieces } from "./bank.ts";

/** Commands that are under way at once while a store is filled. */
const FILL_AT_ONCE = 2000;

export type Where =
  | { readonly directory: string; readonly durability: "flush" | "os" }
  /** Not on disk at all. */
  | "memory";

const Balances = balances();

export async function openOurs(
  where: Where,
  { ids, context = CONTEXT }: { readonly ids?: () => string; readonly context?: Partial<typeof CONTEXT> } = {},
): Promise<Bank> {
  const builder =
    where === "memory"
      ? AggregateStore.builder(memory())
      : AggregateStore.builder(where.directory).durability(where.durability);
  const identified = ids === undefined ? builder : builder.ids(ids);
  const store = await identified.aggregate(Account).projection(Balances).idleTimeout(Infinity).open();
  const handles = new Map<string, ReturnType<typeof store.get<typeof Account>>>();
  const handle = (id: string): ReturnType<typeof store.get<typeof Account>> => {
    let known = handles.get(id);
    if (known === undefined) handles.set(id, (known = store.get(Account, id)));
    return known;
  };
  return {
    open: (id) => handle(id).execute({ type: "Open", data: { owner: "Ada" } }, context),
    deposit: (id, amount) => handle(id).execute({ type: "Deposit", data: { amount } }, context),
    load: async (id) => (await handle(id).state()).balance,
    project: async () => (await store.projection(Balances)).total,
    rebuild: () => store.rebuildProjection(Balances),
    async fill(accounts, deposits, together) {
      const all = async (work: (id: string) => Promise<unknown>): Promise<void> => {
        for (const { from, to } of pieces(accounts.length, FILL_AT_ONCE))
          await Promise.all(accounts.slice(from, to).map(work));
      };
      await all((id) => handle(id).execute({ type: "Open", data: { owner: "Ada" } }, context));
      // A single account is filled by large commands: one after the other would take a flush each.
      const times = together ?? (accounts.length < 100 ? 1000 : 1);
      for (let done = 0; done < deposits; done += times) {
        const many = { amount: 1, times: Math.min(times, deposits - done) };
        await all((id) => handle(id).execute({ type: "DepositMany", data: many }, context));
      }
    },
    close: () => store.close(),
  };
}
