import { EventfoldError } from "../errors.ts";
import type { EventStore, StoredDeadLetter } from "../event-store/event-store.ts";
import type { CommandTargets } from "./dispatcher.ts";
import { type AnyProcessManager, processManagerDefinition } from "./process-manager.ts";
import { type ProcessManagerReport, ProcessManagerRunner } from "./process-manager-runner.ts";

/** How often commits of other processes and due appointments are looked for. */
const POLL_MS = 50;
const FIRST_RETRY_MS = 50;
const LONGEST_RETRY_MS = 30_000;

/** A command of a process manager that could not be delivered. */
export interface DeadLetter {
  readonly key: string;
  readonly processManager: string;
  readonly aggregate: string;
  readonly id: string;
  readonly command: unknown;
  /** What went wrong, in the original's words. */
  readonly error: string;
  /** Milliseconds since 1970. */
  readonly timestamp: number;
  /** The event that caused it; missing for a letter that the original wrote. */
  readonly cause?: {
    readonly aggregate: string;
    readonly id: string;
    readonly version: number;
    readonly position: number;
    readonly eventId: string;
  };
}

/** The process managers of a store: run by themselves while it is open, or when told to. */
export class ProcessManagers {
  readonly #events: EventStore;
  readonly #runners = new Map<string, ProcessManagerRunner>();
  readonly #onError: (error: unknown) => void;
  readonly #now: () => number;
  #running: Promise<ProcessManagerReport> | undefined;
  #stopped = false;
  #unwatch: () => void = () => {};
  #timer: ReturnType<typeof setTimeout> | undefined;
  #wait = FIRST_RETRY_MS;

  constructor(
    managers: readonly AnyProcessManager[],
    events: EventStore,
    targets: CommandTargets,
    now: () => number,
    onError: (error: unknown) => void,
  ) {
    this.#events = events;
    this.#now = now;
    this.#onError = onError;
    for (const manager of managers)
      this.#runners.set(
        manager.name,
        new ProcessManagerRunner(processManagerDefinition(manager), events, targets, now),
      );
  }

  /** Runs them from now on whenever there is something to do. */
  start(): void {
    if (this.#runners.size === 0) return;
    this.#unwatch = this.#events.watch(() => this.#wake(0));
    this.#wake(0);
  }

  /** Deals with everything there is, also what that leads to. Throws what stopped it; the next run goes on there. */
  run(): Promise<ProcessManagerReport> {
    const next = (this.#running ?? Promise.resolve()).then(
      () => this.#runAll(),
      () => this.#runAll(),
    );
    this.#running = next;
    const forget = (): void => {
      if (this.#running === next) this.#running = undefined;
    };
    next.then(forget, forget);
    return next;
  }

  /** Dead letters of one manager, or of all. */
  async deadLetters(manager?: string): Promise<DeadLetter[]> {
    const names = manager === undefined ? [...this.#runners.keys()] : [manager];
    const lists = await Promise.all(
      names.map(async (name) => (await this.#events.deadLetters(name)).map((letter) => shown(name, letter))),
    );
    return lists.flat();
  }

  async replay(key: string): Promise<void> {
    await (await this.#holder(key)).replay(key);
  }

  async drop(key: string): Promise<void> {
    await (await this.#holder(key)).drop(key);
  }

  async close(): Promise<void> {
    this.#stopped = true;
    this.#unwatch();
    clearTimeout(this.#timer);
    await this.#running?.catch(() => {});
    for (const runner of this.#runners.values()) await runner.close();
  }

  async #runAll(): Promise<ProcessManagerReport> {
    const total = { dispatched: 0, deadLettered: 0 };
    let failure: { readonly error: unknown } | undefined;
    for (let before = -1; before < total.dispatched + total.deadLettered && !this.#stopped;) {
      before = total.dispatched + total.deadLettered;
      for (const runner of this.#runners.values()) {
        try {
          const report = await runner.run(() => this.#stopped);
          total.dispatched += report.dispatched;
          total.deadLettered += report.deadLettered;
        } catch (error) {
          // One failing manager does not stop the others.
          failure = { error };
        }
      }
    }
    if (failure !== undefined) throw failure.error;
    return total;
  }

  #wake(delay: number): void {
    if (this.#stopped) return;
    if (delay === 0 && this.#running !== undefined) {
      this.#wait = FIRST_RETRY_MS;
      return;
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#runInBackground(), delay);
    (this.#timer as { unref?: () => void }).unref?.();
  }

  async #runInBackground(): Promise<void> {
    if (this.#stopped || this.#running !== undefined) {
      this.#wake(POLL_MS);
      return;
    }
    const before = await this.#events.head().catch(() => 0);
    try {
      await this.run();
      this.#wait = FIRST_RETRY_MS;
      const missed = (await this.#events.head().catch(() => before)) > before;
      const due = [...this.#runners.values()].some((runner) => runner.nextDue <= this.#now());
      this.#wake(missed || due ? 1 : POLL_MS);
    } catch (error) {
      if (this.#stopped) return;
      this.#onError(error);
      this.#wake(this.#wait);
      this.#wait = Math.min(this.#wait * 2, LONGEST_RETRY_MS);
    }
  }

  async #holder(key: string): Promise<ProcessManagerRunner> {
    for (const [name, runner] of this.#runners) {
      if ((await this.#events.deadLetters(name)).some((letter) => letter.key === key)) return runner;
    }
    throw new EventfoldError(
      "UNKNOWN_DEAD_LETTER",
      `no process manager of this store has a dead letter ${JSON.stringify(key)}`,
    );
  }
}

function shown(processManager: string, { key, letter }: StoredDeadLetter): DeadLetter {
  const envelope = (letter["envelope"] ?? {}) as {
    readonly aggregate_type?: string;
    readonly instance_id?: string;
    readonly command?: unknown;
  };
  const seconds = typeof letter["ts"] === "number" ? letter["ts"] : 0;
  const cause = letter["cause"] as DeadLetter["cause"];
  return {
    key,
    processManager,
    aggregate: envelope.aggregate_type ?? "",
    id: envelope.instance_id ?? "",
    command: envelope.command,
    error: typeof letter["error"] === "string" ? letter["error"] : "this line of dead_letters.jsonl cannot be read",
    timestamp: seconds * 1000 + (typeof letter["ms"] === "number" ? letter["ms"] : 0),
    ...(cause === undefined ? {} : { cause }),
  };
}
