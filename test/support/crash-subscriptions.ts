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
import { nextEventId, Sum } from "./crash-stores.ts";
import { killAfter } from "./kill-after.ts";

/** The instance that has one event for each event that the subscription has handled. */
const HANDLED = "handled";
/** The handler fails for events with this number. */
const BAD = 13;

function openStore(fileSystem: FileSystem) {
  return AggregateStore.builder("/store")
    .aggregate(Sum)
    .processManagerMode("manual")
    .fileSystem(fileSystem)
    .clock(() => 1_700_000_000_000)
    .ids(nextEventId)
    .open();
}

type Store = Awaited<ReturnType<typeof openStore>>;
type World = CrashWorld<Store>;
export type SubscriptionScenario = CrashScenario<Store>;

/** Lets the subscription deal with everything there is. */
async function runSubscription(store: Store): Promise<void> {
  const subscription = store.subscribe(
    { name: "copier", aggregates: [Sum], retry: { attempts: 1 }, onError: () => {} },
    async (event) => {
      if (event.type !== "Added" || event.id === HANDLED) return;
      if (event.data.by === BAD) throw new RangeError("a bad event");
      await store.dispatch(Sum.at(HANDLED).Add({ by: [event.position] }), { idempotencyKey: event.eventId });
    },
  );
  try {
    await store.idle();
  } finally {
    await subscription.close();
  }
}

function add(world: World, by: number, store: Store = world.store): Promise<unknown> {
  return world.commit((context) => store.dispatch(Sum.at("ada").Add({ by: [by] }), context));
}

/** Each good event is handled, and each bad one is one dead letter. */
async function check({ disk, store, commits }: CrashRemains<Store>): Promise<string[]> {
  await runSubscription(store);
  const events: RecordedEvent[] = [];
  for await (const event of store.events()) events.push(event);
  const byOf = ({ data }: RecordedEvent): number => (data as { readonly by: number }).by;
  const given = events.filter(({ id }) => id !== HANDLED);
  const expected = (isBad: boolean): string =>
    given.flatMap((event) => ((byOf(event) === BAD) === isBad ? [event.position] : [])).join();
  const handled = events.filter(({ id }) => id === HANDLED).map(byOf);
  const letters = (await store.deadLetters()).map(({ cause }) => cause?.position ?? 0);
  if (handled.sort((a, b) => a - b).join() !== expected(false))
    throw new Error(`handled: ${handled.join()}; expected ${expected(false)}`);
  if (letters.sort((a, b) => a - b).join() !== expected(true))
    throw new Error(`dead letters: ${letters.join()}; expected ${expected(true)}`);
  const seen = events.map((event) => (event.id === HANDLED ? { ...event, correlationId: undefined } : event));
  checkEvents(seen, commits);
  checkStoreFiles(disk, "/store", seen);
  return given.map(nameOf);
}

/** A subscription whose handler fails for some events: run, stopped, and killed while it works. */
export function subscriptionsScenario(n: number): SubscriptionScenario {
  return {
    open: openStore,
    check,
    goOn: async (world) => {
      await add(world, BAD);
      await runSubscription(world.store);
    },
    workload: async (world) => {
      await add(world, 1);
      await add(world, BAD);
      await runSubscription(world.store);
      await add(world, 2);
      await world.store.close();
      const { store, process } = await world.open();
      await add(world, BAD, store);
      const killed = killAfter(world.disk, process, 5 + ((n * 17) % 60));
      await Promise.allSettled([runSubscription(store)]);
      await killed;
      const { store: last } = await world.open();
      await add(world, 3, last);
      await runSubscription(last);
      await last.close();
    },
  };
}
