import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { eventStoreContract, type EventStore, openNodeFileSystem } from "eventfold-es/testing";
import { afterAll, describe, expect, test } from "vitest";
// The stores have no public names: users get them through AggregateStore.
import { MemoryEventStore } from "../../src/event-store/memory-event-store.ts";
import { type FileEventStoreOptions, openFileEventStore } from "../../src/file-store/open-store.ts";

describe("the store in memory", () => {
  eventStoreContract({
    test,
    create: async () => new MemoryEventStore(),
  });
});

const root = fs.mkdtempSync(path.join(os.tmpdir(), "eventfold-es-contract-"));
afterAll(() => fs.rmSync(root, { recursive: true, force: true }));

describe.each<{ name: string; options: FileEventStoreOptions; multiProcess: boolean }>([
  { name: "the store in files", options: {}, multiProcess: true },
  // Other processes see a commit once it is flushed, which is shortly after its acknowledgement.
  { name: 'the store in files, with durability "os"', options: { durability: "os" }, multiProcess: false },
  {
    name: "the store in files, with many small segments",
    options: { log: { segmentBytes: 2000, preallocateBytes: 500 } },
    multiProcess: true,
  },
])("$name", ({ options, multiProcess }) => {
  const directories = new WeakMap<EventStore, string>();
  const open = async (directory: string): Promise<EventStore> => {
    const store = await openFileEventStore(await openNodeFileSystem(), directory, options);
    directories.set(store, directory);
    return store;
  };
  eventStoreContract({
    test,
    create: () => open(fs.mkdtempSync(path.join(root, "store-"))),
    reopen: (store) => open(directories.get(store) ?? "(a store that this test did not open)"),
    capabilities: { durable: options?.durability !== "os", multiProcess },
  });
});

describe("the contract itself", () => {
  /** The titles of the rules that a store breaks. */
  async function failuresOf(create: () => EventStore): Promise<string[]> {
    const tests: { readonly name: string; readonly run: () => Promise<void> }[] = [];
    eventStoreContract({ test: (name, run) => tests.push({ name, run }), create: async () => create() });
    const failures: string[] = [];
    for (const { name, run } of tests) await run().catch(() => failures.push(name));
    return failures;
  }

  test("passes a good store", async () => {
    expect(await failuresOf(() => new MemoryEventStore())).toEqual([]);
  });

  test.each<{ fault: string; store: () => EventStore }>([
    {
      fault: "writes in spite of a conflict",
      store: () =>
        withMethod("commit", (store, commit) =>
          store.commit({
            ...commit,
            appends: commit.appends.map((append) => ({
              ...append,
              expectedVersion: anyVersion(store, append.stream.id),
            })),
          }),
        ),
    },
    {
      fault: "forgets the actor",
      store: () =>
        withMethod("commit", (store, commit) =>
          store.commit({
            ...commit,
            appends: commit.appends.map((append) => ({
              ...append,
              events: append.events.map((event) => ({ ...event, actor: undefined })),
            })),
          }),
        ),
    },
    {
      fault: "always reads from the first version",
      store: () => withMethod("readStream", (s, name) => s.readStream(name)),
    },
    { fault: "always reads from the first position", store: () => withMethod("readAll", (s) => s.readAll()) },
    {
      fault: "always reads up to the last position",
      store: () => withMethod("readAll", (s, options) => s.readAll({ ...options, to: undefined })),
    },
    { fault: "lists the streams of all types", store: () => withMethod("listStreams", (s) => s.listStreams()) },
    {
      fault: "loads snapshots of other code",
      store: () => withMethod("loadSnapshot", (s, name) => s.loadSnapshot(name, "f1")),
    },
    { fault: "keeps working after close", store: () => withMethod("close", async () => {}) },
  ])("fails a store that $fault", async ({ store }) => {
    expect(await failuresOf(store)).not.toEqual([]);
  });

  const written = new WeakMap<EventStore, Map<string, number>>();

  /** Replaces an expected version by the one that the calls of this test have led to. */
  function anyVersion(store: EventStore, id: string): number {
    const versions = written.get(store) ?? new Map<string, number>();
    written.set(store, versions);
    versions.set(id, (versions.get(id) ?? -1) + 1);
    return versions.get(id) ?? 0;
  }

  function withMethod<Name extends "commit" | "readStream" | "readAll" | "listStreams" | "loadSnapshot" | "close">(
    name: Name,
    method: (store: EventStore, ...args: Parameters<EventStore[Name]>) => ReturnType<EventStore[Name]>,
  ): EventStore {
    const store = new MemoryEventStore();
    return new Proxy<EventStore>(store, {
      get(target, property) {
        if (property === name) return (...args: Parameters<EventStore[Name]>) => method(store, ...args);
        const value: unknown = Reflect.get(target, property, target);
        return typeof value === "function" ? (value as (...args: unknown[]) => unknown).bind(target) : value;
      },
    });
  }
});
