import type { AnyContract } from "../aggregate/aggregate.ts";
import type { PastEvent, Renamed, Replaced } from "../aggregate/history.ts";
import { type Payload, type Payloads, type PayloadShape, shapesOf } from "../aggregate/payload.ts";
import { jsonSchemaOf, plainSchema } from "../aggregate/schema-text.ts";
import { declaredTypes, type DeclaredTypes } from "./declared-types.ts";

/** A payload's shape: the text of its type, JSON Schema, or `null` if neither is known. */
export type LockedShape = string | Readonly<Record<string, unknown>> | null;

/** An event with all its shapes, the oldest first. */
export interface LockedEvent {
  readonly shapes: readonly LockedShape[];
}

/** What became of an event that a contract had before. */
export type LockedPast =
  | { readonly renamed: string }
  | { readonly dropped: true }
  | { readonly replaced: true; readonly shapes: readonly LockedShape[] };

export interface LockedAggregate {
  readonly events: Readonly<Record<string, LockedEvent>>;
  readonly history: Readonly<Record<string, LockedPast>>;
}

/** All events of some aggregates, with their shapes: the content of `events.lock.json`. */
export interface EventLock {
  readonly "eventfold-es": "events";
  readonly format: 1;
  readonly aggregates: Readonly<Record<string, LockedAggregate>>;
}

export interface LockOptions {
  /**
   * The TypeScript files that declare the contracts. The types of `data<T>()` are read from them, if the package `typescript` is
   * installed. Without them, the shape of such a payload is `null`, and its changes are not noticed.
   */
  readonly sources?: readonly string[];
}

/** Describes the events of aggregates or contracts, as they are declared now. */
export async function describeEvents(
  contracts: readonly AnyContract[],
  { sources = [] }: LockOptions = {},
): Promise<EventLock> {
  const types = await declaredTypes(
    contracts.map(({ type }) => type),
    sources,
  );
  const aggregates = [...contracts]
    .sort((a, b) => (a.type < b.type ? -1 : 1))
    .map((contract): [string, LockedAggregate] => [contract.type, describeContract(contract, types)]);
  return { "eventfold-es": "events", format: 1, aggregates: Object.fromEntries(aggregates) };
}

function describeContract(aggregate: AnyContract, types: DeclaredTypes): LockedAggregate {
  const { events, history = [] } = (
    aggregate as unknown as {
      readonly contract: { readonly events: Payloads; readonly history?: readonly PastEvent[] };
    }
  ).contract;
  const shapes = (name: string, payload: Payload): LockedShape[] =>
    shapesOf(payload).map((shape, step, all) => shapeOf(shape, types.find(aggregate.type, name, step, all.length)));
  const past = (entry: PastEvent): LockedPast => {
    if (entry.kind === "renamed") return { renamed: (entry as Renamed).to };
    if (entry.kind === "dropped") return { dropped: true };
    return { replaced: true, shapes: shapes(entry.from, (entry as Replaced).payload) };
  };
  const sorted = <T>(entries: readonly (readonly [string, T])[]): Record<string, T> =>
    Object.fromEntries([...entries].sort(([a], [b]) => (a < b ? -1 : 1)));
  return {
    events: sorted(Object.entries(events).map(([name, payload]) => [name, { shapes: shapes(name, payload) }])),
    history: sorted(history.map((entry) => [entry.from, past(entry)])),
  };
}

/** JSON Schema if the schema offers it, else the type's text, else the plain data of the schema. */
function shapeOf({ schema }: PayloadShape, type: string | undefined): LockedShape {
  if (schema === undefined) return type ?? null;
  return jsonSchemaOf(schema) ?? type ?? (plainSchema(schema) as Readonly<Record<string, unknown>>);
}
