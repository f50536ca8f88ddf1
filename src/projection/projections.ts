import { duplicateDefinition } from "../duplicate-definition.ts";
import { EventfoldError } from "../errors.ts";
import { CommitSignal } from "../event-store/commit-signal.ts";
import type { EventStore } from "../event-store/event-store.ts";
import { SliceLock } from "./slice-lock.ts";
import { type AnyProjection, definitionOf } from "./projection.ts";
import { ProjectionRunner, type RebuildOptions } from "./projection-runner.ts";
import type { UnknownEvents } from "./unknown-events.ts";
import { monotonicNow } from "../real-timers.ts";

/** How long a reader waits for a position that does not exist yet. */
const DEFAULT_TIMEOUT_MS = 5000;

export interface ReadProjectionOptions<WithPosition extends boolean = boolean> {
  /** Waits until the event with this position is folded in: to read one's own write. */
  readonly after?: number;
  /** Milliseconds to wait for that; 5,000 if left out. */
  readonly timeout?: number;
  /** Gives `{ state, position }` instead of the state. */
  readonly withPosition?: WithPosition;
}

/** A projection's state, with the position up to which events are folded in. */
export interface PositionedState {
  readonly state: unknown;
  readonly position: number;
}

/** The projections of a store. */
export class Projections {
  readonly #events: EventStore;
  readonly #unknown: UnknownEvents;
  readonly #lock = new SliceLock();
  readonly #runners = new Map<string, { readonly projection: AnyProjection; readonly runner: ProjectionRunner }>();

  constructor(events: EventStore, unknown: UnknownEvents) {
    this.#events = events;
    this.#unknown = unknown;
  }

  register(projection: AnyProjection): ProjectionRunner {
    const known = this.#runners.get(projection.name);
    if (known !== undefined && known.projection !== projection) {
      throw duplicateDefinition(`projection ${projection.name}`, "in this store");
    }
    const runner =
      known?.runner ?? new ProjectionRunner(definitionOf(projection), this.#events, this.#lock, this.#unknown);
    this.#runners.set(projection.name, { projection, runner });
    return runner;
  }

  async read(
    projection: AnyProjection,
    { after = 0, timeout = DEFAULT_TIMEOUT_MS }: ReadProjectionOptions,
  ): Promise<PositionedState> {
    if (!Number.isSafeInteger(after) || after < 0)
      throw new EventfoldError("INVALID_ARGUMENT", `after is a position, 0 or more, not ${String(after)}`);
    if (typeof timeout !== "number" || !(timeout >= 0))
      throw new EventfoldError("INVALID_ARGUMENT", `timeout is milliseconds, 0 or more, not ${String(timeout)}`);
    const runner = this.register(projection);
    const read = await runner.read();
    return read.position >= after ? read : this.#await(runner, projection.name, after, timeout);
  }

  /** Reads again after each commit until the projection has come far enough. */
  async #await(runner: ProjectionRunner, name: string, after: number, timeout: number): Promise<PositionedState> {
    const started = monotonicNow();
    const commits = new CommitSignal(this.#events);
    try {
      for (;;) {
        commits.reset();
        const read = await runner.read();
        const { position } = read;
        if (position >= after) return read;
        const left = timeout - (monotonicNow() - started);
        if (left <= 0) {
          throw new EventfoldError(
            "TIMEOUT",
            `expected projection ${name} to reach position ${after} within ${timeout} ms, found it at position ${position}; check the position, or wait longer with { timeout }`,
          );
        }
        // A timer has no more than 31 bits.
        await commits.wait(Math.min(left, 1_000_000_000));
      }
    } finally {
      commits.close();
    }
  }

  rebuild(projection: AnyProjection, options: RebuildOptions): Promise<void> {
    return this.register(projection).rebuild(options);
  }

  /** How far each projection is. */
  positions(): Promise<{ readonly name: string; readonly position: number }[]> {
    const runners = [...this.#runners];
    return Promise.all(runners.map(async ([name, { runner }]) => ({ name, position: await runner.position() })));
  }

  async close(): Promise<void> {
    await Promise.all([...this.#runners.values()].map(({ runner }) => runner.close()));
  }
}
