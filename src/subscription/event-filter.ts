import type { AnyAggregate, AnyContract, EventOf } from "../aggregate/aggregate.ts";
import { type EventReader, recordedEvent } from "../aggregate/event-reader.ts";
import type { Deletion, RecordedEvent } from "../aggregate/messages.ts";
import { EventfoldError } from "../errors.ts";
import type { EventTypes, StoredEvent } from "../event-store/event-store.ts";
import { isOutcomesType } from "../stream-names.ts";

/** What a reader gets of the given aggregates: their events, and their deletions. */
export type RecordedEventOf<A extends AnyContract> = A extends AnyContract
  ? RecordedEvent<A["type"], EventOf<A> | Deletion>
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

/** Reads the events of an aggregate that the store knows; `undefined` for one that it does not know. */
export type ReaderOf = (aggregate: string) => EventReader | undefined;

const NONE: readonly RecordedEvent[] = [];

/** The events that a filter selects, as readers see them. */
export class EventSelection {
  readonly #reader: ReaderOf;
  readonly #aggregates: ReadonlySet<string> | undefined;
  readonly #types: ReadonlySet<string> | undefined;

  /** Throws `INVALID_ARGUMENT` for a type under which the selected aggregates have no events any more. */
  constructor({ aggregates, types }: EventFilter, reader: ReaderOf) {
    this.#reader = reader;
    this.#aggregates = aggregates === undefined ? undefined : new Set(aggregates.map(typeOf));
    this.#types = types === undefined ? undefined : new Set(types);
    for (const type of this.#types ?? []) this.#checkType(type);
  }

  /** What a store needs to leave out other events by itself; `undefined` if the filter does not name both aggregates and types. */
  get wanted(): EventTypes | undefined {
    const types = this.#types;
    if (this.#aggregates === undefined || types === undefined) return undefined;
    return new Map(
      [...this.#aggregates].map((aggregate) => [aggregate, this.#reader(aggregate)?.storedTypesOf(types) ?? types]),
    );
  }

  /** What readers see of a stored event and the filter selects. Usually it is one event or none. */
  of(event: StoredEvent): readonly RecordedEvent[] {
    const types = this.#types;
    const { type: aggregate } = event.stream;
    // Remembered outcomes are no events; who names their type gets them.
    if (this.#aggregates === undefined ? isOutcomesType(aggregate) : !this.#aggregates.has(aggregate)) return NONE;
    const reader = this.#reader(aggregate);
    if (reader === undefined) return types?.has(event.type) === false ? NONE : [recordedEvent(event, event.data)];
    if (reader.isCurrent(event.type)) return types?.has(event.type) === false ? NONE : [reader.recordedCurrent(event)];
    const parts = reader.recorded(event);
    return types === undefined ? parts : parts.filter(({ type }) => types.has(type));
  }

  #checkType(type: string): void {
    const readers = [...(this.#aggregates ?? [])].map((aggregate) => this.#reader(aggregate));
    const past = readers.map((reader) => reader?.pastOf(type));
    const became = past.find((found) => found !== undefined);
    if (became !== undefined && past.every((found) => found !== undefined))
      throw new EventfoldError(
        "INVALID_ARGUMENT",
        `types expected the present names of events, found ${JSON.stringify(type)}, which was ${became}; name what became of it`,
      );
  }
}

function typeOf(aggregate: AnyContract | string): string {
  return typeof aggregate === "string" ? aggregate : aggregate.type;
}
