import { type AnyContract, type CommandOf, handledNames } from "../aggregate/aggregate.ts";
import { checkHandlerMap } from "../aggregate/handler-map.ts";
import { checkInitial } from "../aggregate/initial-state.ts";
import type { CommandEnvelope } from "../aggregate/messages.ts";
import type { Duration } from "../duration.ts";
import { EventfoldError } from "../errors.ts";
import { checkCodeVersion, type CodeVersion } from "../fingerprint.ts";
import { type FailurePolicies, type Policy, policyOf } from "./failure-policy.ts";
import { checkConsumerName } from "../projection/consumer-name.ts";
import type { EventHandlers } from "../projection/projection.ts";
import { sharedWeakMap } from "../shared-map.ts";

type EnvelopeOf<T extends AnyContract> = T extends AnyContract ? CommandEnvelope<T["type"], CommandOf<T>> : never;

/** A command for later. It survives restarts, and is sent late rather than never. */
export type Scheduled<Envelope = CommandEnvelope> = {
  readonly dispatch: Envelope;
  /** Names it, so that it can be cancelled or replaced. */
  readonly key?: string;
} & (
  | { /** After the time of the event that caused it. */ readonly in: number | Duration; readonly at?: undefined }
  | { /** Milliseconds since 1970, or a date. */ readonly at: number | Date; readonly in?: undefined }
);

/** What a process manager makes of an event. */
export interface Reaction<State, Envelope = CommandEnvelope> {
  readonly state?: State;
  /** Sent one after the other, each exactly once. */
  readonly dispatch?: Envelope | readonly Envelope[];
  readonly schedule?: readonly Scheduled<Envelope>[];
  /** Keys of scheduled commands that are not to be sent any more. */
  readonly cancel?: readonly string[];
}

type ReactionOf<State, T extends AnyContract> =
  | Reaction<State, EnvelopeOf<T>>
  | EnvelopeOf<T>
  | readonly EnvelopeOf<T>[];

/** Reacts to events with commands. Pure: the same state and event always give the same reaction. */
export interface ProcessManager<Name extends string, State, Targets extends AnyContract, From extends string> {
  readonly kind: "process-manager";
  readonly name: Name;
  /** Only a type: there is nothing here at run time. */
  readonly "~types": { readonly state: State; readonly from: From | Targets["type"] };
  /** Reacts to events of an aggregate: returns nothing, an envelope or several, or a `Reaction`. Returns a new process manager. */
  on<A extends AnyContract>(
    aggregate: A,
    // oxlint-disable-next-line no-invalid-void-type -- no reaction is a reaction too
    reactions: EventHandlers<A, State, ReactionOf<State, Targets> | undefined | void>,
  ): ProcessManager<Name, State, Targets, From | A["type"]>;
}

/* oxlint-disable no-explicit-any -- stands for a process manager of any state */
export interface AnyProcessManager {
  readonly kind: "process-manager";
  readonly name: string;
  readonly "~types": { readonly state: any; readonly from: string };
}
/* oxlint-enable no-explicit-any */

export interface ProcessManagerOptions<Targets extends readonly AnyContract[], State> {
  /** The aggregates that it may send commands to. */
  readonly dispatches: Targets;
  readonly initial?: State | (() => State);
  /**
   * Tells versions of the code apart, in place of the text of the reactions: change it when they change. With it, two builds
   * of one program use each other's checkpoints.
   */
  readonly version?: CodeVersion;
  /**
   * Which events a reaction begins with, when the store runs it for the first time: a reaction of a new process manager or one that
   * is added to a known one. `"beginning"` (the default): the first event of the store. `"now"`: the first event after
   * the opening. It is fixed in the store then; a later value changes nothing for that reaction.
   */
  readonly startFrom?: StartFrom;
  /** What to do about failures. One that may pass, like a full disk, is always tried again. */
  readonly onError?: FailurePolicies;
  /**
   * While a command is a dead letter, the commands that later events of the same instance cause wait for it. When it is replayed or
   * dropped, they are sent, in their order.
   */
  readonly order?: "instance";
}

export type StartFrom = "beginning" | "now";

type React = (state: unknown, event: unknown) => unknown;

/** What the runtime needs of a process manager. */
export interface ProcessManagerDefinition {
  readonly name: string;
  readonly initial: unknown;
  readonly targets: ReadonlySet<string>;
  readonly version: CodeVersion | undefined;
  readonly startFrom: StartFrom | undefined;
  readonly onCommandError: Policy;
  readonly onReactionError: Policy;
  readonly isOrdered: boolean;
  readonly sources: readonly {
    readonly aggregate: AnyContract;
    readonly handlers: Readonly<Record<string, React | undefined>>;
  }[];
}

const definitions = sharedWeakMap<ProcessManagerDefinition>("process-manager");

/** Declares a process manager; `.on` adds what it reacts to. Throws `INVALID_DEFINITION` for a name that cannot be a directory's. */
export function processManager<const Name extends string, const Targets extends readonly AnyContract[], State = null>(
  name: Name,
  options: ProcessManagerOptions<Targets, State>,
): ProcessManager<Name, State, Targets[number], never> {
  checkConsumerName("process manager", name);
  const { dispatches, initial = null, version, startFrom, onError = {}, order } = options;
  checkCodeVersion(`process manager ${name}`, version);
  checkInitial(`process manager ${name}`, initial);
  if (startFrom !== undefined && startFrom !== "beginning" && startFrom !== "now")
    throw new EventfoldError(
      "INVALID_DEFINITION",
      `process manager ${name}: startFrom is "beginning" or "now", not ${JSON.stringify(startFrom)}`,
    );
  const what = `process manager ${name}, onError`;
  const onCommandError = policyOf(`${what}.command`, onError.command, ["dead-letter", "skip", "stop"]);
  const onReactionError = policyOf(`${what}.reaction`, onError.reaction, ["stop", "skip"]);
  if (order !== undefined && order !== "instance")
    throw new EventfoldError(
      "INVALID_DEFINITION",
      `process manager ${name}: expected order to be "instance", found ${JSON.stringify(order)}`,
    );
  const targets = new Set(dispatches.map(({ type }) => type));
  const definition = {
    name,
    initial,
    targets,
    version,
    startFrom,
    onCommandError,
    onReactionError,
    isOrdered: order !== undefined,
  };
  return define({ ...definition, sources: [] }) as unknown as ProcessManager<Name, State, Targets[number], never>;
}

function define(definition: ProcessManagerDefinition): object {
  const { name, sources } = definition;
  const self = {
    kind: "process-manager",
    name,
    on(aggregate: AnyContract, handlers: Readonly<Record<string, React | undefined>>) {
      if (sources.some((source) => source.aggregate.type === aggregate.type)) {
        throw new EventfoldError(
          "INVALID_DEFINITION",
          `process manager ${name} handles ${aggregate.type} twice; put all its reactions into one .on`,
        );
      }
      checkHandlerMap(`process manager ${name}, events of ${aggregate.type}`, handledNames(aggregate), handlers, "any");
      // A copy: later changes of the object do not count.
      return define({ ...definition, sources: [...sources, { aggregate, handlers: { ...handlers } }] });
    },
  };
  definitions.set(self, definition);
  return self;
}

export function processManagerDefinition(manager: AnyProcessManager): ProcessManagerDefinition {
  const definition = definitions.get(manager);
  if (definition === undefined) {
    throw new EventfoldError(
      "INVALID_DEFINITION",
      `${JSON.stringify(manager.name)} was not made with processManager(name, options)`,
    );
  }
  return definition;
}
