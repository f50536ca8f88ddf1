import { type AnyContract, type DeepReadonly, handledNames } from "../aggregate/aggregate.ts";
import { checkInitial } from "../aggregate/initial-state.ts";
import { checkHandlerMap } from "../aggregate/handler-map.ts";
import type { Deletion, Message, RecordedEvent } from "../aggregate/messages.ts";
import type { DataOf } from "../aggregate/payload.ts";
import { EventfoldError } from "../errors.ts";
import { checkCodeVersion, type CodeVersion } from "../fingerprint.ts";
import { checkConsumerName } from "./consumer-name.ts";
import { sharedWeakMap } from "../shared-map.ts";

/** A function for each event type that is of interest; `$deleted` is called when an instance was deleted. */
export type EventHandlers<A extends AnyContract, State, Result> = {
  readonly [K in (keyof A["~types"]["payloads"] & string) | "$deleted"]?: (
    state: State,
    event: RecordedEvent<A["type"], K extends "$deleted" ? Deletion : Message<K, DataOf<A["~types"]["payloads"][K]>>>,
  ) => Result;
};

/** A read model over the events of one or more aggregates, in the store's global order. */
export interface Projection<Name extends string, State, From extends string> {
  readonly kind: "projection";
  readonly name: Name;
  /** Only a type: there is nothing here at run time. */
  readonly "~types": { readonly state: State; readonly from: From };
  /**
   * Handles events of an aggregate. A handler changes the state it is given, or returns a new one. Returns a
   * new projection.
   */
  on<A extends AnyContract>(
    aggregate: A,
    // oxlint-disable-next-line no-invalid-void-type -- a handler that changes the state returns nothing
    handlers: EventHandlers<A, State, State | undefined | void>,
  ): Projection<Name, State, From | A["type"]>;
}

/* oxlint-disable no-explicit-any -- stands for a projection of any state */
export interface AnyProjection {
  readonly kind: "projection";
  readonly name: string;
  readonly "~types": { readonly state: any; readonly from: string };
}
/* oxlint-enable no-explicit-any */

export type ProjectionState<P extends AnyProjection> = P["~types"]["state"];

/** What reading a projection gives. The state is shared with later reads, so it is not to be changed. */
export type ReadProjection<P extends AnyProjection, WithPosition extends boolean> = WithPosition extends true
  ? { readonly state: DeepReadonly<ProjectionState<P>>; readonly position: number }
  : DeepReadonly<ProjectionState<P>>;

type Handler = (state: unknown, event: unknown) => unknown;

/** What the runtime needs of a projection. */
export interface ProjectionDefinition {
  readonly name: string;
  readonly version?: CodeVersion | undefined;
  readonly initial: unknown;
  readonly sources: readonly {
    readonly aggregate: AnyContract;
    readonly handlers: Readonly<Record<string, Handler>>;
  }[];
}

export interface ProjectionOptions {
  /**
   * Names the code of the handlers for checkpoints. Without it, their text tells whether a checkpoint was made by the same code.
   * Change it whenever a handler, or something that a handler calls, makes another state of the same events.
   */
  readonly version?: CodeVersion;
}

const definitions = sharedWeakMap<ProjectionDefinition>("projection");

/** Declares a projection; `.on` adds what it handles. Throws `INVALID_DEFINITION` for a name that cannot be a directory's. */
export function projection<const Name extends string, State>(
  name: Name,
  initial: State | (() => State),
  options: ProjectionOptions = {},
): Projection<Name, State, never> {
  checkConsumerName("projection", name);
  checkCodeVersion(`projection ${name}`, options.version);
  checkInitial(`projection ${name}`, initial);
  return define({ name, initial, version: options.version, sources: [] }) as unknown as Projection<Name, State, never>;
}

function define(definition: ProjectionDefinition): object {
  const { name, sources } = definition;
  const self = {
    kind: "projection",
    name,
    on(aggregate: AnyContract, handlers: Readonly<Record<string, Handler>>) {
      if (sources.some((source) => source.aggregate.type === aggregate.type)) {
        throw new EventfoldError(
          "INVALID_DEFINITION",
          `projection ${name} handles ${aggregate.type} twice; put all its handlers into one .on`,
        );
      }
      checkHandlerMap(`projection ${name}, events of ${aggregate.type}`, handledNames(aggregate), handlers, "any");
      // A copy: later changes of the object do not count.
      return define({ ...definition, sources: [...sources, { aggregate, handlers: { ...handlers } }] });
    },
  };
  definitions.set(self, definition);
  return self;
}

export function definitionOf(projection: AnyProjection): ProjectionDefinition {
  const definition = definitions.get(projection);
  if (definition === undefined)
    throw new EventfoldError(
      "INVALID_DEFINITION",
      `${JSON.stringify(projection.name)} was not made with projection(name, initial)`,
    );
  return definition;
}
