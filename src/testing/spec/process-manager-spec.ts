import type { CommandEnvelope } from "../../aggregate/messages.ts";
import {
  type AnyProcessManager,
  processManagerDefinition,
  type Scheduled,
} from "../../process-manager/process-manager.ts";
import { NO_OUTPUTS, outputsOf, outputsOfEvent } from "../../process-manager/reaction.ts";
import { EventSources } from "../../projection/event-sources.ts";
import { initialOf } from "../../aggregate/initial-state.ts";
import { type Expected, expectSame, expectState } from "./expect-same.ts";
import { asStored, type GivenEvent, type Handler } from "./given-event.ts";

export interface ProcessManagerSpec<M extends AnyProcessManager> {
  /** Events that the process manager has handled before. They change its state; their commands are ignored. */
  given(...events: readonly GivenEvent[]): ProcessManagerSpec<M>;
  /** The event to handle. Nothing runs before an expectation is called. */
  when(event: GivenEvent): ProcessManagerOutcome<M>;
}

export interface ProcessManagerOutcome<M extends AnyProcessManager> {
  /** Expects exactly these commands, in this order. */
  thenDispatches(...envelopes: readonly CommandEnvelope[]): void;
  /** Expects exactly these scheduled commands. Times are `at` (milliseconds since 1970) or `in` (from the event's time). */
  thenSchedules(...scheduled: readonly Scheduled[]): void;
  /** Expects that exactly these keys are cancelled, in this order. */
  thenCancels(...keys: readonly string[]): void;
  /** Expects this state after the event. */
  thenState(expected: Expected<M["~types"]["state"]>): void;
  /** Expects that nothing is dispatched, scheduled or cancelled. */
  thenNothing(): void;
}

const NO_CAUSE = { aggregate: "", id: "", version: 0, position: 0, eventId: "", depth: 0 };

export function managerSpec(
  manager: AnyProcessManager,
  given: readonly GivenEvent[],
): ProcessManagerSpec<AnyProcessManager> {
  const definition = processManagerDefinition(manager);
  const { name, initial } = definition;
  const sources = new EventSources<Handler>(definition);
  const react = (state: unknown, event: GivenEvent, index: number): ReturnType<typeof outputsOf> => {
    const source = sources.of(event.aggregate);
    const before = structuredClone(state);
    if (source === undefined) return { ...NO_OUTPUTS, state: before };
    return outputsOfEvent(name, source, asStored(event, index), before);
  };
  return {
    given: (...events) => managerSpec(manager, [...given, ...events]),
    when(event) {
      const outputs = (): ReturnType<typeof outputsOf> => {
        const state = given.reduce((folded, earlier, index) => react(folded, earlier, index).state, initialOf(initial));
        return react(state, event, given.length);
      };
      const time = asStored(event, given.length).timestamp;
      return {
        thenDispatches(...envelopes) {
          // The expected commands pass the same checks as those of a reaction.
          const expected = outputsOf(name, { dispatch: envelopes }, null, NO_CAUSE, time).commands;
          expectSame("dispatched commands", outputs().commands, expected);
        },
        thenSchedules(...scheduled) {
          const expected = outputsOf(name, { schedule: scheduled }, null, NO_CAUSE, time).schedule;
          const shown = (list: typeof expected): unknown =>
            list.map(({ due, key, envelope }) => ({ due, key, envelope }));
          expectSame("scheduled commands", shown(outputs().schedule), shown(expected));
        },
        thenCancels: (...keys) => expectSame("cancelled keys", outputs().cancel, keys),
        thenState: (expected) => expectState(outputs().state, expected),
        thenNothing() {
          const { commands, schedule, cancel } = outputs();
          expectSame("outputs", { commands, schedule, cancel }, { commands: [], schedule: [], cancel: [] });
        },
      };
    },
  };
}
