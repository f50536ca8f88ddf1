import type { Channel, TracingChannel } from "node:diagnostics_channel";
import { diagnosticsChannel } from "./diagnostics-channel.ts";
import { monotonicNow } from "../real-timers.ts";

/** The message of an operation while it runs. Its result is added before the end is published. */
interface Traced {
  /** How long it took, in milliseconds. */
  duration?: number;
}

export interface ExecuteTrace extends Traced {
  readonly aggregate: string;
  readonly id: string;
  readonly command: string;
  readonly actor: string | undefined;
  readonly correlationId: string | undefined;
  /** The metadata of the command's context. */
  readonly metadata: Readonly<Record<string, unknown>> | undefined;
  /** A subscriber of `start` may set it: plain JSON that is added to the metadata of the command's events. */
  extraMetadata?: Readonly<Record<string, unknown>>;
  /** How many events it made. */
  events?: number;
  version?: number;
  position?: number;
  /** The type of the rejection, when the command was rejected. */
  rejection?: string;
}

export interface CommitTrace extends Traced {
  readonly streams: readonly { readonly aggregate: string; readonly id: string; readonly events: number }[];
  readonly events: number;
  /** The ids of its events. */
  readonly eventIds: readonly string[];
  /** The process manager whose progress is in the commit. */
  readonly processManager: string | undefined;
  /** The message of `eventfold-es:execute` whose command made the events. */
  readonly execution: ExecuteTrace | undefined;
  /** The id of the event whose reaction the commit notes. */
  readonly causeId: string | undefined;
  position?: number;
  /** Another commit came first; nothing was written. */
  conflict?: boolean;
}

export interface LoadTrace extends Traced {
  readonly aggregate: string;
  readonly id: string;
  /** Version of the snapshot that loading began with; 0 for none. */
  snapshotVersion?: number;
  /** How many events were read. */
  events?: number;
  version?: number;
  position?: number;
}

export interface ProjectTrace extends Traced {
  readonly projection: string;
  /** Position before. */
  readonly from: number;
  /** Position that it catches up to; `undefined` for a rebuild, which ends at the head. */
  readonly head: number | undefined;
  /** Whether everything is folded again from the first event. */
  readonly rebuild: boolean;
  /** How many events were handled. */
  events?: number;
  position?: number;
}

export interface ReactTrace extends Traced {
  readonly processManager: string;
  readonly aggregate: string;
  readonly id: string;
  /** The event reacted to. */
  readonly event: string;
  readonly eventId: string;
  readonly position: number;
  /** The event's metadata as it is stored. */
  readonly metadata: Readonly<Record<string, unknown>> | undefined;
  /** The reaction was carried out earlier. It runs again for the manager's state, and its commands are discarded. */
  readonly isReplay: boolean;
  /** How many commands the reaction asks for, now or later. */
  commands?: number;
}

export interface DispatchTrace extends Traced {
  /** The process manager whose command it is; `undefined` for one of `dispatch` and `dispatchAll`. */
  readonly processManager: string | undefined;
  readonly commands: readonly { readonly aggregate: string; readonly id: string; readonly command: string }[];
  /** Position of the event that led to it. */
  readonly cause: number | undefined;
  /** The id of that event. */
  readonly causeId: string | undefined;
  /** The `traceparent` in the metadata of that event. */
  readonly causeTraceparent: string | undefined;
  /** A subscriber of `start` may set it: plain JSON that is added to the metadata of the commands' events. */
  extraMetadata?: Readonly<Record<string, unknown>>;
  events?: number;
  position?: number;
  /** The command became a dead letter. */
  deadLetter?: boolean;
  /** Why it became one. */
  failure?: unknown;
}

/**
 * An operation with a beginning and an end, on the five channels `tracing:<name>:start`, `end`, `asyncStart`, `asyncEnd`, `error`.
 * Without Node.js there are no channels, and it only runs the operation.
 */
export class Trace<T extends Traced> {
  readonly #channel: TracingChannel<unknown, T> | undefined;

  constructor(name: string) {
    this.#channel = diagnosticsChannel?.tracingChannel<unknown, T>(name);
  }

  /** Whether any of the channels has a subscriber. A caller that checks this first need not build the arguments of `promise` and `sync`. */
  get isWatched(): boolean {
    return this.#watched() !== undefined;
  }

  /**
   * Runs `action`. If a channel has a subscriber, `action` gets the object that `begin` makes, to add its results. Otherwise it gets
   * nothing, and the call costs a few nanoseconds.
   */
  promise<R>(begin: () => T, action: (trace: T | undefined) => Promise<R>): Promise<R> {
    const channel = this.#watched();
    if (channel === undefined) return action(undefined);
    const trace = begin();
    return channel.tracePromise(() => timed(trace, () => action(trace)), trace, undefined);
  }

  /** The same for a synchronous operation. */
  sync<R>(begin: () => T, action: (trace: T | undefined) => R): R {
    const channel = this.#watched();
    if (channel === undefined) return action(undefined);
    const trace = begin();
    const run = (): R => {
      const started = monotonicNow();
      try {
        return action(trace);
      } finally {
        trace.duration = monotonicNow() - started;
      }
    };
    return channel.traceSync(run, trace, undefined);
  }

  #watched(): TracingChannel<unknown, T> | undefined {
    const channel = this.#channel;
    if (channel === undefined) return undefined;
    const { start, end, asyncStart, asyncEnd, error } = channel;
    return start.hasSubscribers ||
      asyncEnd.hasSubscribers ||
      end.hasSubscribers ||
      asyncStart.hasSubscribers ||
      error.hasSubscribers
      ? channel
      : undefined;
  }
}

async function timed<R>(trace: Traced, action: () => Promise<R>): Promise<R> {
  const started = monotonicNow();
  try {
    return await action();
  } finally {
    trace.duration = monotonicNow() - started;
  }
}

/** A single event, on the plain channel of its name. */
export class Notice<T extends object> {
  readonly #channel: Channel | undefined;

  constructor(name: string) {
    this.#channel = diagnosticsChannel?.channel(name);
  }

  /** Whether the channel has a subscriber. */
  get isWatched(): boolean {
    return this.#channel?.hasSubscribers === true;
  }

  publish(message: () => T): void {
    if (this.#channel?.hasSubscribers === true) this.#channel.publish(message());
  }
}

export interface InstanceNotice {
  readonly aggregate: string;
  readonly id: string;
  /** Its version, for one that is evicted. */
  readonly version?: number;
}

export interface UnreachableIdsNotice {
  readonly directory: string;
  readonly streams: readonly { readonly type: string; readonly id: string }[];
}

export interface SnapshotNotice {
  readonly aggregate: string;
  readonly id: string;
  readonly version: number;
}

export interface RecoveryNotice {
  readonly directory: string;
  /** Position up to which everything was known to be in the streams' files. */
  readonly from: number;
  /** Position of the last event in the log. */
  readonly position: number;
  /** Bytes of an unfinished commit that were moved to quarantine. */
  readonly tornBytes: number;
}

/** An instance was compacted in the background, because of the rule `compactAfter`, or that has failed. */
export interface CompactionNotice {
  readonly aggregate: string;
  readonly id: string;
  /** How many events were replaced. */
  readonly replaced: number;
  /** Why nothing was written; `undefined` if it was. The next attempt follows after as many events. */
  readonly error: unknown;
}

/** Commands have waited for the lock of the store for a second. Published once for each wait. */
export interface LockWaitNotice {
  readonly directory: string;
  /** How long they have waited, in milliseconds. */
  readonly waited: number;
  /** The process that has the lock; `undefined` if it could not be found out. */
  readonly pid: number | undefined;
  /** The name of its program. */
  readonly command: string | undefined;
  readonly state: "stopped" | "traced" | "waiting for a disk" | "running" | undefined;
  /** Why the process could not be found out. */
  readonly unknown: string | undefined;
}

/** Commits that a store has written together. */
export interface BatchNotice {
  readonly commits: number;
  readonly events: number;
  /** Bytes that were written to the log, or sent to the server. */
  readonly bytes: number;
  /** How many commits wait for the next batch. */
  readonly waiting: number;
  /** How long the writing took, in milliseconds. */
  readonly duration: number;
  /** Whether the batch was on stable storage at the end. */
  readonly isFlushed: boolean;
}

/** The log was flushed for commits that were already acknowledged, with durability `"os"`. */
export interface FlushNotice {
  /** How long it took, in milliseconds. */
  readonly duration: number;
}

export interface DeadLetterNotice {
  readonly processManager: string;
  readonly key: string;
  readonly aggregate: string;
  readonly id: string;
  readonly command: string;
  /** Why it cannot be delivered. */
  readonly reason: string;
}

/** Events of a registered aggregate that its contract does not declare. */
export interface UnknownEventsNotice {
  readonly aggregate: string;
  /** The instance that has met one while it was loaded; `undefined` if the store has looked for them on behalf of other readers. */
  readonly id: string | undefined;
  /** The type of the events. */
  readonly event: string;
  /** How many were found that no earlier notice of this kind has counted. */
  readonly count: number;
  /** Position of the first of them. */
  readonly position: number;
  /** Whether readers pass over them. Otherwise they fail with `UNKNOWN_EVENT`. */
  readonly skipped: boolean;
}

/** A cache that was made by other code, although the definition's own code is the same. */
export interface StaleCacheNotice {
  readonly kind: "snapshots" | "projection" | "process-manager";
  /** The aggregate's type, or the name of the projection or process manager. */
  readonly name: string;
  /** The event that is folded otherwise, as `<aggregate>.<type>`. */
  readonly event: string;
  /** Whether folding it twice makes the same state twice. If not, the code is not deterministic. */
  readonly isRepeatable: boolean;
}

/** It is not known for certain what a consumer has handled. The store says what it does about it. */
export interface UntrustedProgressNotice {
  readonly kind: "projection" | "process-manager";
  readonly name: string;
  /** The finding, and its consequence. */
  readonly problem: string;
}

/** A state that is folded again at each start, because it cannot be cached. Published once for each definition and store. */
export interface UncachedStateNotice {
  readonly kind: "snapshots" | "projection" | "process-manager";
  /** The aggregate's type, or the name of the projection or process manager. */
  readonly name: string;
  /** What JSON cannot hold, with the path to it; or that the code is not deterministic. */
  readonly problem: string;
}

/** A command of one instance, from the mailbox to the answer. */
export const executing: Trace<ExecuteTrace> = new Trace("eventfold-es:execute");
/** A commit, from the queue to stable storage. */
export const committing: Trace<CommitTrace> = new Trace("eventfold-es:commit");
/** An instance that is read into memory, or catches up with events of other processes. */
export const loading: Trace<LoadTrace> = new Trace("eventfold-es:load");
/** A projection that catches up or is rebuilt. */
export const projecting: Trace<ProjectTrace> = new Trace("eventfold-es:project");
/** A process manager's reaction to one event. */
export const reacting: Trace<ReactTrace> = new Trace("eventfold-es:react");
/** A command on its way: from a process manager, or from `dispatch` and `dispatchAll`. */
export const dispatching: Trace<DispatchTrace> = new Trace("eventfold-es:dispatch");

export const instanceLoaded: Notice<InstanceNotice> = new Notice("eventfold-es:instance-loaded");
export const instanceEvicted: Notice<InstanceNotice> = new Notice("eventfold-es:instance-evicted");
export const instanceCompacted: Notice<CompactionNotice> = new Notice("eventfold-es:compaction");
export const snapshotSaved: Notice<SnapshotNotice> = new Notice("eventfold-es:snapshot");
export const storeRecovered: Notice<RecoveryNotice> = new Notice("eventfold-es:recovery");
export const batchWritten: Notice<BatchNotice> = new Notice("eventfold-es:batch");
export const logFlushed: Notice<FlushNotice> = new Notice("eventfold-es:flush");
/** When streams are first searched for foreign lines: ids of the Rust crate whose events are not part of the store. */
export const idsUnreachable: Notice<UnreachableIdsNotice> = new Notice("eventfold-es:unreachable-ids");
/** Another process keeps the lock of the store. */
export const lockAwaited: Notice<LockWaitNotice> = new Notice("eventfold-es:lock-wait");
export const deadLetterWritten: Notice<DeadLetterNotice> = new Notice("eventfold-es:dead-letter");
export const unknownEvents: Notice<UnknownEventsNotice> = new Notice("eventfold-es:unknown-events");
export const staleCache: Notice<StaleCacheNotice> = new Notice("eventfold-es:stale-cache");
export const untrustedProgress: Notice<UntrustedProgressNotice> = new Notice("eventfold-es:untrusted-progress");
export const uncachedState: Notice<UncachedStateNotice> = new Notice("eventfold-es:uncached-state");
