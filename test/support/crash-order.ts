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
import { nextEventId } from "./crash-stores.ts";
import { killAfter } from "./kill-after.ts";
import { BUG, sender, Source, Target } from "./sender.ts";

function openStore(fileSystem: FileSystem) {
  return AggregateStore.builder("/store")
    .aggregate(Source)
    .aggregate(Target)
    .processManager(sender({ order: "instance", onError: { reaction: "skip" } }))
    .processManagerMode("manual")
    .onProcessManagerError(() => {})
    .fileSystem(fileSystem)
    .clock(() => 1_700_000_000_000)
    .ids(nextEventId)
    .open();
}

type Store = Awaited<ReturnType<typeof openStore>>;
type World = CrashWorld<Store>;
export type OrderScenario = CrashScenario<Store>;

function send(world: World, id: string, n: number, store: Store = world.store): Promise<unknown> {
  return world.commit((context) => store.dispatch(Source.at(id).Send({ n }), context));
}

function limit(world: World, to: number, store: Store = world.store): Promise<unknown> {
  return world.commit((context) => store.dispatch(Target.at("t").Limit({ to }), context));
}

const numberOf = (value: unknown): number => (value as { readonly n: number }).n;

/** Each number but those at which the reaction fails arrived once or is one dead letter; those of a source in its order, and none after one that is a dead letter. */
async function check({ disk, store, commits }: CrashRemains<Store>): Promise<string[]> {
  await store.runProcessManagers();
  const events: RecordedEvent[] = [];
  for await (const event of store.events()) events.push(event);
  const letters = await store.deadLetters();
  const { got } = await store.get(Target, "t").state();
  for (const id of ["a", "b"]) {
    const sent = events.flatMap((event) =>
      event.id === id && numberOf(event.data) !== BUG ? [numberOf(event.data)] : [],
    );
    const arrived = got.filter((n) => sent.includes(n));
    const ofSource = letters.filter(({ cause }) => cause?.id === id);
    const buried = ofSource.map(({ command }) => numberOf((command as { readonly data: unknown }).data));
    const rest = sent.filter((n) => buried.includes(n));
    if ([...arrived, ...rest].join() !== sent.join() || buried.length !== rest.length)
      throw new Error(`sent by ${id}: ${sent.join()}; arrived: ${arrived.join()}; dead letters: ${buried.join()}`);
    if (ofSource.length > 0 && ofSource.every(({ waiting }) => waiting === true))
      throw new Error(`expected what ${id} has sent to go on, found that it waits for nothing: ${buried.join()}`);
  }
  const seen = events.map((event) => (event.type === "Got" ? { ...event, correlationId: undefined } : event));
  checkEvents(seen, commits);
  checkStoreFiles(disk, "/store", seen);
  return events.filter(({ type }) => type !== "Got").map(nameOf);
}

/** A process manager with order whose commands fail and wait: run, and killed while a letter is replayed. */
export function orderScenario(n: number): OrderScenario {
  return {
    open: openStore,
    check,
    goOn: async (world) => {
      await send(world, "a", 100 + world.commits().length);
      await world.store.runProcessManagers();
    },
    workload: async (world) => {
      const { store } = world;
      await limit(world, 5);
      for (const [id, number] of [
        ["a", 3],
        ["b", 7],
        ["a", 8],
        ["a", BUG],
        ["a", 4],
        ["a", 9],
      ] as const)
        await send(world, id, number);
      await store.runProcessManagers();
      await limit(world, 4);
      await store.close();
      const { store: second, process } = await world.open();
      const killed = killAfter(world.disk, process, 5 + ((n * 17) % 60));
      const [first] = await second.deadLetters();
      await Promise.allSettled([second.dropDeadLetter(first?.key ?? "")]);
      await killed;
      const { store: last } = await world.open();
      await last.runProcessManagers();
      await send(world, "a", 2, last);
      await send(world, "a", 11, last);
      await last.runProcessManagers();
      await last.close();
    },
  };
}
