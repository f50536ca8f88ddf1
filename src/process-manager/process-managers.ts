import { EventfoldError } from "../errors.ts";
import type { EventStore } from "../event-store/event-store.ts";
import { refreshBeforeReading } from "../event-store/freshness.ts";
import { type DeadLetter, type ReplayOptions, shownLetter } from "./dead-letter.ts";
import type { CommandTargets } from "./dispatcher.ts";
import type { CommandEnvelope } from "../aggregate/messages.ts";
import type { StorageOptions } from "../event-store/event-storage.ts";
import { type Schedule, type ScheduleOptions, ScheduleRunner, SCHEDULES } from "./schedule-runner.ts";
import type { Unfinished } from "../event-store/unfinished.ts";
import { type AnyProcessManager, processManagerDefinition } from "./process-manager.ts";
import { type ProcessManagerReport, ProcessManagerRunner } from "./process-manager-runner.ts";
import type { ScheduledCommand } from "./reaction.ts";
import { callSafely } from "../realm.ts";
import type { UnknownEvents } from "../projection/unknown-events.ts";
import { monotonicNow, startTimer } from "../real-timers.ts";
import { waitByClock } from "../subscription/retry.ts";

/** How often the clock is compared with the times of scheduled commands, and the store asked for commits at most, in ms. */
const TICK_MS = 50;
/** So long after events that caused nothing, a note says that they are handled. */
const NOTE_AFTER_MS = 1000;
const FIRST_RETRY_MS = 50;
const LONGEST_RETRY_MS = 30_000;
/** A store without schedules looks this often whether another process has made one. */
const LOOK_FOR_SCHEDULES_MS = 1000;

/** What sends commands: a process manager, or the schedules of programs. */
interface CommandRunner {
  /** Time of the next scheduled command; `Infinity` if there is none. */
  readonly nextDue: number;
  run(stopped: () => boolean): Promise<ProcessManagerReport>;
  replay(key: string, options?: ReplayOptions): Promise<void>;
  drop(key: string): Promise<void>;
  close(): Promise<void>;
}

/** A runner and, after a failure, when it is run by itself again: one that fails does not keep the others waiting. */
interface Worker<Runner extends CommandRunner = CommandRunner> {
  readonly runner: Runner;
  wait: number;
  /** In ms of the monotonic clock. */
  retryAt: number;
  /** When the events that caused nothing are noted, in ms of the monotonic clock; `Infinity` if there are none. */
  noteAt: number;
  /** The error of the last run, if it failed. */
  failure: { readonly error: unknown } | undefined;
}

export interface ManagerStatus {
  readonly name: string;
  readonly position: number;
  readonly scheduled: readonly ScheduledCommand[];
  readonly deadLetters: number;
}

/** The process managers of a store: run by themselves while it is open, or when told to. */
export class ProcessManagers {
  readonly #events: EventStore;
  readonly #workers = new Map<string, Worker<ProcessManagerRunner>>();
  /** Runs only if there are schedules, so that a store without them does not read its log for them. */
  readonly #schedules: Worker<ScheduleRunner>;
  #hasSchedules = false;
  #cancelLook: () => void = () => {};
  readonly #fromNow: ProcessManagerRunner[] = [];
  readonly #onError: (error: unknown) => void;
  readonly #now: () => number;
  #running: Promise<unknown> | undefined;
  readonly #closing = new AbortController();
  #stopped = false;
  #isAutomatic = false;
  #unwatch: () => void = () => {};
  #cancelRun: () => void = () => {};
  /** Something was committed since the managers last began to run. */
  #hasNews = true;
  /** Milliseconds of ticks since the store was last asked for commits of other processes. */
  #sincePoll = 0;

  constructor(
    managers: readonly AnyProcessManager[],
    events: EventStore,
    targets: CommandTargets,
    { now, nextId, backoffClock }: Pick<StorageOptions, "now" | "nextId"> & { readonly backoffClock: () => number },
    onError: (error: unknown) => void,
    unknown: UnknownEvents,
  ) {
    this.#events = events;
    this.#now = now;
    this.#onError = onError;
    this.#schedules = worker(new ScheduleRunner(events, targets, now, nextId));
    const wait = async (ms: number): Promise<void> => {
      await waitByClock(backoffClock, ms, this.#closing.signal);
      if (this.#closing.signal.aborted)
        throw new EventfoldError("STORE_CLOSED", "the store was closed while a command waited for its next attempt");
    };
    const parts = { now, wait, onError: (error: unknown) => callSafely(() => this.#onError(error)) };
    for (const manager of managers) {
      const definition = processManagerDefinition(manager);
      const runner = new ProcessManagerRunner(definition, events, targets, parts, unknown);
      this.#workers.set(manager.name, worker(runner));
      if (definition.startFrom === "now") this.#fromNow.push(runner);
    }
  }

  /** Fixes in the log where new reactions begin that ignore the past. Called before the store is used. */
  async begin(): Promise<void> {
    for (const runner of this.#fromNow) await runner.begin();
  }

  /** Runs them from now on whenever there is something to do. */
  start(): void {
    this.#isAutomatic = true;
    if (this.#workers.size > 0) this.#follow();
    void this.#lookForSchedules();
  }

  #follow(): void {
    this.#unwatch();
    this.#unwatch = this.#events.watch(() => {
      this.#hasNews = true;
      this.#wake(0);
    });
    this.#wake(0);
  }

  async #lookForSchedules(): Promise<void> {
    if (this.#hasSchedules || this.#stopped) return;
    // What cannot be read now is read next time.
    const consumers = await this.#events.listConsumers().catch((): readonly string[] => []);
    if (consumers.includes(SCHEDULES)) this.#runSchedules();
    if (this.#hasSchedules || this.#stopped) return;
    const lookAgain = async (): Promise<void> => {
      await this.#refresh().catch(() => {});
      await this.#lookForSchedules();
    };
    this.#cancelLook = startTimer(() => void lookAgain(), LOOK_FOR_SCHEDULES_MS, "background");
  }

  /** Sees the notes of other processes. The Rust crate writes none, so its lines need not be looked for. */
  async #refresh(): Promise<void> {
    if (this.#events.refreshNow === undefined) await this.#events.refresh();
    else this.#events.refreshNow();
  }

  #runSchedules(): void {
    if (this.#hasSchedules) return;
    this.#hasSchedules = true;
    this.#cancelLook();
    if (this.#isAutomatic) this.#follow();
  }

  get #all(): Worker[] {
    return this.#hasSchedules ? [...this.#workers.values(), this.#schedules] : [...this.#workers.values()];
  }

  async schedule(envelope: CommandEnvelope, options: ScheduleOptions): Promise<Schedule> {
    const schedule = await this.#schedules.runner.schedule(envelope, options);
    this.#runSchedules();
    this.#hasNews = true;
    if (this.#isAutomatic) this.#wake(0);
    return schedule;
  }

  async cancelSchedule(key: string): Promise<boolean> {
    return (await this.#mayHaveSchedules()) && this.#schedules.runner.cancel(key);
  }

  async schedules(): Promise<readonly Schedule[]> {
    return (await this.#mayHaveSchedules()) ? this.#schedules.runner.list() : [];
  }

  async #mayHaveSchedules(): Promise<boolean> {
    await this.#refresh();
    return this.#hasSchedules || (await this.#events.listConsumers()).includes(SCHEDULES);
  }

  /** Handles every event there is, and what that leads to. Throws the error that stopped a manager; the next run continues there. */
  run(): Promise<ProcessManagerReport> {
    return this.#afterOthers(async () => {
      if (await this.#mayHaveSchedules()) this.#runSchedules();
      const { report, failures } = await this.#runAll(this.#all);
      const [failure] = failures.values();
      if (failure !== undefined) throw failure.error;
      for (const { runner } of this.#workers.values()) await runner.noteHandled();
      return report;
    });
  }

  /** The managers that have something to do now, if they run by themselves. `head` is the position of the last event. */
  unfinished(head: number): Unfinished[] {
    if (!this.#isAutomatic) return [];
    const managers = [...this.#workers]
      .filter(([, { runner }]) => (runner.position ?? 0) < head || runner.nextDue <= this.#now())
      .map(([name, { runner, failure }]) => ({
        what: `process manager ${name}`,
        position: runner.position ?? 0,
        failure,
      }));
    const { runner, failure } = this.#schedules;
    return runner.nextDue <= this.#now() ? [...managers, { what: "schedules", position: head, failure }] : managers;
  }

  /** Dead letters of one manager, or of all. */
  async deadLetters(manager?: string): Promise<DeadLetter[]> {
    await refreshBeforeReading(this.#events);
    const names = manager === undefined ? [...this.#workers.keys(), ...(await this.#ownConsumers())] : [manager];
    const lists = await Promise.all(
      names.map(async (name) => (await this.#events.deadLetters(name)).map((letter) => shownLetter(name, letter))),
    );
    return lists.flat();
  }

  /** The consumers that are no process managers: schedules and subscriptions. */
  async #ownConsumers(): Promise<readonly string[]> {
    return (await this.#events.listConsumers()).filter((name) => name.includes(":"));
  }

  /** How far each manager is, with its scheduled commands and the number of its dead letters. */
  statuses(): Promise<ManagerStatus[]> {
    return Promise.all(
      [...this.#workers].map(async ([name, { runner }]) => {
        const { position, scheduled } = await runner.status();
        return { name, position, scheduled, deadLetters: (await this.#events.deadLetters(name)).length };
      }),
    );
  }

  /** Does other work while no manager runs. */
  pausedDuring<T>(work: () => Promise<T>): Promise<T> {
    return this.#afterOthers(work);
  }

  async replay(key: string, options: ReplayOptions): Promise<void> {
    await (await this.#runnerOf(key)).replay(key, options);
  }

  async drop(key: string): Promise<void> {
    await (await this.#runnerOf(key)).drop(key);
  }

  async close(): Promise<void> {
    this.#stopped = true;
    this.#closing.abort();
    this.#unwatch();
    this.#cancelRun();
    this.#cancelLook();
    await this.#running?.catch(() => {});
    for (const { runner } of this.#all) await runner.close();
  }

  #afterOthers<T>(work: () => Promise<T>): Promise<T> {
    const next = (this.#running ?? Promise.resolve()).then(work, work);
    this.#running = next;
    const forget = (): void => {
      if (this.#running === next) this.#running = undefined;
    };
    next.then(forget, forget);
    return next;
  }

  /** Runs until no manager has anything left to do. One that fails does not stop the others. */
  async #runAll(workers: readonly Worker[]): Promise<{
    readonly report: ProcessManagerReport;
    readonly failures: ReadonlyMap<Worker, { readonly error: unknown }>;
  }> {
    const total = { dispatched: 0, deadLettered: 0 };
    const failures = new Map<Worker, { readonly error: unknown }>();
    for (let before = -1; before < total.dispatched + total.deadLettered && !this.#stopped;) {
      before = total.dispatched + total.deadLettered;
      for (const worker of workers) {
        if (failures.has(worker)) continue;
        try {
          const { dispatched, deadLettered } = await worker.runner.run(() => this.#stopped);
          total.dispatched += dispatched;
          total.deadLettered += deadLettered;
          worker.wait = FIRST_RETRY_MS;
          worker.retryAt = 0;
          worker.failure = undefined;
        } catch (error) {
          worker.failure = { error };
          failures.set(worker, worker.failure);
        }
      }
    }
    return { report: total, failures };
  }

  #wake(delay: number): void {
    // A run that is under way looks for more before it ends.
    if (this.#stopped || (delay === 0 && this.#running !== undefined)) return;
    this.#cancelRun();
    // Work keeps the program alive, as a timer of its own would: a reaction, an attempt after a failure, a scheduled command.
    this.#cancelRun = startTimer(() => void this.#tick(delay), delay, this.#hasWork ? "foreground" : "background");
  }

  get #hasWork(): boolean {
    if (this.#hasNews) return true;
    return this.#all.some(({ runner, retryAt }) => retryAt > 0 || runner.nextDue < Infinity);
  }

  async #tick(waited: number): Promise<void> {
    this.#sincePoll += waited;
    if (this.#stopped || this.#running !== undefined) {
      this.#wake(TICK_MS);
      return;
    }
    const ready = this.#readyWorkers();
    if (ready.length === 0) {
      await this.#noteHandled();
      this.#wake(TICK_MS);
      return;
    }
    this.#hasNews = false;
    this.#sincePoll = 0;
    const before = await this.#events.head().catch(() => 0);
    const { failures } = await this.#afterOthers(() => this.#runAll(ready));
    if (this.#stopped) return;
    for (const [worker, { error }] of failures) {
      worker.retryAt = monotonicNow() + worker.wait;
      worker.wait = Math.min(worker.wait * 2, LONGEST_RETRY_MS);
      // A listener that fails must not stop the process managers.
      callSafely(() => this.#onError(error));
    }
    await this.#noteHandled();
    const working = ready.filter((worker) => !failures.has(worker));
    const hasMore =
      working.some(({ runner }) => runner.nextDue <= this.#now()) ||
      (working.length > 0 && (await this.#events.head().catch(() => before)) > before);
    if (hasMore) this.#hasNews = true;
    this.#wake(hasMore ? 1 : TICK_MS);
  }

  /** Notes for each manager how far it is, so that a manager that starts over needs no events from before. */
  async noteReached(): Promise<void> {
    for (const { runner } of this.#workers.values()) await this.#afterOthers(() => runner.noteHandled(true));
  }

  /** Notes now and then what caused nothing: one commit for many events. */
  async #noteHandled(): Promise<void> {
    const now = monotonicNow();
    for (const worker of this.#workers.values()) {
      if (!worker.runner.hasUnnoted) worker.noteAt = Infinity;
      else if (worker.noteAt === Infinity) worker.noteAt = now + NOTE_AFTER_MS;
      if (worker.noteAt > now) continue;
      worker.noteAt = Infinity;
      // What fails is tried again later, and when the store is closed.
      await this.#afterOthers(() => worker.runner.noteHandled()).catch(() => {});
    }
  }

  /** Managers that may have something to do: after a commit, when the store wants to be asked, at their time, or after a failure. */
  #readyWorkers(): readonly Worker[] {
    const now = monotonicNow();
    const able = this.#all.filter(({ retryAt }) => retryAt <= now);
    const { pollInterval = Infinity } = this.#events;
    if (this.#hasNews || this.#sincePoll >= pollInterval) return able;
    return able.filter(({ retryAt, runner }) => retryAt > 0 || runner.nextDue <= this.#now());
  }

  async #runnerOf(key: string): Promise<CommandRunner> {
    await refreshBeforeReading(this.#events);
    for (const [name, { runner }] of this.#workers) {
      if ((await this.#events.deadLetter(name, key)) !== undefined) return runner;
    }
    if ((await this.#events.deadLetter(SCHEDULES, key)) !== undefined) return this.#schedules.runner;
    throw new EventfoldError(
      "UNKNOWN_DEAD_LETTER",
      `no process manager of this store has a dead letter ${JSON.stringify(key)}`,
    );
  }
}

function worker<Runner extends CommandRunner>(runner: Runner): Worker<Runner> {
  return { runner, wait: FIRST_RETRY_MS, retryAt: 0, noteAt: Infinity, failure: undefined };
}
