import type { AnyAggregate, CommandOf, DeepReadonly, EventOf, StateOf } from "../aggregate/aggregate.ts";
import type { RecordedEvent } from "../aggregate/messages.ts";
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

  /** Whether the instance is in memory now. */
  isAlive(): boolean {
    return this.#instances.isAlive(this.aggregate.type, this.id);
  }
}
