import type { StreamName } from "../../event-store/event-store.ts";
import { LatestRun } from "../../event-store/latest-run.ts";
import type { BatchIds } from "../commit/batch-ids.ts";
import { type Database, statement, type Statement } from "../connection/database.ts";
import { fromStored } from "../stored-text.ts";
import { startTimer } from "../../real-timers.ts";

/** How often to look while notifications come through, and while they do not, in ms. */
const HEARD_MS = 1000;
const SILENT_MS = 200;

/**
 * Knows up to which position the listeners of this store have been told, and tells them of what comes after it. Own batches are
 * recognised by their ids, also while their answer is on its way, and are never told as another process's.
 */
export class Watcher {
  readonly #database: Database;
  readonly #ids: BatchIds;
  readonly #look: Statement;
  readonly #listeners = new Set<() => void>();
  readonly #foreignListeners = new Set<(stream: StreamName) => void>();
  /** The watchers know of everything up to here. */
  #seen: number;
  /** Batches of this store whose commands failed with an unknown outcome: if they turn up, they count as another process's. */
  readonly #abandoned: string[] = [];
  readonly #looking = new LatestRun(() => this.#readNews());
  #cancelLook: (() => void) | undefined;
  #isHeard: () => boolean = () => false;
  #isClosed = false;

  constructor(database: Database, s: string, ids: BatchIds, head: number) {
    this.#database = database;
    this.#ids = ids;
    this.#seen = head;
    // One statement, so that head and streams are of the same moment.
    this.#look = statement(
      `with h as (select coalesce(max(position), 0) as head from ${s}.events)
      select h.head, f.aggregate, f.id from h left join (
        select distinct e.aggregate, e.id from ${s}.events e
        where e.position > $1::bigint and (e.batch < $2::uuid or e.batch > $3::uuid or e.batch = any($4::uuid[]))) f on true`,
    );
  }

  /** Looks by itself from now on, less often while notifications come through. */
  start(isHeard: () => boolean): void {
    this.#isHeard = isHeard;
    this.#lookLater();
  }

  /** Tells listeners of commits of other processes. Of calls that come while it looks, all share the next look. */
  refresh(): Promise<void> {
    return this.#looking.run();
  }

  /** A batch of this store was written: `events` of them up to `last`. */
  written(events: number, last: number): void {
    // If commits of others came in between, the next look reports them.
    if (this.#seen === last - events) this.#seen = last;
    this.#tell();
  }

  abandoned(batch: string): void {
    this.#abandoned.push(batch);
  }

  watch(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  watchForeign(listener: (stream: StreamName) => void): () => void {
    this.#foreignListeners.add(listener);
    return () => this.#foreignListeners.delete(listener);
  }

  close(): void {
    this.#isClosed = true;
    this.#cancelLook?.();
  }

  async #readNews(): Promise<void> {
    const since = this.#seen;
    const values = [since, this.#ids.first, this.#ids.last, this.#abandoned];
    const rows = await this.#database.read(this.#look, values);
    const head = Number(rows[0]?.[0] ?? 0);
    if (head <= this.#seen) return;
    this.#seen = head;
    for (const [, aggregate, id] of rows) {
      if (typeof aggregate !== "string" || typeof id !== "string") continue;
      const stream = { type: aggregate, id: fromStored(id) };
      for (const listener of this.#foreignListeners) listener(stream);
    }
    this.#tell();
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }

  #lookLater(): void {
    if (this.#isClosed) return;
    this.#cancelLook = startTimer(
      () => {
        const isWatched = this.#listeners.size + this.#foreignListeners.size > 0;
        const looking = isWatched ? this.refresh().catch(() => {}) : Promise.resolve();
        void looking.then(() => this.#lookLater());
      },
      this.#isHeard() ? HEARD_MS : SILENT_MS,
      "background",
    );
  }
}
