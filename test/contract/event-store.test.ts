import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { eventStoreContract, type EventStore, openNodeFileSystem } from "eventfold-es/testing";
import { afterAll, describe, expect, test } from "vitest";
// The stores have no public names of their own: users get them through AggregateStore.
import { MemoryEventStore } from "../../src/event-store/memory-event-store.ts";
import { FileEventStore, type FileEventStoreOptions } from "../../src/file-store/file-event-store.ts";

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
  // Other processes see a commit when it has been flushed, which is a little after it is acknowledged.
  { name: "the store in files, answering before the flush", options: { durability: "os" }, multiProcess: false },
  {
    name: "the store in files, with many small segments",
    options: { log: { segmentBytes: 2000, preallocateBytes: 500 } },
    multiProcess: true,
  },
])("$name", ({ options, multiProcess }) => {
  const directories = new WeakMap<EventStore, string>();
  const open = async (directory: string): Promise<EventStore> => {
    const store = await FileEventStore.open(await openNodeFileSystem(), directory, options);
    directories.set(store, directory);
    return store;
  };
  eventStoreContract({
    test,
    create: () => open(fs.mkdtempSync(path.join(root, "store-"))),
    reopen: (store) => open(directories.get(store) ?? "this store was not made here"),
    capabilities: { durable: options?.durability !== "os", multiProcess },
  });
});

describe("the suite itself", () => {
  /** The tests that a store fails. */
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
      fault: "reads from the first version always",
      store: () => withMethod("readStream", (s, name) => s.readStream(name)),
    },
    { fault: "reads from the first position always", store: () => withMethod("readAll", (s) => s.readAll()) },
    { fault: "lists all types", store: () => withMethod("listStreams", (s) => s.listStreams()) },
    {
      fault: "does not care who made a snapshot",
      store: () => withMethod("loadSnapshot", (s, name) => s.loadSnapshot(name, "f1")),
    },
    { fault: "works on when it is closed", store: () => withMethod("close", async () => {}) },
  ])("fails a store that $fault", async ({ store }) => {
    expect(await failuresOf(store)).not.toEqual([]);
  });

  const written = new WeakMap<EventStore, Map<string, number>>();

  /** Makes every expected version the right one, as far as the calls of one test tell. */
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
