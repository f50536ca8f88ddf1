import type { AnyAggregate, AnyContract, EventOf } from "../aggregate/aggregate.ts";
import type { RecordedEvent } from "../aggregate/messages.ts";
import type { EventTypes, StoredEvent } from "../event-store/event-store.ts";

/** A recorded event of one of the given aggregates. */
export type RecordedEventOf<A extends AnyContract> = A extends AnyContract
  ? RecordedEvent<A["type"], EventOf<A>>
  : never;

/** Selects events. A filter that is left out selects all. */
export interface EventFilter<N extends AnyContract | string = AnyContract | string, T extends string = string> {
  /** Only events of these aggregates, given as definitions or as types. */
  readonly aggregates?: readonly N[];
  /** Only events of these types. */
  readonly types?: readonly T[];
}

/** The events of a store with the aggregates `A` that a filter selects. */
export type SelectedEvent<A extends AnyAggregate, N extends AnyContract | string, T extends string> = OfType<
  OfAggregate<A, N>,
  T
>;

type OfAggregate<A extends AnyAggregate, N> = N extends AnyContract
  ? RecordedEventOf<N>
  : N extends string
    ? string extends N
      ? RecordedEventOf<A>
      : [Extract<A, { readonly type: N }>] extends [never]
        ? RecordedEvent<N>
        : RecordedEventOf<Extract<A, { readonly type: N }>>
    : never;

type OfType<E, T extends string> = string extends T
  ? E
  : E extends { readonly type: infer K }
    ? string extends K
      ? E & { readonly type: T }
      : K extends T
        ? E
        : never
    : never;

/** Tells whether a filter selects an event. */
export function eventFilter({ aggregates, types }: EventFilter): (event: StoredEvent) => boolean {
  const wantedAggregates = aggregates === undefined ? undefined : new Set(aggregates.map(typeOf));
  const wantedTypes = types === undefined ? undefined : new Set(types);
  return (event) => (wantedAggregates?.has(event.stream.type) ?? true) && (wantedTypes?.has(event.type) ?? true);
}

/** What a store needs to leave out other events by itself; `undefined` if the filter does not name both aggregates and types. */
export function wantedTypes({ aggregates, types }: EventFilter): EventTypes | undefined {
  if (aggregates === undefined || types === undefined) return undefined;
  return new Map(aggregates.map((aggregate) => [typeOf(aggregate), new Set(types)]));
}

function typeOf(aggregate: AnyContract | string): string {
  return typeof aggregate === "string" ? aggregate : aggregate.type;
}
