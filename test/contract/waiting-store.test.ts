import { eventStoreContract, type EventStore } from "eventfold-es/testing";
import { describe, expect, test } from "vitest";
import type { MemoryEventStore } from "../../src/event-store/memory-event-store.ts";
import { WaitingEventStore } from "../support/waiting-event-store.ts";

const capabilities = { durable: true, multiProcess: true };

function remoteOf(store: EventStore): MemoryEventStore {
  return (store as WaitingEventStore).remote;
}

describe("a store that has to wait for other processes' commits", () => {
  eventStoreContract({
    test,
    create: () => WaitingEventStore.open(),
    reopen: (store) => WaitingEventStore.open(remoteOf(store)),
    capabilities,
  });
});

describe("the contract finds a store with several handles that", () => {
  type Break = (store: WaitingEventStore) => Partial<EventStore>;

  /** A store whose methods are replaced by broken ones. */
  async function broken(remote: MemoryEventStore | undefined, breakIt: Break): Promise<EventStore> {
    const store = await WaitingEventStore.open(remote);
    const faults = breakIt(store);
    return new Proxy<EventStore>(store, {
      get(target, property) {
        const owner = Object.hasOwn(faults, property) ? faults : target;
        const value: unknown = Reflect.get(owner, property, owner);
        return typeof value === "function" ? (value as (...args: unknown[]) => unknown).bind(owner) : value;
      },
    });
  }

  /** The rules that a broken store does not keep. */
  async function failuresOf(breakIt: Break): Promise<string[]> {
    const rules: { readonly name: string; readonly run: () => Promise<void> }[] = [];
    eventStoreContract({
      test: (name, run) => rules.push({ name, run }),
      create: () => broken(undefined, breakIt),
      reopen: (store) => broken(remoteOf(store), breakIt),
      capabilities,
    });
    const failures: string[] = [];
    for (const { name, run } of rules) await run().catch(() => failures.push(name));
    return failures;
  }

  test.each<{ fault: string; breakIt: Break; rule: string }>([
    {
      fault: "ignores the expected version of appends without events",
      breakIt: (store) => ({
        commit: (commit) =>
          store.commit({ ...commit, appends: commit.appends.filter(({ events }) => events.length > 0) }),
      }),
      rule: "no answer of an instance rests on a state from before a commit of another handle",
    },
    {
      fault: "checks appends without events only where there is nothing else in the commit",
      breakIt: (store) => ({
        commit: (commit) =>
          store.commit(
            commit.consumer === undefined
              ? commit
              : { ...commit, appends: commit.appends.filter(({ events }) => events.length > 0) },
          ),
      }),
      rule: "progress and dead letters are not written when an append without events expects another version",
    },
    {
      fault: "claims to look without waiting and does not",
      breakIt: () => ({ refreshNow: () => {} }),
      rule: "no answer of an instance rests on a state from before a commit of another handle",
    },
    {
      fault: "does not refresh",
      breakIt: () => ({ refresh: async () => {} }),
      rule: "after a refresh every read sees what another handle has committed",
    },
    {
      fault: "resolves a refresh before its watchers are called",
      breakIt: (store) => ({
        refresh: async () => void store.refresh().catch(() => {}),
      }),
      rule: "refresh resolves after the watchers have been called, also when calls overlap",
    },
    {
      fault: "shares a refresh that began before the call, but does not wait for it",
      breakIt: (store) => {
        let running: Promise<void> | undefined;
        return {
          refresh: async () => {
            if (running !== undefined) return;
            running = store.refresh().finally(() => (running = undefined));
            await running;
          },
        };
      },
      rule: "refresh resolves after the watchers have been called, also when calls overlap",
    },
    {
      fault: "tells its own commits as those of another process",
      breakIt: (store) => {
        const listeners = new Set<(stream: { readonly type: string; readonly id: string }) => void>();
        return {
          watchForeign(listener) {
            listeners.add(listener);
            const end = store.watchForeign(listener);
            return () => {
              listeners.delete(listener);
              end();
            };
          },
          async commit(commit) {
            const result = await store.commit(commit);
            if (result.ok) for (const { stream } of commit.appends) for (const listener of listeners) listener(stream);
            return result;
          },
        };
      },
      rule: "commits of a store are never told to its own foreign watchers, also between those of another handle",
    },
    {
      fault: "neither wants to be polled nor calls its watchers by itself",
      breakIt: () => ({ pollInterval: undefined as unknown as number }),
      rule: "a watcher is called for the other handle's commits: by polling as often as the store says, or without",
    },
    {
      fault: "goes on with a chain after a conflict",
      breakIt: (store) => ({
        commit: ({ appends, consumer }) => store.commit(consumer === undefined ? { appends } : { appends, consumer }),
      }),
      rule: "no commit of a chain is written after one that conflicts, whatever it expects",
    },
  ])("$fault", async ({ breakIt, rule }) => {
    expect(await failuresOf(breakIt)).toContain(rule);
  });
});
