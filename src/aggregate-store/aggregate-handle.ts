import type { AnyAggregate, CommandOf, DeepReadonly, EventOf, StateOf } from "../aggregate/aggregate.ts";
import type { Explanation } from "../aggregate/instance/explained-state.ts";
import type { RecordedEvent } from "../aggregate/messages.ts";
import { changesOf, type ValueChange, type ValuePath } from "../aggregate/value-changes.ts";
import type { StreamName } from "../event-store/event-store.ts";
import type { CommandOptions } from "./command-options.ts";
import { attempt, type CommandAttempt, type CommandResult } from "./command-result.ts";
import type { Instances, StateOptions } from "./instances.ts";

/**
 * One aggregate instance. It costs nothing until it is used, and works as long as its store is open: an instance that was
 * evicted from memory loads again.
 */
export class AggregateHandle<A extends AnyAggregate = AnyAggregate> {
  readonly aggregate: A;
  readonly id: string;
  readonly #stream: StreamName;
  readonly #instances: Instances;

  constructor(aggregate: A, id: string, instances: Instances) {
    this.aggregate = aggregate;
    this.id = id;
    this.#stream = { type: aggregate.type, id };
    this.#instances = instances;
  }

  /**
   * Decides a command and writes its events. Resolves when they are durable. Throws `CommandRejectedError` when the
   * aggregate says no, and what `handle` threw if it has a bug; either way nothing is written.
   */
  execute(command: CommandOf<A>, options: CommandOptions = {}): Promise<CommandResult<A>> {
    return this.#instances.execute(this.aggregate, this.#stream, command, options) as Promise<CommandResult<A>>;
  }

  /** Like `execute`, but a rejection is a value. Other failures still throw. */
  try(command: CommandOf<A>, options: CommandOptions = {}): Promise<CommandAttempt<A>> {
    return attempt(this.execute(command, options));
  }

  /** The committed state, now or at an earlier version or time; frozen. */
  async state(options: StateOptions = {}): Promise<DeepReadonly<StateOf<A>>> {
    return this.#instances.state(this.aggregate, this.id, options) as Promise<DeepReadonly<StateOf<A>>>;
  }

  /** The instance's events from a version on (1 if left out), up to the last one at the time of the call. */
  events(options: { readonly from?: number } = {}): AsyncIterable<RecordedEvent<A["type"], EventOf<A>>> {
    return this.#instances.events(this.aggregate.type, this.id, options.from) as AsyncIterable<
      RecordedEvent<A["type"], EventOf<A>>
    >;
  }

  /**
   * The events that have changed a part of the state, the newest first, with that part `before` and `after` each. A path is as
   * `"lines.0.amount"`, or a list of keys; the empty path is the whole state. Folds all events, and uses no snapshot.
   */
  explain(path: ValuePath): Promise<Explanation<RecordedEvent<A["type"], EventOf<A>>>[]> {
    return this.#instances.explain(this.aggregate, this.id, path) as unknown as Promise<
      Explanation<RecordedEvent<A["type"], EventOf<A>>>[]
    >;
  }

  /** The parts in which the states at two versions differ. Throws `VERSION_NOT_FOUND` for a version that the instance does not have. */
  async diff(fromVersion: number, toVersion: number): Promise<ValueChange[]> {
    return changesOf(await this.state({ version: fromVersion }), await this.state({ version: toVersion }));
  }

  /** Whether the instance is in memory now. */
  isAlive(): boolean {
    return this.#instances.isAlive(this.aggregate.type, this.id);
  }
}
