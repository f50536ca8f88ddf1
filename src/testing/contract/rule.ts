import type { EventStore, EventStoreCapabilities } from "../../event-store/event-store.ts";

/** One promise of the contract, and how to check it. */
export interface Rule {
  /** The test's title. */
  readonly name: string;
  /** The capability that a store needs for this rule; every store must keep a rule that names none. */
  readonly needs?: keyof EventStoreCapabilities;
  /** Throws if the store breaks the rule. */
  readonly run: (stage: Stage) => Promise<void>;
}

/** The stores that a rule works with. The contract closes them when the rule has run. */
export interface Stage {
  /** New and empty. */
  readonly store: EventStore;
  /** Closes `store` and opens a new handle on the same events. */
  readonly reopened: () => Promise<EventStore>;
  /** Opens a second handle on the same events and leaves `store` open. */
  readonly second: () => Promise<EventStore>;
}

export type Reopen = (store: EventStore) => Promise<EventStore>;

/** Runs a rule on a new store, then closes every handle, the newest first. */
export async function runRule({ run }: Rule, create: () => Promise<EventStore>, reopen: Reopen): Promise<void> {
  const store = await create();
  const opened = [store];
  const openAgain = async (): Promise<EventStore> => {
    const handle = await reopen(store);
    opened.unshift(handle);
    return handle;
  };
  try {
    await run({
      store,
      reopened: async () => {
        await store.close();
        return openAgain();
      },
      second: openAgain,
    });
  } finally {
    for (const handle of opened) await handle.close();
  }
}
