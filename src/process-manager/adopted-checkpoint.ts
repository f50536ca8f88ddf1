import type { EventStore } from "../event-store/event-store.ts";
import { refreshBeforeReading } from "../event-store/freshness.ts";
import { tracedCommit } from "../event-store/traced-commit.ts";
import type { AdoptedCheckpoint, Note } from "./note.ts";

/** Puts a manager's checkpoint of the Rust crate into the log, once. */
export async function adoptCheckpoint(store: EventStore, name: string, adopted: AdoptedCheckpoint): Promise<void> {
  for (;;) {
    const known = await readAdopted(store, name);
    if (known.adopted !== undefined && JSON.stringify(known.adopted) === JSON.stringify(adopted)) return;
    const consumer = { name, expectedSequence: known.sequence, note: { adopted } satisfies Note };
    if ((await tracedCommit(store, { appends: [], consumer })).ok) return;
    await refreshBeforeReading(store);
  }
}

/** The last checkpoint of the Rust crate that is in the log. */
export async function findAdopted(store: EventStore, name: string): Promise<AdoptedCheckpoint | undefined> {
  return (await readAdopted(store, name)).adopted;
}

/** `sequence` is that of the manager's last note. */
async function readAdopted(
  store: EventStore,
  name: string,
): Promise<{ readonly adopted: AdoptedCheckpoint | undefined; readonly sequence: number }> {
  const notes = await store.consumerNotes(name, 0);
  return {
    adopted: notes.map(({ note }) => (note as Note).adopted).findLast((found) => found !== undefined),
    sequence: notes.at(-1)?.sequence ?? 0,
  };
}
