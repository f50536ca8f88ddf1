import type { AnyAggregate, CommandOf, EventOf, RejectionOf, StateOf } from "../../aggregate/aggregate.ts";
import type { CommandContext } from "../../aggregate/messages.ts";
import { freeze } from "../../aggregate/freeze.ts";
import { AggregateModel } from "../../aggregate/model.ts";
import { type Expected, expectSame, expectState } from "./expect-same.ts";
import { asStored } from "./given-event.ts";
import { isDate, isError } from "../../realm.ts";

export interface AggregateSpec<A extends AnyAggregate> {
  /** Events before the command, after those of earlier calls. */
  given(...events: readonly EventOf<A>[]): AggregateSpec<A>;
  /**
   * Events before the command as earlier code has written them: under an earlier name, or with the payload of an earlier step (0 if
   * left out). They come after those of earlier calls.
   */
  givenStored(...events: readonly StoredMessage[]): AggregateSpec<A>;
  /** The time that `handle` sees. Default: 2000-01-01. */
  at(now: Date | number): AggregateSpec<A>;
  /** Expects this state after the given events, without a command. */
  thenState(expected: Expected<StateOf<A>>): void;
  /** The command to decide. Nothing runs before an expectation is called. */
  when(command: CommandOf<A>, context?: CommandContext): AggregateOutcome<A>;
}

/** An event as it was stored. */
export interface StoredMessage {
  readonly type: string;
  readonly data?: unknown;
  /** How many steps the payload has been through. */
  readonly step?: number;
}

export interface AggregateOutcome<A extends AnyAggregate> {
  /** Expects exactly these events, in this order. */
  thenEvents(...events: readonly EventOf<A>[]): void;
  /** Expects this state after the new events. */
  thenState(expected: Expected<StateOf<A>>): void;
  /** Expects a rejection of this type and, if given, with this data. */
  thenRejects<Type extends RejectionOf<A>["type"]>(
    type: Type,
    data?: Extract<RejectionOf<A>, { readonly type: Type }>["data"],
  ): void;
  /** Expects no event and no rejection. */
  thenNothing(): void;
  /** Expects that `handle` throws, with a message that contains `message` if given. */
  thenThrows(message?: string): void;
}

export function aggregateSpec(
  aggregate: AnyAggregate,
  given: readonly StoredMessage[],
  now: number,
): AggregateSpec<AnyAggregate> {
  const model = AggregateModel.of(aggregate);
  const stored = given.map((event, index) => asStored({ aggregate: aggregate.type, id: "spec", ...event }, index));
  const state = (): unknown =>
    freeze(stored.reduce((folded, event) => model.fold(folded, event, "error"), model.initial()));
  return {
    given: (...events) => aggregateSpec(aggregate, [...given, ...(events as typeof given)], now),
    givenStored: (...events) =>
      aggregateSpec(aggregate, [...given, ...events.map((event) => ({ step: 0, ...event }))], now),
    at: (time) => aggregateSpec(aggregate, given, isDate(time) ? time.getTime() : time),
    thenState: (expected) => expectState(state(), expected),
    when(command, context = {}) {
      const { type } = command as { readonly type: string };
      const decide = (): ReturnType<AggregateModel["decide"]> => {
        const validated = model.validateCommand(command, context);
        let ids = 0;
        const environment = { now: () => now, nextId: () => `event-${++ids}`, onUnknownEvent: "error" as const };
        return model.decide({ id: "spec", state: state(), version: stored.length }, validated, environment);
      };
      const accepted = (): Extract<ReturnType<typeof decide>, { readonly kind: "events" }> => {
        const decision = decide();
        if (decision.kind === "rejection")
          throw new Error(`${type}: expected events, got the rejection ${JSON.stringify(decision.rejection)}`);
        return decision;
      };
      return {
        thenEvents: (...events) =>
          expectSame(
            "events",
            accepted().events.map(message),
            events.map((event) => message(event as typeof event & { readonly type: string })),
          ),
        thenState: (expected) => expectState(accepted().state, expected),
        thenRejects(rejection, data) {
          const decision = decide();
          if (decision.kind !== "rejection")
            throw new Error(
              `${type}: expected a rejection, got the events ${JSON.stringify(decision.events.map(message))}`,
            );
          expectSame("rejection", decision.rejection.type, rejection);
          if (data !== undefined) expectSame("rejection data", decision.rejection.data, data);
        },
        thenNothing: () => expectSame("events", accepted().events.map(message), []),
        thenThrows(text = "") {
          const thrown = thrownBy(decide);
          if (thrown === undefined) throw new Error(`${type}: expected an error, got none`);
          if (!thrown.includes(text))
            throw new Error(
              `${type}: expected an error that contains ${JSON.stringify(text)}, got ${JSON.stringify(thrown)}`,
            );
        },
      };
    },
  };
}

/** The message of the error that `run` throws; `undefined` if it does not throw. */
function thrownBy(run: () => unknown): string | undefined {
  try {
    run();
    return undefined;
  } catch (error) {
    return isError(error) ? error.message : JSON.stringify(error);
  }
}

function message(event: { readonly type: string; readonly data?: unknown }): {
  readonly type: string;
  readonly data?: unknown;
} {
  return event.data === undefined ? { type: event.type } : { type: event.type, data: event.data };
}
