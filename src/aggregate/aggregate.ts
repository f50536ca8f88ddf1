import type { CompileError } from "../compile-error.ts";
import { EventfoldError } from "../errors.ts";
import { CUT_TYPES } from "../cut.ts";
import { isTypeName } from "../stream-names.ts";
import {
  type CommandContext,
  type Constructors,
  constructorsFor,
  type EnvelopeConstructors,
  type EventRecord,
  type GivenEvent,
  type InputConstructors,
  type InputMessages,
  type Message,
  type Messages,
  type Rejection,
  type Rejections,
} from "./messages.ts";
import { checkCodeVersion, type CodeVersion } from "../fingerprint.ts";
import { checkInitial, initialOf } from "./initial-state.ts";
import { checkHandlerMap } from "./handler-map.ts";
import { type CheckedHistory, checkHistory, type PastEvent } from "./history.ts";
import {
  checkPayload,
  type DataOf,
  type InputOf,
  isTypeOnly,
  type NotJson,
  type Payload,
  type Payloads,
  type StandardSchema,
} from "./payload.ts";
import { shownIssues, validated } from "./validate.ts";

interface ContractSections<State, Events extends Payloads, Commands extends Payloads, Rejected extends Payloads> {
  /** The state before the first event, or a function that makes it. */
  readonly initial: State | (() => State);
  readonly events: Events;
  readonly commands: Commands;
  readonly rejections?: Rejected;
}

/** Names and payloads of an aggregate; a user interface can import it without the behaviour. */
export interface ContractOptions<
  State,
  Events extends Payloads,
  Commands extends Payloads,
  Rejected extends Payloads,
> extends ContractSections<State, Events, Commands, Rejected> {
  /** A schema that checks states and does not change them, or `data<State>()` for their type alone. */
  // oxlint-disable-next-line no-explicit-any -- only what it returns matters
  readonly state?: StandardSchema<any, State>;
  /** What became of events that the contract had before: `renamed(…)`, `dropped(…)`, `replaced(…)`. */
  readonly history?: readonly PastEvent[];
}

/** Makes the compiler refuse a schema for something that JSON would change: an event as it is stored, a command as it is sent. */
interface JsonOnly<Events extends Payloads, Commands extends Payloads> {
  readonly events: { readonly [K in keyof Events]: Checked<DataOf<Events[K]>> };
  readonly commands: { readonly [K in keyof Commands]: Checked<InputOf<Commands[K]>> };
}
type Checked<Data> = [NotJson<Data>] extends [never] ? unknown : CompileError<`JSON cannot hold ${NotJson<Data>}`>;

/** Also a primitive with a brand, which the compiler takes for an object. */
type Unchangeable = string | number | bigint | boolean | symbol | null | undefined | ((...args: never[]) => unknown);

/** A type all of whose parts are readonly, as those of a frozen value are. */
export type DeepReadonly<T> = 0 extends 1 & T
  ? T
  : T extends Unchangeable
    ? T
    : T extends object
      ? { readonly [K in keyof T]: DeepReadonly<T[K]> }
      : T;

/** What `handle` gets. */
export interface HandleArguments<State, Data, Events extends Payloads, Rejected extends Payloads> {
  /** The state after all events before this command. */
  readonly state: DeepReadonly<State>;
  readonly data: Data;
  readonly id: string;
  /** Version of the last event in `state`; 0 for a new instance. */
  readonly version: number;
  readonly context: CommandContext;
  /** The store's clock; the events get this time. */
  readonly now: Date;
  readonly emit: InputConstructors<Events>;
  readonly reject: Rejections<Rejected>;
}

/** What `apply` may take as its third parameter: the event's record, but for the position, which a new event does not have yet. */
export type AppliedEvent<Type extends string, Data> = Message<Type, Data> & Omit<EventRecord, "position">;

/** Decisions and the fold: pure functions of their arguments. */
export interface Behaviour<State, Events extends Payloads, Commands extends Payloads, Rejected extends Payloads> {
  /** Returns an event, an array of them, nothing, or `reject.X(…)`. An exception is a bug; the command fails with it. */
  readonly handle: {
    readonly [K in keyof Commands & string]: (
      args: HandleArguments<State, DataOf<Commands[K]>, Events, Rejected>,
      // oxlint-disable-next-line no-invalid-void-type -- "nothing" is a decision too
    ) => InputMessages<Events> | readonly InputMessages<Events>[] | Rejection<Messages<Rejected>> | undefined | void;
  };
  /** Returns the next state and leaves the given one as it is: states are frozen. */
  readonly apply: {
    readonly [K in keyof Events & string]: (
      state: State,
      data: DataOf<Events[K]>,
      event: AppliedEvent<K, DataOf<Events[K]>>,
    ) => State;
  };
  /** A snapshot is taken when this many events came since the last one; 100 if left out. */
  readonly snapshotEvery?: number;
  /**
   * An instance is compacted in the background when it has this many events since its beginning or its last compaction. Needs `compactInto`.
   * If left out, only `store.compact` compacts.
   */
  readonly compactAfter?: number;
  /** Returns events that fold to a state. A compaction replaces the events so far with them. */
  readonly compactInto?: (state: DeepReadonly<State>) => readonly GivenEvent<InputMessages<Events>>[];
  /**
   * Names this code for snapshots. Without it, the text of the functions in `apply` tells whether a snapshot was made by the same code.
   * Change it whenever `apply`, or something that `apply` calls, computes other states from the same events.
   */
  readonly version?: CodeVersion;
}

/** Carries the inferred types in one property, so that looking them up costs the compiler nothing. */
interface Types<
  Type extends string,
  State,
  Events extends Payloads,
  Commands extends Payloads,
  Rejected extends Payloads,
> {
  readonly type: Type;
  readonly state: State;
  readonly payloads: Events;
  readonly event: Messages<Events>;
  readonly command: InputMessages<Commands>;
  readonly rejection: Messages<Rejected>;
}

/** An aggregate's type, names and payloads. */
export interface AggregateContract<
  Type extends string,
  State,
  Events extends Payloads,
  Commands extends Payloads,
  Rejected extends Payloads,
> {
  readonly type: Type;
  /** Only a type: there is nothing here at run time. */
  readonly "~types": Types<Type, State, Events, Commands, Rejected>;
  readonly contract: ContractOptions<State, Events, Commands, Rejected>;
  /** Event constructors. */
  readonly events: Constructors<Events>;
  /** Command constructors. */
  readonly commands: InputConstructors<Commands>;
  /** Command constructors for one instance: they give envelopes. */
  at(id: string): EnvelopeConstructors<Type, Commands>;
}

/** A contract that waits for its behaviour. */
export interface DefinableContract<
  Type extends string,
  State,
  Events extends Payloads,
  Commands extends Payloads,
  Rejected extends Payloads,
> extends AggregateContract<Type, State, Events, Commands, Rejected> {
  define(behaviour: Behaviour<State, Events, Commands, Rejected>): Aggregate<Type, State, Events, Commands, Rejected>;
}

/** A contract with its behaviour: what a store runs. */
export interface Aggregate<
  Type extends string,
  State,
  Events extends Payloads,
  Commands extends Payloads,
  Rejected extends Payloads,
> extends AggregateContract<Type, State, Events, Commands, Rejected> {
  readonly behaviour: Behaviour<State, Events, Commands, Rejected>;
}

/* oxlint-disable no-explicit-any -- stands for an aggregate of any state and messages */
export interface AnyContract {
  readonly type: string;
  readonly "~types": {
    readonly type: string;
    readonly state: any;
    readonly payloads: any;
    readonly event: any;
    readonly command: any;
    readonly rejection: any;
  };
}
export interface AnyAggregate extends AnyContract {
  readonly contract: any;
  readonly behaviour: any;
}
/* oxlint-enable no-explicit-any */

export type StateOf<A extends AnyContract> = A["~types"]["state"];
export type EventOf<A extends AnyContract> = A["~types"]["event"];
export type CommandOf<A extends AnyContract> = A["~types"]["command"];
export type RejectionOf<A extends AnyContract> = A["~types"]["rejection"];

/** Declares an aggregate's contract; `.define` adds the behaviour. Throws `INVALID_DEFINITION` for names that cannot be used. */
export function aggregate<
  const Type extends string,
  State,
  Events extends Payloads,
  Commands extends Payloads,
  Rejected extends Payloads = Record<never, never>,
  const History extends readonly PastEvent[] = readonly [],
  Declared = State,
>(
  type: Type,
  contract: ContractSections<State, Events, Commands, Rejected> &
    JsonOnly<Events, Commands> & {
      readonly history?: History & CheckedHistory<History, Events>;
      // oxlint-disable-next-line no-explicit-any -- only what it returns matters
      readonly state?: StandardSchema<any, Declared>;
    },
): DefinableContract<Type, Declared, Events, Commands, Rejected> {
  checkType(type);
  checkKeys(type, contract);
  const { events, commands, rejections = {}, state } = contract;
  for (const [section, payloads] of Object.entries({ events, commands, rejections })) {
    for (const [name, payload] of Object.entries<Payload>(payloads)) {
      checkMessageName(name);
      checkPayload(`aggregate ${type}: ${section}.${name}`, payload);
    }
  }
  if (state !== undefined) checkPayload(`aggregate ${type}: state`, state);
  checkHistory(type, contract.events, contract.history, checkMessageName);
  checkInitial(`aggregate ${type}`, contract.initial);
  if (state !== undefined) checkInitialState(type, contract.initial, state);
  const constructors = constructorsFor(contract.commands);
  const common = {
    type,
    contract,
    events: constructorsFor(contract.events),
    commands: constructors,
    at(id: string) {
      const envelopes = Object.create(null) as Record<string, (data?: unknown) => unknown>;
      for (const [name, construct] of Object.entries(constructors))
        envelopes[name] = (data) => ({ aggregate: type, id, command: construct(data) });
      return envelopes;
    },
  };
  const define = (behaviour: Behaviour<Declared, Events, Commands, Rejected>) => {
    const { handle, apply, snapshotEvery, compactAfter, compactInto, version } = (behaviour ?? {}) as Partial<
      typeof behaviour
    >;
    checkHandlerMap(`aggregate ${type}: handle`, Object.keys(contract.commands), handle, "each");
    checkHandlerMap(`aggregate ${type}: apply`, Object.keys(contract.events), apply, "each");
    checkCodeVersion(`aggregate ${type}`, version);
    if (snapshotEvery !== undefined && !(Number.isSafeInteger(snapshotEvery) && snapshotEvery > 0)) {
      throw invalid(`aggregate ${type}: snapshotEvery is a number of events, 1 or more`);
    }
    if (compactAfter !== undefined && !(Number.isSafeInteger(compactAfter) && compactAfter > 0))
      throw invalid(`aggregate ${type}: compactAfter is a number of events, 1 or more`);
    if (compactInto === undefined ? compactAfter !== undefined : typeof compactInto !== "function")
      throw invalid(`aggregate ${type}: compactAfter expected compactInto beside it, a function that returns events`);
    return { ...common, behaviour } as unknown as Aggregate<Type, Declared, Events, Commands, Rejected>;
  };
  return { ...common, define } as unknown as DefinableContract<Type, Declared, Events, Commands, Rejected>;
}

/** Also `billing.invoice`, `ns::Type` and `größe`, as the Rust crate allows. Files escape a name that no directory can have. */
const TYPE = /^[\p{L}_][\p{L}\p{M}\p{N}_.:-]{0,99}$/u;
const MESSAGE_NAME = /^[\p{L}_][\p{L}\p{M}\p{N}_.:/-]{0,199}$/u;
/** `then` would make an object of constructors a promise to `await`; the others reach into prototypes. */
const RESERVED_NAMES = new Set(["then", "__proto__", "constructor", "prototype"]);

function checkType(type: unknown): void {
  if (typeof type !== "string" || !TYPE.test(type) || !isTypeName(type)) {
    throw invalid(
      `aggregate type ${JSON.stringify(type)} is not an identifier (letters, digits, _, -, . and :, at most 100, fewer if their name in files would be longer than 255 bytes)`,
    );
  }
}

const CONTRACT_KEYS = ["initial", "events", "commands", "rejections", "state", "history"];

function checkKeys(type: string, contract: object): void {
  const unknown = Object.keys(contract).find((key) => !CONTRACT_KEYS.includes(key));
  if (unknown !== undefined)
    throw invalid(
      `aggregate ${type}: the contract has the unknown key ${JSON.stringify(unknown)}; expected ${CONTRACT_KEYS.join(", ")}`,
    );
}

/** Throws `INVALID_DEFINITION` if the schema of the states refuses the initial one. */
function checkInitialState(type: string, initial: unknown, schema: Payload): void {
  if (isTypeOnly(schema)) return;
  const { issues } = validated(schema, initialOf(initial), `aggregate ${type}: state`);
  if (issues !== undefined)
    throw invalid(`aggregate ${type}: the initial state does not fit the schema of the state: ${shownIssues(issues)}`);
}

function checkMessageName(name: string): void {
  if (!MESSAGE_NAME.test(name) || RESERVED_NAMES.has(name)) {
    throw invalid(
      `message name ${JSON.stringify(name)} is not an identifier (letters, digits, _, -, ., : and /, at most 200, not ${[...RESERVED_NAMES].join(", ")})`,
    );
  }
}

function invalid(message: string): EventfoldError {
  return new EventfoldError("INVALID_DEFINITION", message);
}

/** The names that a reader of a contract's events can handle. */
export function handledNames(aggregate: AnyContract): string[] {
  return [...eventNames(aggregate), CUT_TYPES.deleted];
}

/** The names of a contract's events. */
export function eventNames(aggregate: AnyContract): string[] {
  return Object.keys(
    (aggregate as AnyAggregate & { readonly contract: { readonly events: Payloads } }).contract.events,
  );
}
