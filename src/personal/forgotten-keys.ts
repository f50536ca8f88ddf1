import { appendAll } from "../arrays.ts";
import type { EventStore } from "../event-store/event-store.ts";
import type { KeyRing } from "./key-ring.ts";

/** The consumer whose notes say which keys are forgotten. No process manager can have this name. */
export const FORGOTTEN = "store:forgotten";

/** What a note of it has. These keys are part of the format on disk: see docs/format.md. */
interface ForgottenNote {
  /** Ids of keys that are destroyed. They say nothing of the persons. */
  readonly forgotten?: readonly string[];
}

/** Knows which keys are forgotten, in any process, and destroys them. */
export class ForgottenKeys {
  readonly #store: EventStore;
  readonly #ring: KeyRing;
  readonly #mayWrite: boolean;
  /** Called in the turn in which a new era begins. */
  readonly #onEra: () => void;
  /** Of the last note that was read. */
  #sequence = 0;
  /** Keys that are forgotten and perhaps not destroyed. */
  #left: readonly string[] = [];

  constructor(store: EventStore, ring: KeyRing, mayWrite: boolean, onEra: () => void) {
    this.#store = store;
    this.#ring = ring;
    this.#mayWrite = mayWrite;
    this.#onEra = onEra;
  }

  /** Reads all notes. Destroys what a process that has died has left. */
  async open(): Promise<void> {
    if (!(await this.#store.listConsumers()).includes(FORGOTTEN)) return;
    await this.look();
    await this.#destroyLeft();
  }

  /** Reads the notes since the last time. */
  async look(): Promise<void> {
    const notes = await this.#store.consumerNotes(FORGOTTEN, this.#sequence);
    const ids: string[] = [];
    for (const { sequence, note } of notes) {
      // Two that look at the same time both find it.
      if (sequence <= this.#sequence) continue;
      this.#sequence = sequence;
      appendAll(ids, (note as ForgottenNote).forgotten ?? []);
    }
    if (ids.length === 0) return;
    this.#left = [...this.#left, ...ids];
    this.#ring.forget(ids);
    this.#onEra();
  }

  /** Notes in the log that keys are forgotten, and destroys them. False if another process has forgotten something meanwhile. */
  async forget(ids: readonly string[]): Promise<boolean> {
    const note: ForgottenNote = { forgotten: ids };
    const consumer = { name: FORGOTTEN, expectedSequence: this.#sequence, note };
    const { ok } = await this.#store.commit({ appends: [], consumer });
    await this.look();
    if (ok) await this.#destroyLeft();
    return ok;
  }

  async #destroyLeft(): Promise<void> {
    if (!this.#mayWrite || this.#left.length === 0) return;
    const left = this.#left;
    await this.#ring.keys.destroy(left);
    this.#left = this.#left.filter((id) => !left.includes(id));
  }
}
