/**
 * The port between the runtime (aggregates, projections, process managers) and the store that keeps the events. It speaks
 * of events and positions, never of files, so that a database or a browser store can implement it too. The rules in
 * `testing/contract/` check an implementation.
 */

import type { CutKind } from "../cut.ts";
import type { MadeInEra, PersonalParts } from "./era.ts";
import type { BackupOptions, BackupReport, ReclaimOptions, ReclaimReport, StoreSizes } from "./store-upkeep.ts";

/** Names one stream: all events of one aggregate instance. */
export interface StreamName {
  readonly type: string;
  readonly id: string;
}

/** Metadata as it is stored: the user's fields plus `correlation_id`, `causation_id`, `source_device`, `idempotency_key`. */
export type StoredMeta = Readonly<Record<string, unknown>>;

/** An event that is not written yet. `data` is JSON text, serialised once for every copy that is kept. */
export interface EventDraft {
  readonly type: string;
  /** JSON text of the payload, `"null"` for none. */
  readonly data: string;
  /** How many upcasting steps the payload has already been through; 0 for a type without upcasters. */
  readonly schemaVersion: number;
  /** Milliseconds since 1970. */
  readonly timestamp: number;
  readonly eventId?: string | undefined;
  readonly actor?: string | undefined;
  readonly meta?: StoredMeta | undefined;
}

/** An event as it was read back. Implementations may parse its fields on first use. */
export interface StoredEvent {
  readonly stream: StreamName;
  readonly type: string;
  readonly data: unknown;
  readonly schemaVersion: number;
  /** 1, 2, 3 … within the stream. What readers get begins at the last cut, and has no holes from there on. */
  readonly version: number;
  /** 1, 2, 3 … over the whole store. Readers do not get the positions of dropped events. */
  readonly position: number;
  /** Milliseconds since 1970. */
  readonly timestamp: number;
  readonly eventId: string | undefined;
  readonly actor: string | undefined;
  readonly meta: StoredMeta | undefined;
}

/**
 * The part of a commit that goes to one stream. Without events it only checks: the commit happens if the stream has the
 * expected version. That is how a decision to write nothing is checked against the newest version of its stream, so a store
 * must check it exactly like an append with events.
 */
export interface StreamAppend {
  readonly stream: StreamName;
  /** The version that the stream must have for the commit to happen; 0 for a stream without events. */
  readonly expectedVersion: number;
  readonly events: readonly EventDraft[];
  /**
   * The append is a cut: no earlier event of the stream counts from this commit on. The first of its events is of the type that
   * `CUT_TYPES` names, with a `CutData` or a `CompactionData` as its payload. A stream whose last event is a deletion is not listed.
   */
  readonly cut?: CutKind | undefined;
}

/** What could not be delivered: a command that cannot succeed, or an event that a subscription cannot handle. */
export interface StoredDeadLetter {
  /** Unique in the store. */
  readonly key: string;
  /** The rest is the runtime's; plain JSON. */
  readonly letter: Readonly<Record<string, unknown>>;
}

/** What a consumer notes in the log, in the same commit as its effects. */
export interface ConsumerNote {
  /** 1, 2, 3 … within the consumer, without holes. */
  readonly sequence: number;
  /** The consumer's own; plain JSON. */
  readonly note: unknown;
}

/** The part of a commit that says how far a consumer has come. */
export interface ConsumerAppend extends MadeInEra {
  /** A process manager's name; names of the runtime's own consumers have a colon. */
  readonly name: string;
  /** Sequence that the consumer's last note must have for the commit to happen; 0 for none. The new note gets the next one. */
  readonly expectedSequence: number;
  readonly note: unknown;
  readonly deadLetters?: readonly StoredDeadLetter[];
  /** Keys of dead letters that are settled. */
  readonly settledLetters?: readonly string[];
}

/**
 * Commits that rest on each other: each was decided as if the ones before it were written. Once one of them conflicts, fails
 * or ends unknown, the store writes none after it, whatever its expected version: it answers them with a conflict or a failure.
 */
export interface CommitChain {
  /** Set by the store. */
  broken: boolean;
}

export interface Commit {
  /** Streams, each named once. All of the commit is written or nothing. */
  readonly appends: readonly StreamAppend[];
  readonly consumer?: ConsumerAppend;
  readonly chain?: CommitChain;
}

export type CommitResult =
  /** `position` is that of the commit's last event; its events have the positions just before it, in the order of the request. */
  | { readonly ok: true; readonly position: number }
  /** Nothing was written: `stream` had another version. */
  | { readonly ok: false; readonly stream: StreamName; readonly actualVersion: number }
  /** Nothing was written: the consumer has come further, in another process. */
  | { readonly ok: false; readonly consumer: string; readonly actualSequence: number };

/** A derived state that is kept to save replaying. Losing or damaging it must never change a result. */
export interface Snapshot extends MadeInEra {
  readonly state: unknown;
  /** Version of the last event that is folded into `state`. */
  readonly version: number;
  /** Position of that event. */
  readonly position: number;
  /** Identifies the code that made it; a snapshot with another fingerprint is not used. */
  readonly fingerprint: string;
}

/** A consumer's place in the store's global order, with what it has made of the events so far. A cache like a snapshot. */
export interface Checkpoint extends MadeInEra {
  readonly state: unknown;
  /** Position of the last event that is folded in. */
  readonly position: number;
  /** Identifies the code that made it; missing in one that the Rust crate wrote. */
  readonly fingerprint?: string | undefined;
  /** From the Rust crate: how many events of each stream (`<type>/<id>`) are folded in; all others are not. */
  readonly versions?: ReadonlyMap<string, number> | undefined;
  /** There is a checkpoint of the Rust crate that cannot be used, so it is unknown what the crate has handled. All else is empty. */
  readonly untrusted?: UntrustedCheckpoint | undefined;
  /** Digest of the event at `position`, to tell whether the store still has it, and a position before it from which to look. */
  readonly last?: { readonly since: number; readonly event: string } | undefined;
  /** Position of the last event when its reader began; left out if that is not after `position`. Later compactions do not count for it. */
  readonly horizon?: number | undefined;
  /** The runtime's: how some events were folded, to notice changed code. Plain JSON. */
  readonly samples?: readonly unknown[] | undefined;
}

/** A checkpoint of the Rust crate that is damaged, or does not belong to the streams. */
export interface UntrustedCheckpoint {
  readonly file: string;
  /** The problem, as a clause. */
  readonly problem: string;
}

/** The kinds of consumers that keep checkpoints; `aggregate` is for what all snapshots of a type have in common, `model` for what all readers have. */
export type ConsumerKind = "projection" | "process-manager" | "subscription" | "aggregate" | "model";

/** What an implementation can do beyond the minimum, for the contract suite and for callers that care. */
export interface EventStoreCapabilities {
  /** Commits are on stable storage when `commit` resolves, and are there after a reopening. */
  readonly durable: boolean;
  /** Several processes may have the same store open. */
  readonly multiProcess: boolean;
}

export interface ReadStreamOptions {
  /** First version to read; 1 if left out. */
  readonly from?: number;
}

/** Types of events, by type of aggregate. */
export type EventTypes = ReadonlyMap<string, ReadonlySet<string>>;

export interface ReadAllOptions {
  /** First position to read; 1 if left out. */
  readonly from?: number;
  /** Last position to read; the head if left out. */
  readonly to?: number | undefined;
  /** The store may leave out all other events, and save reading them. */
  readonly wanted?: EventTypes | undefined;
  /**
   * The caller looks for events of these aggregates with other types than these. The store may leave out all other events. At most
   * one of `wanted` and `undeclared` is given.
   */
  readonly undeclared?: EventTypes | undefined;
  /**
   * Position of the last event when the reader began; the head at the time of the call if left out. Later compactions do not count for
   * the reader: it gets the events that they have replaced, and not those in their place. Fails with `EVENTS_RECLAIMED` if the store
   * does not have such an event any more.
   */
  readonly horizon?: number | undefined;
  /** The reader has passed the events up to this position, and does not miss those that the store does not have any more. */
  readonly passed?: number | undefined;
  /**
   * Reads dropped events too, as far as the store still has them, and the first events of compactions. Of a dropped event, only the
   * stream, the version and the position are certain. Not together with `wanted`, `undeclared` or `horizon`.
   */
  readonly dropped?: boolean | undefined;
}

export type { BackupOptions, BackupReport, ReclaimOptions, ReclaimReport, StoreSizes };

/** How far a store and its process managers are. */
export interface StoreProgress {
  /** Position of the last event. */
  readonly head: number;
  /** By name, the sequence of each process manager's last note: 0 if it has dead letters only. */
  readonly consumers: ReadonlyMap<string, number>;
}

/** The exclusive use of a name. */
export interface NameLease {
  /** False if another process may have taken the name all the same, because the lock's file was removed. */
  isHeld(): boolean;
  release(): void;
}

export interface EventStore extends PersonalParts {
  readonly capabilities: EventStoreCapabilities;

  /**
   * Names the place of the events, e.g. the path of a directory: two open stores with the same place have the same events. A store
   * without it is not compared with others.
   */
  readonly location?: string;

  /**
   * How often, in milliseconds, a waiting reader has to call `refresh` to notice the commits of other processes. A store
   * without it is never polled: it calls its watchers by itself, or no other process can commit to it.
   */
  readonly pollInterval?: number;

  /**
   * Appends atomically, in the order of the calls. Resolves when the commit is durable (in the store's mode). A rejection
   * means that nothing was written, with one exception: after `COMMIT_UNKNOWN` the commit may have been written, or may still
   * be. A store must not answer so before it has looked for the commit, and must never send it again blindly. A store that cannot
   * be reached rejects with `STORE_UNAVAILABLE` if it certainly wrote nothing.
   */
  commit(commit: Commit): Promise<CommitResult>;

  /**
   * Reads a stream's committed events in order, in batches, from its last cut on: the cut's first event is among them. If a cut
   * is committed while a reader goes on, the reader may get older events before it. An unknown stream has none.
   *
   * This read and all others see at least the commits of this process and those that the last awaited `refresh` saw. They may
   * see more. On a store with `refreshNow` they see everything committed so far. A read that the store cannot answer rejects
   * with `STORE_UNAVAILABLE`.
   */
  readStream(stream: StreamName, options?: ReadStreamOptions): AsyncIterable<readonly StoredEvent[]>;

  /**
   * Reads all committed events from a position on, up to `to` or the head at the time of the call, in batches.
   * A batch may be empty: it says that reading goes on. Events before a cut of their stream are left out, and so is the first event of a
   * compaction; that of a deletion is not.
   */
  readAll(options?: ReadAllOptions): AsyncIterable<readonly StoredEvent[]>;

  /**
   * Whether an event was committed at this position and was dropped since by a cut of its stream, of either kind. With `horizon`, only
   * cuts up to that position count.
   */
  isDropped(position: number, horizon?: number): Promise<boolean>;

  /**
   * Position of the last committed event, dropped or not, that readers here can see; 0 without events. Commits that are given to this
   * store after the call are after it.
   */
  head(): Promise<number>;

  /** The names of the consumers that have notes, in the order of their code points. */
  listConsumers(): Promise<readonly string[]>;
  /** A consumer's notes after a sequence, in order: all of them, or the first `limit`. */
  consumerNotes(name: string, afterSequence: number, limit?: number): Promise<readonly ConsumerNote[]>;

  /** How far the store and its consumers are, at one moment. May read all of the store. */
  progress(): Promise<StoreProgress>;

  /** A consumer's dead letters that are not settled, oldest first. */
  deadLetters(name: string): Promise<readonly StoredDeadLetter[]>;
  /** The one with a key, if it is not settled. */
  deadLetter(name: string, key: string): Promise<StoredDeadLetter | undefined>;

  /** A consumer's checkpoint, or nothing if there is none that can be trusted. */
  loadCheckpoint(kind: ConsumerKind, name: string): Promise<Checkpoint | undefined>;
  /** A consumer's checkpoint that the Rust crate has written, whether there is another one or not. */
  loadForeignCheckpoint?(kind: ConsumerKind, name: string): Promise<Checkpoint | undefined>;
  /** The names of the consumers of a kind that have a checkpoint, in the order of their code points. */
  listCheckpoints(kind: ConsumerKind): Promise<readonly string[]>;
  /** Replaces a consumer's checkpoint as a whole. */
  saveCheckpoint(kind: ConsumerKind, name: string, checkpoint: Checkpoint): Promise<void>;

  /**
   * Takes the exclusive use of a subscription's name, which ends with `release` or with the process. `undefined` if another store has it,
   * in this process or another. Only a storage that can has it.
   */
  acquireName?(name: string): Promise<NameLease | undefined>;

  /** How many bytes the store takes in its storage, if it can tell. An estimate. */
  sizes?(): Promise<StoreSizes>;

  /**
   * Copies the store to a directory, up to a commit that is not before the last one that was acknowledged before the call. Durable when
   * it resolves. Only a store that keeps its events in a directory has it.
   */
  backup?(directory: string, options: BackupOptions): Promise<BackupReport>;

  /**
   * Removes dropped events for good, and makes the rest smaller, beside readers and writers of all processes. Only a store that keeps its
   * events in a directory has it.
   */
  reclaim?(options: ReclaimOptions): Promise<ReclaimReport>;

  /** All streams that have events and are not deleted, or those of one type, in the order of their ids. */
  listStreams(type?: string): Promise<readonly StreamName[]>;

  /** Throws when `stream` cannot be stored (bad, too long or colliding id). Does no I/O. */
  checkName(stream: StreamName): void;

  /**
   * Sees every commit that was acknowledged before the call, in any process, and calls the watchers for those that are new.
   * Resolves when the watchers have been called, also those that an earlier call began to tell. With `stream`, the commits to
   * that stream are enough.
   */
  refresh(stream?: StreamName): Promise<void>;

  /**
   * What `refresh` does, without waiting. Only a store that can look without waiting has it. On a store without it, the
   * runtime awaits `refresh` before it reads something that must be new, and checks a decision to write nothing by a
   * commit without events.
   */
  refreshNow?(): void;

  /**
   * Calls `listener` for each stream that another process has committed to, once for each time this is noticed. Commits of this
   * store never call it: they would make every instance load again. Events that the Rust crate has appended, and this store
   * has added to its order, do. Returns the function that ends it.
   */
  watchForeign(listener: (stream: StreamName) => void): () => void;

  /**
   * Calls `listener` after each commit that readers here can see: after one of this store at once, after one of another process
   * when it is noticed. Returns the function that ends it.
   *
   * The order for a commit of this store is: readers can see it, the watchers are called, `commit` resolves. A reader may so have an
   * event before its command is answered. The runtime makes up for that: the state of an instance has every event that a reader of
   * the store could see when the state was asked for.
   */
  watch(listener: () => void): () => void;

  /** The newest snapshot of a stream, or nothing if there is none that can be trusted. */
  loadSnapshot(stream: StreamName, fingerprint: string): Promise<Snapshot | undefined>;
  /** Keeps a snapshot of `stream`. A failure is not an error: it is only a cache. Resolves when done. */
  saveSnapshot(stream: StreamName, snapshot: Snapshot): Promise<void>;

  /** The runtime no longer holds this stream in memory, so the store may forget it too. Never throws. */
  release(stream: StreamName): void;

  close(): Promise<void>;
}
