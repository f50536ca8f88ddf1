import { AggregateStore, type DeadLetter, type RecordedEvent } from "eventfold-es";
import {
  checkEvents,
  checkStoreFiles,
  type CrashRemains,
  type CrashScenario,
  type CrashWorld,
  type FileSystem,
  nameOf,
  type TrackedCommit,
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

/** How the dead letter of a number is removed. */
interface Settlement {
  readonly how: "drop" | "replay";
  readonly source: string;
  readonly n: number;
}

/** What tracked commits settle, by the ids of the commits; a run of the explorer adds to it in the order of the commits. */
type Plan = Map<string, Settlement>;

const numberIn = ({ command }: DeadLetter): number => numberOf((command as { readonly data: unknown }).data);

/** Drops or replays the first dead letter of a source, if it has one. */
async function settle(world: World, plan: Plan, how: Settlement["how"], source: string, store: Store): Promise<void> {
  const letter = (await store.deadLetters()).find(({ cause }) => cause?.id === source);
  if (letter === undefined) return;
  await world.commit(async ({ correlationId }) => {
    plan.set(correlationId, { how, source, n: numberIn(letter) });
    await (how === "drop" ? store.dropDeadLetter(letter.key) : store.replayDeadLetter(letter.key));
  }, 0);
}

/**
 * Each number but those at which the reaction fails arrived once, is one dead letter, or was dropped; those of a source in its order,
 * and none after one that is a dead letter.
 */
async function check({ disk, store, commits }: CrashRemains<Store>, plan: Plan): Promise<string[]> {
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
    const buried = ofSource.map(numberIn);
    const dropped = checkSettled(id, { arrived, buried }, commits, plan);
    const rest = sent.filter((n) => buried.includes(n));
    const kept = sent.filter((n) => !dropped.includes(n));
    if ([...arrived, ...rest].join() !== kept.join() || buried.length !== rest.length)
      throw new Error(
        `sent by ${id}: ${sent.join()}; arrived: ${arrived.join()}; dead letters: ${buried.join()}; dropped: ${dropped.join()}`,
      );
    if (ofSource.length > 0 && ofSource.every(({ waiting }) => waiting === true))
      throw new Error(`expected what ${id} has sent to go on, found that it waits for nothing: ${buried.join()}`);
  }
  const seen = events.map((event) => (event.type === "Got" ? { ...event, correlationId: undefined } : event));
  checkEvents(seen, commits);
  checkStoreFiles(disk, "/store", seen);
  return events.filter(({ type }) => type !== "Got").map(nameOf);
}

/** What became of the numbers that a source has sent. */
interface Fates {
  readonly arrived: readonly number[];
  readonly buried: readonly number[];
}

/** Checks that no dead letter of a source is there that was certainly settled. Returns the numbers that were dropped. */
function checkSettled(id: string, { arrived, buried }: Fates, commits: readonly TrackedCommit[], plan: Plan): number[] {
  const dropped: number[] = [];
  for (const { id: commit, outcome } of commits) {
    const settlement = plan.get(commit);
    if (settlement?.source !== id) continue;
    const { how, n } = settlement;
    if (outcome === "acknowledged" && buried.includes(n))
      throw new Error(`expected the ${how} of ${n} by ${commit} to last, found its dead letter`);
    if (how === "replay" || buried.includes(n)) continue;
    if (arrived.includes(n)) throw new Error(`expected ${n}, which ${commit} has dropped, not to arrive`);
    dropped.push(n);
  }
  return dropped;
}

/** A process manager with order whose commands fail and wait: run, and killed while letters are dropped and replayed. */
export function orderScenario(n: number): OrderScenario {
  const plan: Plan = new Map();
  return {
    open: openStore,
    check: (remains) => check(remains, plan),
    goOn: async (world) => {
      await send(world, "a", 100 + world.commits().length);
      await world.store.runProcessManagers();
      await settle(world, plan, "drop", "a", world.store);
    },
    workload: async (world) => {
      const { store } = world;
      await limit(world, 6);
      for (const [id, number] of [
        ["a", 3],
        ["b", 4],
        ["a", 8],
        ["a", BUG],
        ["b", 7],
        ["a", 5],
        ["a", 1],
        ["a", 9],
      ] as const)
        await send(world, id, number);
      await store.runProcessManagers();
      await limit(world, 4);
      await store.close();
      const { store: second, process } = await world.open();
      // The letters are read before the calls are counted, so that the kill comes while they are settled.
      await second.deadLetters();
      const killed = killAfter(world.disk, process, 30 + ((n * 37) % 190));
      await Promise.allSettled([settle(world, plan, "drop", "a", second), settle(world, plan, "replay", "b", second)]);
      await killed;
      const { store: last } = await world.open();
      await last.runProcessManagers();
      await settle(world, plan, "drop", "a", last);
      await send(world, "a", 2, last);
      await send(world, "a", 11, last);
      await last.runProcessManagers();
      await last.close();
    },
  };
}
