import { AggregateStore, type RecordedEvent } from "eventfold-es";
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
import { nextEventId, Sum } from "./crash-stores.ts";
import { killAfter } from "./kill-after.ts";

const NOW = 1_700_000_000_000;

function openSchedules(fileSystem: FileSystem) {
  return AggregateStore.builder("/store")
    .aggregate(Sum)
    .processManagerMode("manual")
    .fileSystem(fileSystem)
    .clock(() => NOW)
    .ids(nextEventId)
    .open();
}

type ScheduleStore = Awaited<ReturnType<typeof openSchedules>>;
type World = CrashWorld<ScheduleStore>;
export type ScheduleScenario = CrashScenario<ScheduleStore>;

type Kind = "due" | "repeated" | "later";

/** What tracked commits scheduled, by the ids of the commits; a run of the explorer adds to it in the order of the commits. */
interface Plan {
  readonly kinds: Map<string, Kind>;
}

/** The correlation id of the events that a schedule leads to. */
const ofSchedule = (id: string): string => `schedule ${id}`;

function schedule(world: World, { kinds }: Plan, kind: Kind, store: ScheduleStore = world.store): Promise<unknown> {
  return world.commit(({ correlationId }) => {
    kinds.set(correlationId, kind);
    const envelope = { ...Sum.at("s").Add({ by: [1] }), context: { correlationId: ofSchedule(correlationId) } };
    if (kind === "due") return store.schedule(envelope, { at: NOW - 1, key: correlationId });
    if (kind === "repeated") return store.schedule(envelope, { at: NOW - 1, every: "1h", key: correlationId });
    return store.schedule(envelope, { in: "1h", key: correlationId });
  }, 0);
}

/** Each due command is sent once, and each that is not due is still listed. */
async function check({ disk, store, commits }: CrashRemains<ScheduleStore>, { kinds }: Plan): Promise<string[]> {
  const count = (events: readonly RecordedEvent[], id: string): number =>
    events.filter(({ correlationId }) => correlationId === ofSchedule(id)).length;
  await store.runProcessManagers();
  await store.runProcessManagers();
  const events: RecordedEvent[] = [];
  for await (const event of store.events()) events.push(event);
  const listed = new Set((await store.schedules()).map(({ key }) => key));
  for (const { id, outcome } of commits as readonly TrackedCommit[]) {
    const kind = kinds.get(id);
    if (kind === undefined) continue;
    const sent = count(events, id);
    const isThere = listed.has(id);
    const [mustBeSent, mustBeListed] = [kind !== "later", kind !== "due"];
    const isWhole = sent === (mustBeSent ? 1 : 0) && isThere === mustBeListed;
    const isAbsent = sent === 0 && !isThere && outcome !== "acknowledged";
    if (!isWhole && !isAbsent)
      throw new Error(`${kind} schedule ${id} (${outcome}): sent ${sent} times, ${isThere ? "" : "not "}listed`);
  }
  const seen = events.map((event) =>
    event.correlationId?.startsWith(ofSchedule("")) === true ? { ...event, correlationId: undefined } : event,
  );
  checkEvents(seen, commits);
  checkStoreFiles(disk, "/store", seen);
  return seen.map(nameOf);
}

/** Commands that a program schedules: in one process, across restarts, and in two processes of which one is killed. */
export function schedulesScenario(n: number): ScheduleScenario {
  const plan: Plan = { kinds: new Map() };
  return {
    open: openSchedules,
    check: (remains) => check(remains, plan),
    goOn: async (world) => {
      await schedule(world, plan, "due");
      await world.store.runProcessManagers();
    },
    workload: async (world) => {
      await schedule(world, plan, "later");
      await schedule(world, plan, "due");
      await Promise.all([world.store.runProcessManagers(), schedule(world, plan, "repeated")]);
      await world.store.close();
      const { store } = await world.open();
      await schedule(world, plan, "due", store);
      await store.close();
      const { store: other, process } = await world.open();
      const { store: last } = await world.open();
      await Promise.all([schedule(world, plan, "due", other), schedule(world, plan, "due", last)]);
      const killed = killAfter(world.disk, process, (n * 23) % 80);
      await Promise.allSettled([other.runProcessManagers(), last.runProcessManagers()]);
      await killed;
      await last.runProcessManagers();
      await last.close();
    },
  };
}
