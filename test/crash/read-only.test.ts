import { isEventfoldError } from "eventfold-es";
import { type CrashScenario, exploreCrashes, type FileSystem } from "eventfold-es/testing";
import { afterEach, describe, expect, test, vi } from "vitest";
import type * as followerModule from "../../src/file-store/apply/read-only-follower.ts";
import type * as openModule from "../../src/file-store/open-read-only.ts";
import type * as unappliedModule from "../../src/file-store/streams/unapplied-records.ts";
import { WORKLOADS } from "../support/crash-workloads.ts";
import { refusingWrites } from "../support/refusing-file-system.ts";

const DISKS = 60;

/** All events, as readers of the log and readers of the streams see them. */
async function eventsOf(fileSystem: FileSystem, { openReadOnlyFileStore }: typeof openModule): Promise<string[]> {
  const refused: string[] = [];
  const store = await openReadOnlyFileStore(refusingWrites(fileSystem, refused), "/store").catch((error: unknown) => {
    if (isEventfoldError(error, "STORE_NOT_FOUND")) return undefined;
    throw error;
  });
  if (store === undefined) return [];
  try {
    const lines: string[] = [];
    for await (const batch of store.readAll())
      for (const { position, version, stream, type, data } of batch)
        lines.push(JSON.stringify({ position, version, stream, type, data }));
    const ofStreams: { readonly position: number; readonly text: string }[] = [];
    const streams = await store.listStreams();
    for (const stream of streams)
      for await (const batch of store.readStream(stream))
        for (const { position, version, type, data } of batch)
          // Readers of the log get the events of a compaction without its first one.
          if (type !== "$compacted")
            ofStreams.push({ position, text: JSON.stringify({ position, version, stream, type, data }) });
    ofStreams.sort((a, b) => a.position - b.position);
    // A deleted instance has no stream to read; the log has its deletion.
    const living = new Set(streams.map(({ type, id }) => JSON.stringify([type, id])));
    const ofLiving = lines.filter((line) => {
      const { stream } = JSON.parse(line) as { readonly stream: { readonly type: string; readonly id: string } };
      return living.has(JSON.stringify([stream.type, stream.id]));
    });
    expect(ofStreams.map(({ text }) => text)).toEqual(ofLiving);
    expect(refused).toEqual([]);
    return lines;
  } finally {
    await store.close();
  }
}

/** On each disk, a store that only reads sees before recovery what it sees after it. */
function compared(scenario: CrashScenario<never>, modules: typeof openModule): CrashScenario<never> {
  const seen = new WeakMap<object, { readonly before: string[]; readonly after: string[] }>();
  return {
    ...scenario,
    open: async (fileSystem) => {
      const before = await eventsOf(fileSystem, modules);
      const store = await scenario.open(fileSystem);
      seen.set(store, { before, after: await eventsOf(fileSystem, modules) });
      return store;
    },
    check: (remains) => {
      const { before, after } = seen.get(remains.store) ?? { before: [], after: ["the store was not opened"] };
      expect(before).toEqual(after);
      return scenario.check(remains);
    },
  };
}

const explored = (kind: string, seed: number, modules: typeof openModule): Promise<unknown> => {
  const scenario = WORKLOADS.find((workload) => workload.kind === kind)?.scenario(seed);
  return exploreCrashes({ ...compared(scenario as unknown as CrashScenario<never>, modules), seed, maxDisks: DISKS });
};

describe("a store that only reads sees what recovery will accept, without writing, after a power cut at every step of", () => {
  for (const { kind } of WORKLOADS)
    test(kind, async () => {
      await explored(kind, 3, await import("../../src/file-store/open-read-only.ts"));
    });
});

/** The module with one step omitted. */
interface Mutation {
  readonly what: string;
  readonly kind: string;
  readonly module: string;
  readonly mutate: (original: never) => object;
}

const FOLLOWER = "../../src/file-store/apply/read-only-follower.ts";
const UNAPPLIED = "../../src/file-store/streams/unapplied-records.ts";

const MUTATIONS: readonly Mutation[] = [
  {
    what: "it reads no further than what was announced",
    kind: "a process is killed and the next one recovers",
    module: FOLLOWER,
    mutate: ({ ReadOnlyFollower }: typeof followerModule) => ({
      ReadOnlyFollower: class extends ReadOnlyFollower {
        constructor(parts: followerModule.ReadOnlyFollowerParts) {
          super({ ...parts, isUnlocked: () => false });
        }
      },
    }),
  },
  {
    what: "it trusts the streams' files after the marker",
    kind: "close and reopen",
    module: UNAPPLIED,
    mutate: ({ UnappliedRecords }: typeof unappliedModule) => ({
      UnappliedRecords: class extends UnappliedRecords {
        override overlay(_key: never, file: never): never {
          return file;
        }
      },
    }),
  },
];

describe("the comparison notices a store that only reads if", () => {
  afterEach(() => vi.resetModules());

  test.each(MUTATIONS)("$what", async ({ kind, module, mutate }) => {
    vi.resetModules();
    vi.doMock(module, async (load) => ({ ...(await load<object>()), ...mutate((await load()) as never) }));
    const modules = await import("../../src/file-store/open-read-only.ts");
    vi.doUnmock(module);
    const work = async (): Promise<void> => {
      for (let seed = 1; seed < 6; seed++) await explored(kind, seed, modules);
    };
    await expect(work()).rejects.toThrow("after a power cut");
  });
});
