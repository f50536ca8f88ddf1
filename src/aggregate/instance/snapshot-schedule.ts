import { snapshotSaved } from "../../tracing/tracing.ts";
import type { AggregateModel } from "../model.ts";
import type { CommittedState } from "./committed-state.ts";
import type { TypeSnapshots } from "./type-snapshots.ts";

/** Saves snapshots of one instance: by the number of events since the last one, and when asked to. */
export class SnapshotSchedule {
  readonly #model: AggregateModel;
  readonly #snapshots: TypeSnapshots;
  /** Version of the newest snapshot that is known. */
  #savedVersion = 0;
  #isSaving = false;

  constructor(model: AggregateModel, snapshots: TypeSnapshots) {
    this.#model = model;
    this.#snapshots = snapshots;
  }

  get isSaving(): boolean {
    return this.#isSaving;
  }

  /** The store had a snapshot of this version when the instance was loaded; 0 for none. */
  recordLoaded(version: number): void {
    this.#savedVersion = version;
  }

  /** Saves a snapshot in the background once enough events have come. */
  saveWhenDue(committed: CommittedState): void {
    if (!this.#isSaving && committed.version - this.#savedVersion >= this.#model.snapshotEvery)
      void this.save(committed);
  }

  /**
   * Saves a snapshot, unless the newest one has this version already. Never rejects: a snapshot is a cache, and no caller awaits those that
   * are saved in the background. After a failure, as many events pass as after a snapshot before the next attempt.
   */
  async save(committed: CommittedState): Promise<void> {
    // A snapshot would hide the deletion from the next load.
    if (committed.isAbsent || !committed.exists || committed.version <= this.#savedVersion || this.#isSaving) return;
    this.#isSaving = true;
    const { stream, state, version, position } = committed;
    try {
      const isSaved = await this.#snapshots.save(stream, { state, version, position }).catch(() => false);
      this.#savedVersion = version;
      if (!isSaved) return;
      snapshotSaved.publish(() => ({ aggregate: stream.type, id: stream.id, version }));
    } finally {
      this.#isSaving = false;
      // While one is saved, so many events can come that the next one is due.
      if (committed.version > version) this.saveWhenDue(committed);
    }
  }
}
