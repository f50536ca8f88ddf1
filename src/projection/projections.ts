import { EventfoldError } from "../errors.ts";
import type { EventStore } from "../event-store/event-store.ts";
import { Floor } from "./floor.ts";
import { type AnyProjection, definitionOf } from "./projection.ts";
import { ProjectionRunner, type RebuildOptions } from "./projection-runner.ts";
import { monotonicNow, sleep } from "../real-timers.ts";

/** How long a reader waits for a position that is not there yet. */
const DEFAULT_TIMEOUT_MS = 5000;
/** How often it looks meanwhile: commits of other processes are noticed by looking. */
const POLL_MS = 10;

export interface ReadProjectionOptions {
  /** Waits until the event with this position is folded in: to read one's own write. */
  readonly after?: number;
  /** Milliseconds to wait for that; 5,000 if left out. */
  readonly timeout?: number;
}

/** The projections of a store. */
export class Projections {
  readonly #events: EventStore;
  readonly #floor = new Floor();
  readonly #runners = new Map<string, { readonly projection: AnyProjection; readonly runner: ProjectionRunner }>();

  constructor(events: EventStore) {
    this.#events = events;
  }

  register(projection: AnyProjection): ProjectionRunner {
    const known = this.#runners.get(projection.name);
    if (known !== undefined && known.projection !== projection) {
      throw new EventfoldError(
        "DUPLICATE_DEFINITION",
        `two definitions of the projection ${projection.name} in one store; give one of them another name`,
      );
    }
    const runner = known?.runner ?? new ProjectionRunner(definitionOf(projection), this.#events, this.#floor);
    this.#runners.set(projection.name, { projection, runner });
    return runner;
  }

  async read(
    projection: AnyProjection,
    { after = 0, timeout = DEFAULT_TIMEOUT_MS }: ReadProjectionOptions,
  ): Promise<unknown> {
    if (!Number.isSafeInteger(after) || after < 0)
      throw new EventfoldError("INVALID_ARGUMENT", `after is a position, 0 or more, not ${String(after)}`);
    if (typeof timeout !== "number" || !(timeout >= 0))
      throw new EventfoldError("INVALID_ARGUMENT", `timeout is milliseconds, 0 or more, not ${String(timeout)}`);
    const runner = this.register(projection);
    const started = monotonicNow();
    for (;;) {
      const { state, position } = await runner.read();
      if (position >= after) return state;
      if (monotonicNow() - started >= timeout) {
        throw new EventfoldError(
          "TIMEOUT",
          `projection ${projection.name} is at position ${position}; position ${after} did not come within ${timeout} ms`,
        );
      }
      await sleep(POLL_MS);
    }
  }

  rebuild(projection: AnyProjection, options: RebuildOptions): Promise<void> {
    return this.register(projection).rebuild(options);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#runners.values()].map(({ runner }) => runner.close()));
  }
}
