import { aggregate, AggregateStore, data } from "eventfold-es";
import {
  checkEvents,
  checkInvariants,
  checkStoreFiles,
  type CrashRemains,
  type CrashWorld,
  type FileSystem,
  type SeenEvent,
} from "eventfold-es/testing";
import { DEFAULT_LOG_OPTIONS } from "../../src/file-store/log/commit-log.ts";
import type { FileEventStore } from "../../src/file-store/file-event-store.ts";
import { type FileEventStoreOptions, openFileEventStore } from "../../src/file-store/open-store.ts";

/** A sum with frequent snapshots. */
export const Sum = aggregate("sum", {
  initial: { total: 0, steps: 0 },
  events: { Added: data<{ by: number; note: string }>() },
  commands: { Add: data<{ by: number[]; note?: string }>() },
}).define({
  snapshotEvery: 3,
  handle: { Add: ({ data: { by, note = "" }, emit }) => by.map((n) => emit.Added({ by: n, note })) },
  apply: { Added: (state, { by }) => ({ total: state.total + by, steps: state.steps + 1 }) },
});

let lastId = 0;

/** Ids of one length, so that a disk does not depend on how many were examined before it. */
export function nextEventId(): string {
  return `event-${String(++lastId).padStart(9, "0")}`;
}

/** The real store with ids and times that are the same in every run. */
export function openSums(fileSystem: FileSystem, durability: "flush" | "os" = "flush") {
  return AggregateStore.builder("/store")
    .aggregate(Sum)
    .fileSystem(fileSystem)
    .durability(durability)
    .clock(() => 1_700_000_000_000)
    .ids(nextEventId)
    .open();
}

export type SumStore = Awaited<ReturnType<typeof openSums>>;

/** The default check; and each state, from snapshots too, must agree with the events. */
export async function checkSums(remains: CrashRemains<SumStore>): Promise<readonly string[]> {
  const found = await checkInvariants(remains);
  const { store } = remains;
  for (const id of await store.list(Sum)) {
    let total = 0;
    let steps = 0;
    for await (const { data: added } of store.readEvents("sum", id)) {
      total += (added as { readonly by: number }).by;
      steps++;
    }
    const state = await store.get(Sum, id).state();
    if (state.total !== total || state.steps !== steps)
      throw new Error(`the state of ${id} is ${JSON.stringify(state)}; its events give ${total} in ${steps} steps`);
  }
  return found;
}

/** One `Add` command as a tracked commit. */
export function add(world: CrashWorld<SumStore>, id: string, by: number[], note?: string): Promise<unknown> {
  const command = Sum.commands.Add(note === undefined ? { by } : { by, note });
  return world.commit((context) => world.store.get(Sum, id).execute(command, context), by.length);
}

/** Segments and preallocation so small that a few commits use several of each. */
const SMALL_LOG = { segmentBytes: 1500, preallocateBytes: 700 };
// The facade has no option for it.
Object.assign(DEFAULT_LOG_OPTIONS, { segmentBytes: 5000, preallocateBytes: 1500 });

export function openLog(fileSystem: FileSystem, options: FileEventStoreOptions = {}): Promise<FileEventStore> {
  return openFileEventStore(fileSystem, "/store", { log: SMALL_LOG, ...options });
}

/** Compares the events of `readAll` with those of every stream, with the list of streams, and with the files. */
export async function checkLog({ disk, store, commits }: CrashRemains<FileEventStore>): Promise<readonly string[]> {
  const listed: string[] = [];
  for (const { type, id } of await store.listStreams()) {
    listed.push(`${type}/${id}`);
    let last: string | undefined;
    // Adopts foreign lines.
    for await (const batch of store.readStream({ type, id })) last = batch.at(-1)?.type ?? last;
    // Readers of all events get nothing of an instance whose compaction has no events.
    if (last === "$compacted") listed.pop();
  }
  const events: SeenEvent[] = [];
  for await (const batch of store.readAll()) events.push(...batch.map(seen));
  const others = checkStoreFiles(disk, "/store", events);
  const logged = [...events, ...others].sort((a, b) => a.position - b.position);
  checkEvents(logged, commits);
  const streams = new Map<string, string[]>();
  for (const event of events) {
    const name = `${event.aggregate}/${event.id}`;
    streams.set(name, [...(streams.get(name) ?? []), line(event)]);
  }
  for (const name of listed) if (!streams.has(name)) throw new Error(`${name} is listed and has no events`);
  for (const [name, lines] of streams) {
    const isDeleted = lines.at(-1)?.includes('"type":"$deleted"') === true;
    if (listed.includes(name) === isDeleted)
      throw new Error(`${name} has events and is ${isDeleted ? "listed although it was deleted" : "not listed"}`);
    const [type = "", id = ""] = name.split("/");
    let version = 0;
    for await (const batch of store.readStream({ type, id })) {
      for (const event of batch) {
        if (event.type === "$compacted") continue;
        const expected = lines[version++];
        if (line(seen(event)) !== expected)
          throw new Error(`${name}: readAll gave ${expected}, readStream ${line(seen(event))}`);
      }
    }
    if (version !== lines.length)
      throw new Error(`${name}: readAll gave ${lines.length} events, readStream ${version}`);
  }
  await checkEarlyReaders(store, logged);
  return logged.map(line);
}

/** Readers that began before all compactions, and after the first one, get the events that later ones have replaced. */
async function checkEarlyReaders(store: FileEventStore, logged: readonly SeenEvent[]): Promise<void> {
  const nameOf = ({ aggregate: kind, id }: SeenEvent): string => `${kind}/${id}`;
  const cuts = logged
    .filter(({ type }) => type.startsWith("$"))
    .map((event) => ({
      ...{ name: nameOf(event), version: event.version, first: event.position, isDeletion: event.type === "$deleted" },
      last: event.position + ((event.data as { readonly events?: number }).events ?? 0),
    }));
  for (const horizon of new Set([0, cuts.find(({ isDeletion }) => !isDeletion)?.last ?? 0])) {
    const expected = logged.filter((event) =>
      cuts.every(({ name, version, first, last, isDeletion }) => {
        if (!isDeletion && event.position >= first && event.position <= last)
          return first <= horizon && event.position > first;
        return name !== nameOf(event) || event.version >= version || !(isDeletion || first <= horizon);
      }),
    );
    const found: string[] = [];
    for await (const batch of store.readAll({ horizon })) found.push(...batch.map((event) => line(seen(event))));
    const wrong = expected.findIndex((event, i) => line(event) !== found[i]);
    if (wrong >= 0 || found.length > expected.length)
      throw new Error(
        `horizon ${horizon}: expected ${expected.length} events, found ${found.length}; wrong at ${wrong}`,
      );
  }
}

/** An event as one line, as `checkLog` gives it. */
export function eventText(event: Parameters<typeof seen>[0]): string {
  return line(seen(event));
}

function seen(event: {
  readonly stream: { readonly type: string; readonly id: string };
  readonly version: number;
  readonly position: number;
  readonly type: string;
  readonly data: unknown;
  readonly meta: Readonly<Record<string, unknown>> | undefined;
}): SeenEvent {
  const { stream, version, position, type, meta } = event;
  const correlationId = meta?.["correlation_id"] as string | undefined;
  return { aggregate: stream.type, id: stream.id, version, position, type, data: event.data, correlationId };
}

function line(event: SeenEvent): string {
  return JSON.stringify(event);
}

/** The version of a stream's last event. */
export async function versionOf(store: Pick<FileEventStore, "readStream">, id: string): Promise<number> {
  let version = 0;
  for await (const batch of store.readStream({ type: "s", id })) version = batch.at(-1)?.version ?? version;
  return version;
}

/** Deletes a stream in one tracked commit, which is retried while other commits come first. */
export function drop(
  world: CrashWorld<FileEventStore>,
  id: string,
  store: FileEventStore = world.store,
): Promise<unknown> {
  return world.commit(async ({ correlationId }) => {
    for (;;) {
      const expectedVersion = await versionOf(store, id);
      const data = JSON.stringify({ version: expectedVersion + 1, final: false });
      const event = { ...draft(correlationId, expectedVersion), type: "$deleted", data };
      const append = { stream: { type: "s", id }, expectedVersion, events: [event], cut: "deleted" } as const;
      const result = await store.commit({ appends: [append] });
      if (result.ok) return result;
    }
  });
}

/** Replaces the events of a stream by `count` in one tracked commit, which is retried while other commits come first. */
export function compact(
  world: CrashWorld<FileEventStore>,
  id: string,
  count: number,
  store: FileEventStore = world.store,
): Promise<unknown> {
  return world.commit(async ({ correlationId }) => {
    for (;;) {
      const expectedVersion = await versionOf(store, id);
      const data = JSON.stringify({ version: expectedVersion + 1, events: count });
      const first = { ...draft(correlationId, expectedVersion), type: "$compacted", data };
      const rest = Array.from({ length: count }, (_, i) => draft(correlationId, expectedVersion + 1 + i));
      const append = {
        stream: { type: "s", id },
        expectedVersion,
        events: [first, ...rest],
        cut: "compacted",
      } as const;
      const result = await store.commit({ appends: [append] });
      if (result.ok) return result;
    }
  }, 1 + count);
}

/**
 * Appends events to several streams in one tracked commit, retried while other commits come first. Sizes
 * differ so that records begin and end anywhere in a sector.
 */
export function append(
  world: CrashWorld<FileEventStore>,
  counts: Readonly<Record<string, number>>,
  store: FileEventStore = world.store,
): Promise<unknown> {
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
  return world.commit(async ({ correlationId }) => {
    for (;;) {
      const appends = [];
      for (const [id, count] of Object.entries(counts)) {
        const expectedVersion = await versionOf(store, id);
        const events = Array.from({ length: count }, (_, i) => draft(correlationId, expectedVersion + i));
        appends.push({ stream: { type: "s", id }, expectedVersion, events });
      }
      const result = await store.commit({ appends });
      if (result.ok) return result;
    }
  }, total);
}

function draft(correlationId: string, n: number) {
  const payload = JSON.stringify({ n, fill: "x".repeat((n * 37 + correlationId.length * 101) % 400) });
  const meta = { correlation_id: correlationId };
  return { type: "Added", data: payload, schemaVersion: 0, timestamp: 1_700_000_000_000 + n, meta };
}
