import { type FoldSample, FoldSamples } from "../aggregate/fold-samples.ts";
import { EventfoldError } from "../errors.ts";
import type { EventStore, StoredEvent, UntrustedCheckpoint } from "../event-store/event-store.ts";
import { fullNameOf } from "../stream-names.ts";
import { refreshBeforeReading } from "../event-store/freshness.ts";
import { cacheProblem } from "../json.ts";
import { projecting, type ProjectTrace, staleCache, uncachedState, untrustedProgress } from "../tracing/tracing.ts";
import type { SliceLock } from "./slice-lock.ts";
import { ChangedHistoryError, LogCursor } from "./log-cursor.ts";
import { failedFold, ProjectionFold } from "./projection-fold.ts";
import type { ProjectionDefinition } from "./projection.ts";
import type { UnknownEvents } from "./unknown-events.ts";
import { monotonicNow, startTimer } from "../real-timers.ts";

/** A checkpoint is saved after this many events or this much time, and on close. */
const SAVE_EVERY_EVENTS = 10_000;
const SAVE_AFTER_MS = 1000;
/** A rebuild follows what is committed meanwhile this often; the next read folds the rest. */
const REBUILD_PASSES = 3;

export interface RebuildOptions {
  /** Ends the rebuild with the signal's reason; the old state stays. */
  readonly signal?: AbortSignal;
  /** Called now and then with the position reached and the position to reach. */
  readonly onProgress?: (progress: { readonly position: number; readonly head: number }) => void;
}

/** A state and the cursor that it was folded with. Between two events they belong together. */
interface Folded {
  state: unknown;
  readonly cursor: LogCursor;
  /** From a checkpoint of the Rust crate: versions that are folded in already. A stream that has reached its version is removed. */
  readonly versions: Map<string, number>;
  readonly samples: FoldSamples;
}

/** A catch-up of more events than this takes the lock. */
const LONG = 2000;

/** Keeps one projection's state in memory and brings it up to date when it is read. */
export class ProjectionRunner {
  readonly #definition: ProjectionDefinition;
  readonly #events: EventStore;
  readonly #lock: SliceLock;
  readonly #unknown: UnknownEvents;
  readonly #fold: ProjectionFold;
  #folded: Folded | undefined;
  #working: Promise<void> | undefined;
  readonly #rebuilds = new Set<Promise<void>>();
  #saved = { position: 0, time: monotonicNow() };
  #cancelSave: (() => void) | undefined;
  #saving: Promise<void> = Promise.resolve();
  readonly #unwatch: (() => void) | undefined;
  #isClosed = false;
  #isReported = false;

  /** All projections of a store share the lock. */
  constructor(definition: ProjectionDefinition, events: EventStore, lock: SliceLock, unknown: UnknownEvents) {
    this.#definition = definition;
    this.#events = events;
    this.#lock = lock;
    this.#unknown = unknown;
    this.#fold = new ProjectionFold(definition);
    this.#unwatch = events.watchEra?.(() => {
      // Its state may say more than the events still do.
      this.#folded = undefined;
      this.#saved.position = 0;
    });
  }

  /** Catches up with everything committed so far. The state is the live one: later events change it. */
  async read(): Promise<{ readonly state: unknown; readonly position: number }> {
    await refreshBeforeReading(this.#events);
    for (;;) {
      const head = await this.#events.head();
      const checking = this.#unknown.check(this.#fold.wanted, head);
      if (checking !== undefined) await checking;
      const folded = this.#folded;
      if (folded?.cursor.isVerified === true && folded.cursor.position >= head)
        return { state: folded.state, position: folded.cursor.position };
      this.#working ??= this.#traced(head, (count) => this.#catchUp(head, count)).finally(
        () => (this.#working = undefined),
      );
      await this.#working;
    }
  }

  /** How far it is, or will be when it is read next. */
  async position(): Promise<number> {
    return (this.#folded ?? (await this.#load())).cursor.position;
  }

  /** Folds all events again from the first; until that is done, `read` gives the old state. */
  async rebuild(options: RebuildOptions): Promise<void> {
    const work = this.#traced(undefined, (count) => this.#rebuild(options, count));
    this.#rebuilds.add(work);
    try {
      await work;
    } finally {
      this.#rebuilds.delete(work);
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancelSave?.();
    // The readers and rebuilds under way get the error.
    await Promise.allSettled([this.#working, ...this.#rebuilds]);
    this.#cancelSave?.();
    await this.#save();
    this.#unwatch?.();
  }

  /** `head` is undefined for a rebuild. */
  #traced(head: number | undefined, work: (count: (events: number) => void) => Promise<void>): Promise<void> {
    const begin = (): ProjectTrace => ({
      projection: this.#definition.name,
      from: head === undefined ? 0 : (this.#folded?.cursor.position ?? 0),
      head,
      rebuild: head === undefined,
    });
    return projecting.promise(begin, async (trace) => {
      let events = 0;
      await work((count) => (events += count));
      if (trace === undefined) return;
      trace.events = events;
      trace.position = this.#folded?.cursor.position ?? 0;
    });
  }

  async #catchUp(head: number, count: (events: number) => void): Promise<void> {
    const { era } = this.#events;
    const loaded = this.#folded ?? (await this.#load());
    // Of another era: the next try loads again.
    if (this.#events.era !== era) return;
    // A rebuild may have come first.
    const folded = (this.#folded ??= loaded);
    try {
      const isLong = head - folded.cursor.position > LONG;
      const batches = folded.cursor.read(head);
      for await (const batch of isLong ? this.#lock.inSlices(batches) : batches) {
        this.#checkOpen();
        if (this.#events.era !== era) return;
        for (const event of batch) this.#advance(folded, event);
        count(batch.length);
        this.#saveInPassing(folded);
      }
    } catch (error) {
      if (!(error instanceof ChangedHistoryError)) throw error;
      if (this.#folded === folded) this.#folded = this.#fresh();
      return;
    }
    this.#scheduleSave(folded);
  }

  async #load(): Promise<Folded> {
    this.#saved = { position: 0, time: monotonicNow() };
    const checkpoint = await this.#events.loadCheckpoint("projection", this.#definition.name);
    if (checkpoint?.untrusted !== undefined) this.#reportUntrusted(checkpoint.untrusted);
    if (checkpoint?.versions !== undefined) {
      // Reads all events: those that are counted off are of any type.
      const versions = stillToCome(checkpoint.versions);
      const cursor = new LogCursor(this.#events, 0);
      return { state: checkpoint.state, cursor, versions, samples: new FoldSamples() };
    }
    if (checkpoint === undefined || checkpoint.fingerprint !== this.#fold.fingerprint) return this.#fresh();
    const samples = (checkpoint.samples ?? []) as readonly FoldSample[];
    if (!this.#foldsAlike(samples)) return this.#fresh();
    this.#saved.position = checkpoint.position;
    return {
      state: checkpoint.state,
      cursor: new LogCursor(this.#events, checkpoint, this.#fold.wanted),
      versions: new Map(),
      samples: new FoldSamples(samples),
    };
  }

  /** Whether the handlers still do with some events what they did when the checkpoint was made. */
  #foldsAlike(samples: readonly FoldSample[]): boolean {
    const found = this.#fold.differing(samples);
    if (found === undefined) return true;
    const { event, isRepeatable } = found;
    staleCache.publish(() => ({
      kind: "projection",
      name: this.#definition.name,
      event: `${event.stream.type}.${event.type}`,
      isRepeatable,
    }));
    return false;
  }

  #reportUntrusted({ file, problem }: UntrustedCheckpoint): void {
    untrustedProgress.publish(() => ({
      kind: "projection",
      name: this.#definition.name,
      problem: `the checkpoint of the Rust crate in ${file} cannot be trusted: ${problem}; all events are folded again`,
    }));
  }

  #fresh(): Folded {
    return {
      state: this.#fold.initial,
      cursor: new LogCursor(this.#events, 0, this.#fold.wanted),
      versions: new Map(),
      samples: new FoldSamples(),
    };
  }

  #advance(folded: Folded, event: StoredEvent): void {
    if (folded.versions.size === 0 || !isFoldedIn(folded.versions, event)) {
      try {
        folded.state = this.#fold.next(folded.state, event, folded.samples);
      } catch (cause) {
        // The handler may have changed half of the state, so it is discarded. The next read starts from the checkpoint.
        if (this.#folded === folded) this.#folded = undefined;
        throw failedFold(this.#definition.name, event, cause);
      }
    }
    folded.cursor.pass(event);
  }

  async #rebuild(options: RebuildOptions, count: (events: number) => void): Promise<void> {
    const { signal, onProgress } = options;
    signal?.throwIfAborted();
    await refreshBeforeReading(this.#events);
    const { era } = this.#events;
    const fresh = this.#fresh();
    // A bounded number of passes: while others write all the time, there is always something new.
    for (let pass = 0; pass < REBUILD_PASSES && fresh.cursor.position < (await this.#events.head()); pass++) {
      const head = await this.#events.head();
      await this.#unknown.check(this.#fold.wanted, head);
      for await (const batch of this.#lock.inSlices(fresh.cursor.read(head))) {
        signal?.throwIfAborted();
        this.#checkOpen();
        if (this.#events.era !== era) break;
        for (const event of batch) this.#advance(fresh, event);
        count(batch.length);
        const { position } = fresh.cursor;
        onProgress?.({ position, head: Math.max(head, position) });
      }
    }
    signal?.throwIfAborted();
    this.#checkOpen();
    if (this.#events.era !== era) return this.#rebuild(options, count);
    this.#folded = fresh;
    this.#saved.position = -1;
    await this.#save();
  }

  /** During a long catch-up: what is folded must not be lost with the process. */
  #saveInPassing({ cursor }: Folded): void {
    const { position, time } = this.#saved;
    if (cursor.position - position >= SAVE_EVERY_EVENTS && monotonicNow() - time >= SAVE_AFTER_MS) void this.#save();
  }

  #scheduleSave({ cursor }: Folded): void {
    if (cursor.position - this.#saved.position >= SAVE_EVERY_EVENTS) void this.#save();
    else if (cursor.position !== this.#saved.position) this.#saveLater();
  }

  #saveLater(): void {
    if (this.#cancelSave !== undefined || this.#isClosed) return;
    const save = (): void => {
      this.#cancelSave = undefined;
      void this.#save();
    };
    this.#cancelSave = startTimer(save, SAVE_AFTER_MS, "background");
  }

  #save(): Promise<void> {
    this.#saving = this.#saving.then(async () => {
      const folded = this.#folded;
      // Events that the Rust crate has folded in and our log does not have yet are only in its checkpoint, so that one counts on.
      if (folded === undefined || !folded.cursor.isVerified || folded.versions.size > 0) return;
      const mark = folded.cursor.mark();
      if (mark.position === this.#saved.position) return;
      const before = this.#saved.position;
      this.#saved = { position: mark.position, time: monotonicNow() };
      const problem = cacheProblem(folded.state, "changing");
      if (problem !== undefined) {
        this.#report(problem);
        return;
      }
      try {
        await this.#events.saveCheckpoint("projection", this.#definition.name, {
          state: folded.state,
          fingerprint: this.#fold.fingerprint,
          samples: folded.samples.all,
          ...mark,
          era: this.#events.era,
        });
      } catch {
        // Only a cache: without it the next opening folds more events.
        this.#saved.position = before;
        this.#saveLater();
      }
    });
    return this.#saving;
  }

  /** Says once why the state is not cached. */
  #report(problem: string): void {
    if (!this.#isReported) uncachedState.publish(() => ({ kind: "projection", name: this.#definition.name, problem }));
    this.#isReported = true;
  }

  #checkOpen(): void {
    if (this.#isClosed) throw new EventfoldError("STORE_CLOSED", "the store was closed");
  }
}

function stillToCome(versions: ReadonlyMap<string, number>): Map<string, number> {
  return new Map([...versions].filter(([, version]) => version > 0));
}

/** Whether the Rust crate has folded an event in. Forgets a stream at its last folded version. */
function isFoldedIn(versions: Map<string, number>, { stream, version }: StoredEvent): boolean {
  const key = fullNameOf(stream);
  const last = versions.get(key) ?? 0;
  if (version >= last) versions.delete(key);
  return version <= last;
}
