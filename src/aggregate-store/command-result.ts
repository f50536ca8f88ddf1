import type { AnyAggregate, DeepReadonly, EventOf, RejectionOf, StateOf } from "../aggregate/aggregate.ts";
import type { RecordedEvent } from "../aggregate/messages.ts";
import { isEventfoldError } from "../errors.ts";

/** What a command did. */
export interface CommandResult<A extends AnyAggregate = AnyAggregate> {
  /** The events that it led to; empty when there was nothing to do. */
  readonly events: readonly RecordedEvent<A["type"], EventOf<A>>[];
  /** The state after it; frozen. */
  readonly state: DeepReadonly<StateOf<A>>;
  /** The instance's version after it. */
  readonly version: number;
  /** Position of the instance's last event after it. */
  readonly position: number;
}

/** `CommandResult`, or the rejection. */
export type CommandAttempt<A extends AnyAggregate = AnyAggregate> =
  | ({ readonly ok: true } & CommandResult<A>)
  | { readonly ok: false; readonly rejection: RejectionOf<A> };

/** Makes a rejection a value. */
export async function attempt<A extends AnyAggregate>(result: Promise<CommandResult<A>>): Promise<CommandAttempt<A>> {
  try {
    return { ok: true, ...(await result) };
  } catch (error) {
    if (isEventfoldError(error, "COMMAND_REJECTED")) return { ok: false, rejection: error.rejection as RejectionOf<A> };
    throw error;
  }
}
