import { EventSources, initialOf } from "../projection/event-sources.ts";
import type { AnyAggregate, CommandOf, EventOf, RejectionOf, StateOf } from "../aggregate/aggregate.ts";
import type { EventReader } from "../aggregate/event-reader.ts";
import type { CommandContext, CommandEnvelope, RecordedEvent } from "../aggregate/messages.ts";
import { AggregateModel, freeze } from "../aggregate/model.ts";
import type { StoredEvent } from "../event-store/event-store.ts";
import {
  type AnyProcessManager,
  processManagerDefinition,
  type Scheduled,
} from "../process-manager/process-manager.ts";
import { outputsOf } from "../process-manager/reaction.ts";
import { type AnyProjection, definitionOf, type ProjectionState } from "../projection/projection.ts";
import { expectSame } from "./expect-same.ts";

/** An event for a projection or process manager: what is left out of the record is filled in. */
export type GivenEvent = {
  readonly aggregate: string;
  readonly id: string;
  readonly type: string;
  readonly data?: unknown;
} & Partial<RecordedEvent>;

/** What a state should be: a value, or a function that looks at it and throws if it is wrong. */
type Expected<State> = State | ((state: State) => void);

export interface AggregateSpec<A extends AnyAggregate> {
  /** Events that happened before; added to those given already. */
  given(...events: readonly EventOf<A>[]): AggregateSpec<A>;
  /** The time that `handle` sees; 2000-01-01 if left out. */
  at(now: Date | number): AggregateSpec<A>;
  when(command: CommandOf<A>, context?: CommandContext): AggregateOutcome<A>;
}

export interface AggregateOutcome<A extends AnyAggregate> {
  thenEvents(...events: readonly EventOf<A>[]): void;
  /** The state after the new events. */
  thenState(expected: Expected<StateOf<A>>): void;
  thenRejects<Type extends RejectionOf<A>["type"]>(
    type: Type,
    data?: Extract<RejectionOf<A>, { readonly type: Type }>["data"],
  ): void;
  /** No event and no rejection. */
  thenNothing(): void;
  /** What `handle` throws; a text has to be part of the message. */
  thenThrows(message?: string): void;
}

export interface ProjectionSpec<P extends AnyProjection> {
  given(...events: readonly GivenEvent[]): ProjectionSpec<P>;
  thenState(expected: Expected<ProjectionState<P>>): void;
}

export interface ProcessManagerSpec<M extends AnyProcessManager> {
  /** Events that it has reacted to before: they count for its state only. */
  given(...events: readonly GivenEvent[]): ProcessManagerSpec<M>;
  when(event: GivenEvent): ProcessManagerOutcome<M>;
}

export interface ProcessManagerOutcome<M extends AnyProcessManager> {
  thenDispatches(...envelopes: readonly CommandEnvelope[]): void;
  /** What it schedules; times as `at` (milliseconds since 1970) or `in`, counted from the event's time. */
  thenSchedules(...scheduled: readonly Scheduled[]): void;
  thenCancels(...keys: readonly string[]): void;
  thenState(expected: Expected<M["~types"]["state"]>): void;
  /** Nothing dispatched, scheduled or cancelled. */
  thenNothing(): void;
}

/** Given events, when a command (or event) comes, then …: checks a definition alone, without a store or a test runner. Failures throw. */
export function spec<A extends AnyAggregate>(aggregate: A): AggregateSpec<A>;
export function spec<P extends AnyProjection>(projection: P): ProjectionSpec<P>;
export function spec<M extends AnyProcessManager>(manager: M): ProcessManagerSpec<M>;
export function spec(definition: AnyAggregate | AnyProjection | AnyProcessManager): unknown {
  if ("contract" in definition) return aggregateSpec(definition, [], Date.UTC(2000, 0, 1));
  return definition.kind === "projection" ? projectionSpec(definition, []) : managerSpec(definition, []);
}

function aggregateSpec(
  aggregate: AnyAggregate,
  given: readonly { readonly type: string; readonly data?: unknown }[],
  now: number,
): AggregateSpec<AnyAggregate> {
  const model = AggregateModel.of(aggregate);
  const stored = given.map((event, index) => asStored({ aggregate: aggregate.type, id: "spec", ...event }, index));
  return {
    given: (...events) => aggregateSpec(aggregate, [...given, ...(events as typeof given)], now),
    at: (time) => aggregateSpec(aggregate, given, time instanceof Date ? time.getTime() : time),
    when(command, context = {}) {
      const { type } = command as { readonly type: string };
      const decide = (): ReturnType<AggregateModel["decide"]> => {
        const state = freeze(stored.reduce((folded, event) => model.fold(folded, event, "error"), model.initial()));
        const validated = model.validateCommand(command, context);
        if (validated instanceof Promise)
          throw new Error(`${type} has an asynchronous schema; a spec cannot wait for it`);
        let ids = 0;
        const environment = { now: () => now, nextId: () => `event-${++ids}`, onUnknownEvent: "error" as const };
        return model.decide({ id: "spec", state, version: stored.length }, validated, environment);
      };
      const accepted = (): Extract<ReturnType<typeof decide>, { readonly kind: "events" }> => {
        const decision = decide();
        if (decision.kind === "rejection")
          throw new Error(`${type} was rejected: ${JSON.stringify(decision.rejection)}`);
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
            throw new Error(`${type} was not rejected; events: ${JSON.stringify(decision.events.map(message))}`);
          expectSame("rejection", decision.rejection.type, rejection);
          if (data !== undefined) expectSame("rejection data", decision.rejection.data, data);
        },
        thenNothing: () => expectSame("events", accepted().events.map(message), []),
        thenThrows(text = "") {
          const told = thrownBy(decide);
          if (told === undefined) throw new Error(`${type} did not throw`);
          if (!told.includes(text))
            throw new Error(`${type} threw ${JSON.stringify(told)}, which does not contain ${JSON.stringify(text)}`);
        },
      };
    },
  };
}

/** The message of what `run` throws; `undefined` if it does not throw. */
function thrownBy(run: () => unknown): string | undefined {
  try {
    run();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : JSON.stringify(error);
  }
}

type Handler = (state: unknown, event: unknown) => unknown;

function projectionSpec(projection: AnyProjection, given: readonly GivenEvent[]): ProjectionSpec<AnyProjection> {
  const definition = definitionOf(projection);
  const sources = new EventSources<Handler>(definition);
  return {
    given: (...events) => projectionSpec(projection, [...given, ...events]),
    thenState(expected) {
      let state = initialOf(definition.initial);
      for (const [index, event] of given.entries()) {
        const found = handlerOf(sources, event);
        const result = found?.handler(state, found.reader.recorded(asStored(event, index)));
        if (result !== undefined) state = result;
      }
      expectState(state, expected);
    },
  };
}

function managerSpec(manager: AnyProcessManager, given: readonly GivenEvent[]): ProcessManagerSpec<AnyProcessManager> {
  const definition = processManagerDefinition(manager);
  const { name, initial } = definition;
  const sources = new EventSources<Handler>(definition);
  const react = (state: unknown, event: GivenEvent, index: number): ReturnType<typeof outputsOf> => {
    const found = handlerOf(sources, event);
    const recorded = found?.reader.recorded(asStored(event, index));
    const { id, version, position, eventId, timestamp } = recorded ?? {
      ...asStored(event, index),
      id: event.id,
      eventId: "",
    };
    const cause = { aggregate: event.aggregate, id, version, position, eventId, depth: 0 };
    const before = structuredClone(state);
    return outputsOf(name, found?.handler(before, recorded), before, cause, timestamp);
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
        thenDispatches: (...envelopes) => expectSame("dispatched commands", outputs().commands, envelopes),
        thenSchedules(...scheduled) {
          const expected = outputsOf(
            name,
            { schedule: scheduled },
            null,
            { aggregate: "", id: "", version: 0, position: 0, eventId: "", depth: 0 },
            time,
          ).schedule;
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

function handlerOf(
  sources: EventSources<Handler>,
  event: GivenEvent,
): { readonly handler: Handler; readonly reader: EventReader } | undefined {
  const source = sources.of(event.aggregate);
  const handler = source?.handlers.get(event.type);
  return source === undefined || handler === undefined ? undefined : { handler, reader: source.reader };
}

/** A given event as a store would keep it, in the newest shape. */
function asStored(event: GivenEvent, index: number): StoredEvent {
  const {
    aggregate,
    id,
    type,
    data,
    eventId,
    version,
    position,
    timestamp,
    actor,
    correlationId,
    causationId,
    metadata,
  } = event;
  const meta = {
    ...metadata,
    ...(correlationId === undefined ? {} : { correlation_id: correlationId }),
    ...(causationId === undefined ? {} : { causation_id: causationId }),
  };
  return {
    stream: { type: aggregate, id },
    type,
    data: data === undefined ? null : (JSON.parse(JSON.stringify(data)) as unknown),
    // Whoever writes a given event writes it in the shape of today.
    schemaVersion: Infinity,
    version: version ?? index + 1,
    position: position ?? index + 1,
    timestamp: timestamp ?? Date.UTC(2000, 0, 1) + index,
    eventId: eventId ?? `given-${index + 1}`,
    actor,
    meta: Object.keys(meta).length === 0 ? undefined : meta,
  };
}

function message(event: { readonly type: string; readonly data?: unknown }): {
  readonly type: string;
  readonly data?: unknown;
} {
  return event.data === undefined ? { type: event.type } : { type: event.type, data: event.data };
}

function expectState<State>(state: State, expected: Expected<State>): void {
  if (typeof expected === "function") (expected as (state: State) => void)(state);
  else expectSame("state", state, expected);
}
