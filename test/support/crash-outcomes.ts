import { isDeepStrictEqual } from "node:util";
import { AggregateStore, type RecordedEvent } from "eventfold-es";
import {
  checkEvents,
  checkStoreFiles,
  type CrashRemains,
  type CrashScenario,
  type CrashWorld,
  type FileSystem,
  nameOf,
} from "eventfold-es/testing";
import { Account } from "./account.ts";
import { nextEventId } from "./crash-stores.ts";
import { killAfter } from "./kill-after.ts";

function openStore(fileSystem: FileSystem) {
  return AggregateStore.builder("/store")
    .aggregate(Account)
    .fileSystem(fileSystem)
    .clock(() => 1_700_000_000_000)
    .ids(nextEventId)
    .open();
}

type Store = Awaited<ReturnType<typeof openStore>>;
export type OutcomesScenario = CrashScenario<Store>;
type World = CrashWorld<Store>;

/** A command that was answered, with its answer. */
interface Answered {
  readonly send: (store: Store) => Promise<unknown>;
  readonly answer: unknown;
}

const { Open, Deposit, Withdraw } = Account.commands;

/** Sends a command of ada's with a key, whose outcome is to be remembered. It leads to one event, or to one outcome that is kept. */
function send(world: World, key: string, command: ReturnType<typeof Open | typeof Withdraw>, store = world.store) {
  return world.commit(async ({ correlationId }): Promise<Answered> => {
    const again = (where: Store): Promise<unknown> =>
      where.get(Account, "ada").try(command, { correlationId, idempotencyKey: key, remember: "all" });
    return { send: again, answer: await again(store) };
  });
}

/** The same for a list of commands. The first gives bob an event unless the second is rejected, whose outcome is kept then. */
function sendAll(world: World, key: string, amount: number) {
  return world.commit(async ({ correlationId }): Promise<Answered> => {
    const again = async (where: Store): Promise<unknown> => {
      const list = [Account.at("bob").Deposit({ amount: 1 }), Account.at("ada").Withdraw({ amount })];
      const options = { correlationId, idempotencyKey: key, remember: "all" } as const;
      const sent = where.dispatchAll(list, options);
      return sent.then(
        ({ results }) => results,
        (error: unknown) => String(error),
      );
    };
    return { send: again, answer: await again(world.store) };
  });
}

/** Every command that was answered has the same answer when it is sent again, and that writes nothing. */
async function check({ disk, store, commits }: CrashRemains<Store>): Promise<string[]> {
  const before = await store.head();
  for (const { id, outcome, result } of commits) {
    if (outcome !== "acknowledged" || typeof result !== "object" || result === null || !("send" in result)) continue;
    const answered = result as Answered;
    const again = await answered.send(store);
    if (!isDeepStrictEqual(again, answered.answer))
      throw new Error(`expected the answer ${shown(answered.answer)} to ${id}, found ${shown(again)}`);
  }
  if ((await store.head()) !== before) throw new Error(`expected head ${before}, found ${await store.head()}`);
  const events: RecordedEvent[] = [];
  for await (const event of store.events({ aggregates: ["account", "$outcomes.account"] })) events.push(event);
  checkEvents(events, commits);
  checkStoreFiles(disk, "/store", events);
  return events.map(nameOf);
}

const shown = (value: unknown): string => JSON.stringify(value);

function deposit(world: World, id: string, amount: number, store = world.store): Promise<unknown> {
  return world.commit((context) => store.get(Account, id).execute(Deposit({ amount }), context));
}

/** Commands that are rejected, or find nothing to do, and would do something when they are decided later. */
export function outcomesScenario(n: number): OutcomesScenario {
  return {
    open: openStore,
    check,
    goOn: async (world) => {
      const amount = 1000 + world.commits().length;
      await send(world, `later-${amount}`, Withdraw({ amount })).catch(() => {});
    },
    workload: async (world) => {
      const { store } = world;
      for (const id of ["ada", "bob"])
        await world.commit((context) => store.get(Account, id).execute(Open({ owner: id }), context));
      await send(world, "k1", Withdraw({ amount: 5 }));
      // Several in flight.
      await Promise.all([
        send(world, "k2", Withdraw({ amount: 6 })),
        deposit(world, "ada", 6),
        send(world, "k3", Open({ owner: "Ada" })),
        send(world, "k4", Withdraw({ amount: 1 })),
        send(world, "k5", Withdraw({ amount: 50 })),
      ]);
      await sendAll(world, "k6", 100);
      await store.close();
      const { store: second, process } = await world.open();
      await deposit(world, "ada", 100, second);
      const killed = killAfter(world.disk, process, 5 + ((n * 17) % 40));
      await Promise.allSettled([
        send(world, "k7", Withdraw({ amount: 500 }), second),
        deposit(world, "ada", 500, second),
        send(world, "k8", Open({ owner: "Ada" }), second),
      ]);
      await killed;
      const { store: last } = await world.open();
      await send(world, "k9", Withdraw({ amount: 5000 }), last);
      await deposit(world, "ada", 5000, last);
      await last.close();
    },
  };
}
