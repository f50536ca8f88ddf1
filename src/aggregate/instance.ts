import { CommandRejectedError, ConflictError, EventfoldError } from "../errors.ts";
import { isTurnLong } from "../event-loop.ts";
import type {
  CommitChain,
  CommitResult,
  EventDraft,
  EventStore,
  StoredEvent,
  StreamName,
} from "../event-store/event-store.ts";
import { tracedCommit } from "../event-store/traced-commit.ts";
import { loading, type LoadTrace, snapshotSaved } from "../tracing/tracing.ts";
import type { AppliedEvent } from "./aggregate.ts";
import { idempotencyKeysOf } from "./context.ts";
import type { RecordedEvent } from "./messages.ts";
import { type AggregateModel, type Command, type Decision, type Environment, freeze } from "./model.ts";
import { inNextTurn, monotonicNow } from "../real-timers.ts";

/** How often a command is decided again because somebody else's events came first. */
const MAX_ATTEMPTS = 100;

/** What a command led to. */
export interface CommandOutcome {
  readonly events: readonly RecordedEvent[];
  readonly state: unknown;
  /** Version of the instance after the command. */
  readonly version: number;
  /** Position of the instance's last event after the command; 0 if it has none. */
  readonly position: number;
}

interface CommandJob {
  readonly kind: "command";
  readonly command: Command;
  attempts: number;
  readonly resolve: (outcome: CommandOutcome) => void;
  readonly reject: (error: unknown) => void;
}

/** Something that needs the instance loaded and, if exclusive, with nothing undecided or unwritten. */
interface AccessJob {
  readonly kind: "read" | "exclusive";
  readonly run: () => void;
  readonly reject: (error: unknown) => void;
}

/** Decided and not settled yet, in order. */
interface Pending {
  readonly job: CommandJob;
  /** Given when the command's commit is under way. */
  readonly commit?: {
    readonly events: readonly AppliedEvent<string, unknown>[];
    readonly state: unknown;
    result?: CommitResult | { readonly failed: unknown };
  };
  /** Given when nothing is to be written: what to answer once everything before it is durable. */
  readonly answer?: () => void;
}

/**
 * One aggregate instance in memory: a mailbox whose commands are decided strictly one after the other.
 *
 * A command is decided on the state that includes the commands before it, also those whose commit is
 * still being flushed, so that many share a flush. What others may see (`committed`) moves on only when
 * a commit is durable. If a commit fails, everything decided on top of it fails with it, and the instance loads itself again; if
 * somebody else's events came first, the commands are decided again on the new state.
 */
export class Instance {
  readonly stream: StreamName;
  readonly #model: AggregateModel;
  readonly #events: EventStore;
  readonly #environment: Environment;

  #loaded = false;
  #busy = false;
  /** Another process has committed to this stream since we read it. */
  #stale = false;
  #exclusive = false;
  /** A command is being decided: what its own `handle` sends here has to wait. */
  #deciding = false;
  /** The rest of the mailbox waits for the event loop's next turn. */
  #deferred = false;
  #state: unknown;
  #version = 0;
  #position = 0;
  /** State and version with all pending commits. */
  #decidedState: unknown;
  #decidedVersion = 0;
  #snapshotVersion = 0;
  #savingSnapshot = false;
  /** Results of earlier commands that are being read back for those with the same key. */
  #readingBack = 0;
  /** Versions of the events of each idempotency key; made when the first command with a key comes. */
  #keys: Map<string, { from: number; to: number }> | undefined;
  /** Ids of all events; made when the first event is injected. */
  #eventIds: Set<string> | undefined;
  #queue: (CommandJob | AccessJob)[] = [];
  #pending: Pending[] = [];
  #inFlight = 0;
  /** What is pending was decided one on top of the other. */
  #chain: CommitChain = { broken: false };
  /** When it was last used, in ms of the monotonic clock. */
  lastUsed: number = monotonicNow();

  constructor(stream: StreamName, model: AggregateModel, events: EventStore, environment: Environment) {
    this.stream = stream;
    this.#model = model;
    this.#events = events;
    this.#environment = environment;
  }

  get isIdle(): boolean {
    return (
      this.#queue.length === 0 &&
      this.#pending.length === 0 &&
      this.#readingBack === 0 &&
      !this.#busy &&
      !this.#exclusive &&
      !this.#savingSnapshot
    );
  }

  /** The version that everybody may see. */
  get version(): number {
    return this.#version;
  }

  markStale(): void {
    this.#stale = true;
  }

  execute(command: Command): Promise<CommandOutcome> {
    return new Promise((resolve, reject) => this.#enqueue({ kind: "command", command, attempts: 0, resolve, reject }));
  }

  /** The committed state. */
  async read(): Promise<CommandOutcome> {
    this.lastUsed = monotonicNow();
    await this.#events.refresh();
    if (!this.#loaded || this.#stale) {
      await new Promise<void>((resolve, reject) => this.#enqueue({ kind: "read", run: resolve, reject }));
    }
    return { events: [], state: this.#state, version: this.#version, position: this.#position };
  }

  /** Waits until nothing is pending and keeps new commands waiting until the lease is given back. */
  lease(): Promise<Lease> {
    return new Promise((resolve, reject) => {
      const run = (): void => {
        this.#exclusive = true;
        resolve(this.#lease());
      };
      this.#enqueue({ kind: "exclusive", run, reject });
    });
  }

  /** State and version at an earlier point: folds from the first event. */
  async at(until: {
    readonly version?: number;
    readonly time?: number;
  }): Promise<{ readonly state: unknown; readonly version: number; readonly position: number }> {
    this.lastUsed = monotonicNow();
    let state = this.#model.initial();
    let version = 0;
    let position = 0;
    for await (const batch of this.#events.readStream(this.stream)) {
      for (const event of batch) {
        if (event.version > (until.version ?? Infinity) || (until.time !== undefined && event.timestamp > until.time))
          return { state: freeze(state), version, position };
        state = this.#model.fold(state, event, this.#environment.onUnknownEvent);
        version = event.version;
        position = event.position;
      }
    }
    if (until.version !== undefined && until.version > version) {
      throw new EventfoldError(
        "VERSION_NOT_FOUND",
        `${this.#name} has version ${version}; there is no version ${until.version} yet`,
      );
    }
    return { state: freeze(state), version, position };
  }

  /** Keeps a snapshot if there is something new in it. */
  async saveSnapshot(): Promise<void> {
    if (!this.#loaded || this.#version <= this.#snapshotVersion || this.#savingSnapshot) return;
    this.#savingSnapshot = true;
    const version = this.#version;
    try {
      await this.#events.saveSnapshot(this.stream, {
        state: this.#state,
        version,
        position: this.#position,
        fingerprint: this.#model.fingerprint,
      });
      this.#snapshotVersion = version;
      snapshotSaved.publish(() => ({ aggregate: this.stream.type, id: this.stream.id, version }));
    } finally {
      this.#savingSnapshot = false;
    }
  }

  #enqueue(job: CommandJob | AccessJob): void {
    this.lastUsed = monotonicNow();
    this.#queue.push(job);
    this.#pump();
  }

  /** Works through the mailbox as far as it can without waiting. */
  #pump(): void {
    while (this.#queue.length > 0 && !this.#busy && !this.#exclusive && !this.#deferred && !this.#deciding) {
      if (isTurnLong()) {
        this.#deferred = true;
        inNextTurn(() => {
          this.#deferred = false;
          this.#pump();
        });
        return;
      }
      if (!this.#loaded || this.#stale) {
        // Reading while commits are under way would mix what is decided with what is there.
        if (this.#pending.length === 0) this.#inBackground(this.#bringUpToDate());
        return;
      }
      const job = this.#queue[0];
      if (job === undefined) return;
      if (job.kind === "exclusive" && this.#pending.length > 0) return;
      if (job.kind === "command" && job.command.context.idempotencyKey !== undefined && this.#keys === undefined) {
        if (this.#pending.length === 0) this.#inBackground(this.#loadKeys());
        return;
      }
      this.#queue.shift();
      if (job.kind !== "command") {
        job.run();
        continue;
      }
      this.#deciding = true;
      try {
        this.#decide(job);
      } finally {
        this.#deciding = false;
      }
    }
  }

  /** Looks for commits of other processes. False when there were some: then the command is decided again. */
  #isFresh(job: CommandJob): boolean {
    this.#events.refreshNow();
    if (!this.#stale) return true;
    this.#queue.unshift(job);
    return false;
  }

  #inBackground(work: Promise<void>): void {
    this.#busy = true;
    work.then(
      () => {
        this.#busy = false;
        this.#pump();
      },
      (error: unknown) => {
        this.#busy = false;
        this.#loaded = false;
        const waiting = this.#queue;
        this.#queue = [];
        for (const job of waiting) job.reject(error);
      },
    );
  }

  #bringUpToDate(): Promise<void> {
    const begin = (): LoadTrace => ({ aggregate: this.stream.type, id: this.stream.id });
    return loading.promise(begin, async (trace) => {
      const before = this.#loaded ? this.#version : 0;
      if (this.#loaded) await this.#catchUp();
      else await this.#load();
      if (trace === undefined) return;
      trace.snapshotVersion = before === 0 ? this.#snapshotVersion : 0;
      trace.events = this.#version - Math.max(before, trace.snapshotVersion);
      trace.version = this.#version;
      trace.position = this.#position;
    });
  }

  async #load(): Promise<void> {
    const snapshot = await this.#events.loadSnapshot(this.stream, this.#model.fingerprint);
    this.#state = snapshot === undefined ? this.#model.initial() : snapshot.state;
    this.#version = snapshot?.version ?? 0;
    this.#position = snapshot?.position ?? 0;
    this.#snapshotVersion = this.#version;
    this.#keys = undefined;
    this.#eventIds = undefined;
    await this.#catchUp();
    // A stream without events has no keys; no need to look later.
    if (this.#version === 0) this.#keys = new Map();
    this.#loaded = true;
  }

  /** Folds the events that came since. On failure nothing has changed, and the next use tries again. */
  async #catchUp(): Promise<void> {
    this.#stale = false;
    let state = this.#state;
    let last: StoredEvent | undefined;
    try {
      for await (const batch of this.#events.readStream(this.stream, { from: this.#version + 1 })) {
        for (const event of batch) {
          state = this.#model.fold(state, event, this.#environment.onUnknownEvent);
          if (this.#keys !== undefined) this.#noteKeys(this.#keys, event);
          if (this.#eventIds !== undefined && event.eventId !== undefined) this.#eventIds.add(event.eventId);
          last = event;
        }
      }
      if (last !== undefined) {
        this.#position = last.position;
        this.#version = last.version;
      }
      this.#state = freeze(state);
    } catch (error) {
      this.#stale = true;
      throw error;
    } finally {
      this.#decidedState = this.#state;
      this.#decidedVersion = this.#version;
    }
  }

  async #loadKeys(): Promise<void> {
    const keys = new Map<string, { from: number; to: number }>();
    for await (const batch of this.#events.readStream(this.stream)) {
      for (const event of batch) if (event.version <= this.#version) this.#noteKeys(keys, event);
    }
    this.#keys = keys;
  }

  async #loadEventIds(): Promise<Set<string>> {
    const ids = new Set<string>();
    for await (const batch of this.#events.readStream(this.stream)) {
      for (const { eventId } of batch) if (eventId !== undefined) ids.add(eventId);
    }
    return ids;
  }

  #noteKeys(keys: Map<string, { from: number; to: number }>, event: StoredEvent): void {
    const { version } = event;
    for (const key of idempotencyKeysOf(event)) {
      const known = keys.get(key);
      if (known === undefined) keys.set(key, { from: version, to: version });
      else if (known.to === version - 1) known.to = version;
    }
  }

  #decide(job: CommandJob): void {
    const { type, context } = job.command;
    const first = context.idempotencyKey === undefined ? undefined : this.#keys?.get(context.idempotencyKey);
    if (first !== undefined) {
      this.#answer(job, () => {
        this.#readingBack++;
        void this.#firstOutcome(first)
          .then(job.resolve, job.reject)
          .finally(() => this.#readingBack--);
      });
      return;
    }
    let decision: Decision;
    try {
      const situation = { id: this.stream.id, state: this.#decidedState, version: this.#decidedVersion };
      decision = this.#model.decide(situation, job.command, this.#environment);
    } catch (error) {
      this.#answer(job, () => job.reject(error));
      return;
    }
    if (decision.kind === "rejection") {
      const { rejection } = decision;
      this.#answer(job, () => job.reject(new CommandRejectedError(this.stream.type, this.stream.id, type, rejection)));
    } else if (decision.drafts.length === 0) {
      this.#answer(job, () =>
        job.resolve({ events: [], state: this.#state, version: this.#version, position: this.#position }),
      );
    } else {
      this.#commit(job, decision.drafts, decision.events, decision.state);
    }
  }

  /**
   * Answers a command that writes nothing, once everything that the decision rests on is durable. A decision on the committed
   * state alone must rest on the newest; one that writes is compared with that when it is committed.
   */
  #answer(job: CommandJob, answer: () => void): void {
    if (this.#pending.length > 0) {
      this.#pending.push({ job, answer });
      return;
    }
    try {
      if (this.#isFresh(job)) answer();
    } catch (error) {
      job.reject(error);
    }
  }

  #commit(
    job: CommandJob,
    drafts: readonly EventDraft[],
    events: readonly AppliedEvent<string, unknown>[],
    state: unknown,
  ): void {
    const expectedVersion = this.#decidedVersion;
    const pending: Pending = { job, commit: { events, state } };
    this.#decidedState = state;
    this.#decidedVersion += drafts.length;
    const key = job.command.context.idempotencyKey;
    if (key !== undefined) this.#keys?.set(key, { from: expectedVersion + 1, to: this.#decidedVersion });
    this.#pending.push(pending);
    this.#inFlight++;
    const settle = (result: CommitResult | { readonly failed: unknown }): void => {
      this.#inFlight--;
      if (pending.commit !== undefined) pending.commit.result = result;
      this.#settle();
    };
    const append = { stream: this.stream, expectedVersion, events: drafts };
    tracedCommit(this.#events, { appends: [append], chain: this.#chain }).then(settle, (failed: unknown) =>
      settle({ failed }),
    );
  }

  /** Answers, in order, what is settled. */
  #settle(): void {
    for (let front = this.#pending[0]; front !== undefined; front = this.#pending[0]) {
      if (front.commit !== undefined) {
        const { result, events, state } = front.commit;
        if (result === undefined) break;
        if ("failed" in result || !result.ok) {
          // What was decided on top of it fails too, each by its own commit: wait until all of them know.
          if (this.#inFlight === 0) this.#unwind(result);
          return;
        }
        this.#state = state;
        this.#version += events.length;
        this.#position = result.position;
        for (const { eventId } of events) this.#eventIds?.add(eventId);
        front.job.resolve({
          events: atPositions(events, result.position),
          state,
          version: this.#version,
          position: result.position,
        });
      } else {
        front.answer?.();
      }
      this.#pending.shift();
    }
    this.lastUsed = monotonicNow();
    if (this.#version - this.#snapshotVersion >= this.#model.snapshotEvery && !this.#savingSnapshot)
      void this.saveSnapshot();
    this.#pump();
  }

  #unwind(
    cause: { readonly failed: unknown } | { readonly ok: false; readonly actualVersion: number } | CommitResult,
  ): void {
    const undone = this.#pending;
    this.#pending = [];
    this.#chain = { broken: false };
    this.#decidedState = this.#state;
    this.#decidedVersion = this.#version;
    if ("failed" in cause) {
      // Whatever is on disk now is read again before the next decision.
      this.#loaded = false;
      this.#keys = undefined;
      for (const { job } of undone) job.reject(cause.failed);
    } else {
      this.#stale = true;
      this.#forgetKeysAfter(this.#version);
      const again: CommandJob[] = [];
      for (const { job } of undone) {
        if (++job.attempts < MAX_ATTEMPTS) again.push(job);
        else
          job.reject(
            new ConflictError(
              this.stream.type,
              this.stream.id,
              this.#version,
              "actualVersion" in cause ? cause.actualVersion : this.#version,
            ),
          );
      }
      this.#queue.unshift(...again);
    }
    this.#pump();
  }

  #forgetKeysAfter(version: number): void {
    for (const [key, { from }] of this.#keys ?? []) if (from > version) this.#keys?.delete(key);
  }

  /** The result of the command that had the same idempotency key, read back. */
  async #firstOutcome(versions: { readonly from: number; readonly to: number }): Promise<CommandOutcome> {
    const events: RecordedEvent[] = [];
    for await (const batch of this.#events.readStream(this.stream, { from: versions.from })) {
      for (const event of batch) if (event.version <= versions.to) events.push(this.#model.recorded(event));
    }
    const { state, version, position } = await this.at({ version: versions.to });
    return { events, state, version, position };
  }

  #lease(): Lease {
    return {
      stream: this.stream,
      situation: () => ({ id: this.stream.id, state: this.#state, version: this.#version }),
      first: async (key) => {
        if (this.#keys === undefined) await this.#loadKeys();
        const first = this.#keys?.get(key);
        return first === undefined ? undefined : this.#firstOutcome(first);
      },
      decide: (situation, command) => this.#model.decide(situation, command, this.#environment),
      catchUp: () => this.#catchUp(),
      committed: (state, version, position, keys) => {
        for (const [key, versions] of keys) this.#keys?.set(key, versions);
        this.#state = this.#decidedState = state;
        this.#version = this.#decidedVersion = version;
        this.#position = position;
        this.#eventIds = undefined;
      },
      outcome: () => ({ events: [], state: this.#state, version: this.#version, position: this.#position }),
      hasEvent: async (eventId) => {
        this.#eventIds ??= await this.#loadEventIds();
        return this.#eventIds.has(eventId);
      },
      release: (next) => {
        this.#exclusive = false;
        if (next === "reload") this.#loaded = false;
        if (next === "catch-up") this.#stale = true;
        this.#settle();
      },
    };
  }

  get #name(): string {
    return `${this.stream.type} ${JSON.stringify(this.stream.id)}`;
  }
}

type Situation = { readonly id: string; readonly state: unknown; readonly version: number };

/** An instance held for a commit that spans several; its mailbox waits until it is released. */
export interface Lease {
  readonly stream: StreamName;
  situation(): Situation;
  /** The outcome of an earlier command with this idempotency key. */
  first(key: string): Promise<CommandOutcome | undefined>;
  decide(situation: Situation, command: Command): Decision;
  catchUp(): Promise<void>;
  committed(
    state: unknown,
    version: number,
    position: number,
    keys: ReadonlyMap<string, { from: number; to: number }>,
  ): void;
  outcome(): CommandOutcome;
  /** Whether the instance has an event with this id. */
  hasEvent(eventId: string): Promise<boolean>;
  /** Lets the mailbox go on: as it is, after reading what is new, or after loading the instance again. */
  release(next: "keep" | "catch-up" | "reload"): void;
}

/** New events with their positions, the last of which is given. */
export function atPositions(events: readonly AppliedEvent<string, unknown>[], last: number): RecordedEvent[] {
  let position = last - events.length;
  return events.map((event) => {
    position++;
    // One that was folded with its record stays as the fold has seen it; nobody has seen the others yet.
    if (!("position" in event)) return { ...event, position };
    event.position = position;
    return event as RecordedEvent;
  });
}
