import type { AnyAggregate } from "../aggregate/aggregate.ts";
import type { CompileError } from "../compile-error.ts";
import type { AnyProjection } from "../projection/projection.ts";
import type { CommandResult } from "./command-result.ts";
import type { EnvelopeFor } from "./middleware.ts";

/**
 * What a store was built with. A method compares its arguments with it through the type of its `this`: if the parameters' types named
 * the type parameters of the store, a store could be passed neither as one of fewer aggregates nor as one of any.
 */
export interface StoreTypes {
  readonly "~types": RegisteredTypes<AnyAggregate, AnyProjection>;
}

/** A method, because the parameters of methods are compared in both directions. */
export interface RegisteredTypes<A extends AnyAggregate, P extends AnyProjection> {
  of(aggregates: A, projections: P): void;
}

type AggregatesOf<S extends StoreTypes> = Parameters<S["~types"]["of"]>[0];
type ProjectionsOf<S extends StoreTypes> = Parameters<S["~types"]["of"]>[1];

/** An aggregate of a store. */
export type RegisteredAggregate<X extends AnyAggregate, S extends StoreTypes> =
  X extends AggregatesOf<S>
    ? X
    : CompileError<`the aggregate "${X["type"]}" is not registered in this store: add .aggregate(…) to its builder`>;

/** A projection of a store. */
export type RegisteredProjection<X extends AnyProjection, S extends StoreTypes> =
  X extends ProjectionsOf<S>
    ? X
    : CompileError<`the projection "${X["name"]}" is not registered in this store: add .projection(…) to its builder`>;

/** Whatever names an aggregate, as an envelope does. */
export interface Addressed {
  readonly aggregate: string;
}

/** Refuses an envelope for an aggregate that a store does not have. In an intersection with `E`, from which the compiler infers. */
export type RegisteredEnvelope<E extends Addressed, S extends StoreTypes> =
  E extends EnvelopeFor<AggregatesOf<S>>
    ? unknown
    : E["aggregate"] extends AggregatesOf<S>["type"]
      ? EnvelopeFor<AddressedBy<AggregatesOf<S>, E>>
      : CompileError<`the aggregate "${E["aggregate"]}" is not registered in this store: add .aggregate(…) to its builder`>;

type AddressedBy<A extends AnyAggregate, E extends Addressed> = string extends A["type"]
  ? A
  : Extract<A, { readonly type: E["aggregate"] }>;

/** The result of an envelope's command. */
export type ResultOf<E extends Addressed, S extends StoreTypes> = CommandResult<AddressedBy<AggregatesOf<S>, E>>;

/** The same for several envelopes. */
export type RegisteredEnvelopes<E extends readonly Addressed[], S extends StoreTypes> = E extends readonly EnvelopeFor<
  AggregatesOf<S>
>[]
  ? unknown
  : { readonly [I in keyof E]: E[I] extends Addressed ? RegisteredEnvelope<E[I], S> : E[I] };

/** The results of their commands, each at its envelope's place. */
export type ResultsOf<E extends readonly Addressed[], S extends StoreTypes> = {
  readonly [I in keyof E]: ResultOf<E[I], S>;
};

/** The results of `dispatchAll`, in the order of the envelopes. */
export interface DispatchAllResult<Results = readonly CommandResult[]> {
  readonly results: Results;
  /** Position of the commit's last event. */
  readonly position: number;
}
