import { gunzipSync } from "node:zlib";
import {
  checkStoreFiles,
  type CrashRemains,
  type CrashScenario,
  type CrashWorld,
  type SeenEvent,
} from "eventfold-es/testing";
import type { FileEventStore } from "../../src/file-store/file-event-store.ts";
import { eventText, openLog, versionOf } from "./crash-stores.ts";
import { killAfter } from "./kill-after.ts";

type World = CrashWorld<FileEventStore>;

/** Stands in all events of an instance that are dropped. */
const secretOf = (id: string): string => `to be forgotten of ${id}`;

const reclaims = async (store: FileEventStore): Promise<void> => {
  const head = await store.head();
  const { isDone } = await store.reclaim({ horizon: head, after: head });
  if (!isDone) throw new Error("expected a store of which nothing is held");
};

/** Appends events with the secret, which no check looks for: they are dropped later. */
async function fill(store: FileEventStore, id: string, count: number): Promise<void> {
  const expectedVersion = await versionOf(store, id);
  const fields = { schemaVersion: 0, timestamp: 1_700_000_000_000 };
  const events = Array.from({ length: count }, (_, n) => ({
    ...fields,
    type: "Added",
    data: JSON.stringify({ n, fill: secretOf(id).repeat(1 + (n % 3)) }),
  }));
  await store.commit({ appends: [{ stream: { type: "s", id }, expectedVersion, events }] });
  const version = expectedVersion + count;
  await store.saveSnapshot(
    { type: "s", id },
    { state: secretOf(id), version, position: await store.head(), fingerprint: "f" },
  );
}

/** Cuts a stream. */
async function cut(store: FileEventStore, id: string, kind: "deleted" | "compacted"): Promise<void> {
  const expectedVersion = await versionOf(store, id);
  const fields = { schemaVersion: 0, timestamp: 1_700_000_000_000 };
  const more = kind === "deleted" ? { final: false } : { events: 1 };
  const first = { ...fields, type: `$${kind}`, data: JSON.stringify({ version: expectedVersion + 1, ...more }) };
  const rest = kind === "deleted" ? [] : [{ ...fields, type: "Added", data: '{"n":0,"fill":"sum"}' }];
  await store.commit({
    appends: [{ stream: { type: "s", id }, expectedVersion, events: [first, ...rest], cut: kind }],
  });
}

/** Appends events that stay, in one tracked commit. */
function keep(world: World, count: number, store = world.store, id = "kept"): Promise<unknown> {
  return world.commit(async ({ correlationId }) => {
    for (;;) {
      const expectedVersion = await versionOf(store, id);
      const events = Array.from({ length: count }, (_, n) => ({
        ...{ type: "Added", schemaVersion: 0, timestamp: 1_700_000_000_000 },
        data: JSON.stringify({ n, fill: "x".repeat((expectedVersion * 37 + n * 101) % 300) }),
        meta: { correlation_id: correlationId },
      }));
      const result = await store.commit({ appends: [{ stream: { type: "s", id }, expectedVersion, events }] });
      if (result.ok) return result;
    }
  }, count);
}

async function all(store: FileEventStore): Promise<{ readonly seen: SeenEvent[]; readonly texts: string[] }> {
  const seen: SeenEvent[] = [];
  const texts: string[] = [];
  for await (const batch of store.readAll())
    for (const event of batch) {
      const { stream, version, position, type, data, meta } = event;
      const correlationId = meta?.["correlation_id"] as string | undefined;
      seen.push({ aggregate: stream.type, id: stream.id, version, position, type, data, correlationId });
      if (stream.id === "kept") texts.push(eventText(event));
    }
  return { seen, texts };
}

/** Files in which a text is found. */
function filesWith({ disk }: Pick<CrashRemains<FileEventStore>, "disk">, text: string): string[] {
  return disk.files().filter((path) => {
    const bytes = Buffer.from(disk.bytesOf(path) ?? []);
    const isWhole = path.endsWith(".gz");
    return (isWhole ? gunzipSync(bytes) : bytes).includes(text);
  });
}

/** All events that were to stay are there, in the log and in the files; and after a reclamation the others are nowhere. */
async function check(remains: CrashRemains<FileEventStore>): Promise<readonly string[]> {
  const { disk, store, commits } = remains;
  for (const stream of await store.listStreams()) for await (const _ of store.readStream(stream));
  const { seen, texts } = await all(store);
  checkStoreFiles(disk, "/store", seen);
  for (const { id, events, outcome } of commits) {
    const found = seen.filter(({ correlationId }) => correlationId === id);
    if (found.length !== events && (outcome === "acknowledged" || found.length > 0))
      throw new Error(`commit ${id}: expected ${events} events, found ${found.length}`);
  }
  for (const { events, outcome, result } of commits) {
    if (events > 0 || outcome !== "acknowledged") continue;
    const files = filesWith(remains, secretOf(String(result)));
    if (files.length > 0) throw new Error(`expected nothing of ${String(result)}, found some in ${files.join(", ")}`);
  }
  return texts;
}

async function goOn(world: World): Promise<void> {
  await keep(world, 2);
  await reclaims(world.store);
  await keep(world, 1);
}

/** Tracked, so that a check knows when it is done. */
const reclaimed = (world: World, id: string, store: FileEventStore): Promise<unknown> =>
  world.commit(async () => {
    await reclaims(store);
    return id;
  }, 0);

export const reclaimScenario = (): CrashScenario<FileEventStore> => ({
  open: openLog,
  check,
  goOn,
  workload: async (world) => {
    let { store } = world;
    await keep(world, 2, store);
    await fill(store, "gone", 4);
    await keep(world, 1, store);
    await fill(store, "gone", 3);
    await cut(store, "gone", "deleted");
    await reclaimed(world, "gone", store);
    await fill(store, "sum", 3);
    await keep(world, 3, store);
    await cut(store, "sum", "compacted");
    await keep(world, 1, store, "sum");
    await store.close();
    ({ store } = await world.open());
    await reclaimed(world, "sum", store);
    await keep(world, 2, store);
  },
});

/** Other processes write, and reclaim and are killed. */
export const sharedReclaimScenario = (n: number): CrashScenario<FileEventStore> => ({
  open: openLog,
  check,
  goOn,
  workload: async (world) => {
    const { store } = world;
    await fill(store, "gone", 5);
    await keep(world, 1);
    await cut(store, "gone", "deleted");
    const { store: other, process } = await world.open();
    const doomed = Promise.allSettled([reclaims(other), keep(world, 2, other)]);
    await killAfter(world.disk, process, 5 + ((n * 17) % 60));
    await Promise.all([keep(world, 2), doomed]);
    const { store: third } = await world.open();
    await Promise.all([keep(world, 1), reclaimed(world, "gone", third), keep(world, 2, third)]);
    await third.close();
    await keep(world, 1);
  },
});
