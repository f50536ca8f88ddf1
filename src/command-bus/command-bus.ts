import type { CompileError } from "../compile-error.ts";
import type { AnyAggregate, CommandOf } from "../aggregate/aggregate.ts";
import { mergedContext } from "../aggregate/context.ts";
import type { CommandContext, CommandEnvelope } from "../aggregate/messages.ts";
import { type CommandOptions, withLimits } from "../aggregate-store/command-options.ts";
import { attempt, type CommandAttempt, type CommandResult } from "../aggregate-store/command-result.ts";
import { type EnvelopeFor, type Middleware, passThrough } from "../aggregate-store/middleware.ts";
import { isTypeOnly, type Payloads } from "../aggregate/payload.ts";
import { duplicateDefinition } from "../duplicate-definition.ts";
import { EventfoldError, InvalidCommandError } from "../errors.ts";

/** What the bus needs of a store. */
export interface BusStore {
  get(aggregate: never, id: string): unknown;
  dispatch(envelope: never, options?: CommandOptions): Promise<CommandResult>;
}

/** The aggregates that have a command of a type. */
type Owner<A extends AnyAggregate, Type> = A extends AnyAggregate
  ? Type extends CommandOf<A>["type"]
    ? A["type"]
    : never
  : never;
type IsUnion<T, U = T> = [T] extends [never] ? false : T extends unknown ? ([U] extends [T] ? false : true) : never;

/** Command types that more than one of the aggregates has. */
type Ambiguous<A extends AnyAggregate> = {
  [Type in CommandOf<A>["type"]]: IsUnion<Owner<A, Type>> extends true ? Type : never;
}[CommandOf<A>["type"]];

/** The commands that the bus can route by their type alone. */
export type RoutableCommand<A extends AnyAggregate> = Exclude<CommandOf<A>, { readonly type: Ambiguous<A> }>;

/** Refuses a command that the bus cannot route. In an intersection with `C`, from which the compiler infers. */
type Routable<C extends { readonly type: string }, A extends AnyAggregate> =
  IsUnion<Owner<A, C["type"]>> extends true
    ? CompileError<`several aggregates on this bus have a command "${C["type"]}": send an envelope, as .at(id).${C["type"]}(…) makes it`>
    : [Owner<A, C["type"]>] extends [never]
      ? CompileError<`no aggregate on this bus has a command "${C["type"]}"`>
      : C extends RoutableCommand<A>
        ? unknown
        : Extract<CommandOf<A>, { readonly type: C["type"] }>;

/** Refuses an envelope for an aggregate that is not on the bus. */
type OnBus<T, A extends AnyAggregate> = T extends string | EnvelopeFor<A>
  ? unknown
  : T extends { readonly aggregate: infer Type extends string }
    ? Type extends A["type"]
      ? EnvelopeFor<Extract<A, { readonly type: Type }>>
      : CompileError<`the aggregate "${Type}" is not registered on this bus: call .register(…)`>
    : EnvelopeFor<A>;

/** What follows the target: a command and its options, or only options after an envelope. */
type Rest<T, K extends string, C extends { readonly type: K }, A extends AnyAggregate> = T extends string
  ? [command: C & { readonly type: K } & Routable<C, A>, options?: CommandOptions]
  : [options?: CommandOptions];

/** What `dispatchUnknown` lets JSON from outside do. */
export interface UnknownCommandOptions {
  /** Whether the envelope's `context` counts: actor, correlation id, idempotency key and so on. Default: `"ignore"`. */
  readonly context?: "ignore" | "accept";
  /** What to do with a payload that is declared by its type only (`data<T>()`). Default: `"refuse"`. */
  readonly unchecked?: "refuse" | "accept";
}

/** Routes commands to the aggregates that are registered on it, through middleware. */
export class CommandBus<A extends AnyAggregate = never> {
  readonly #store: BusStore;
  readonly #aggregates = new Map<string, AnyAggregate>();
  readonly #middleware: Middleware[] = [];

  constructor(store: BusStore) {
    this.#store = store;
  }

  /** Lets the bus route commands of an aggregate. Returns the same bus, with its new type. */
  register<X extends AnyAggregate>(aggregate: X): CommandBus<A | X> {
    const known = this.#aggregates.get(aggregate.type);
    if (known !== undefined && known !== aggregate) {
      throw duplicateDefinition(`aggregate ${aggregate.type}`, "on this bus");
    }
    this.#aggregates.set(aggregate.type, aggregate);
    return this as unknown as CommandBus<A | X>;
  }

  /** Adds middleware; the first added runs outermost, and all of it around the middleware of the store. */
  use(middleware: Middleware<A>): this;
  /** Adds middleware that takes envelopes of any aggregate. */
  use(middleware: Middleware): this;
  use(middleware: never): this {
    this.#middleware.push(middleware);
    return this;
  }

  /**
   * Sends an envelope, or a command to the instance with an id: `dispatch(envelope, options)`, `dispatch(id, command, options)`. A
   * command is routed by its type, which only one of the registered aggregates may have. Fields of `options` win over the context of
   * the envelope. `signal` and `timeout` also end the wait for middleware; then the command is not sent any more.
   */
  dispatch<
    const T extends string | { readonly aggregate: string },
    K extends string = never,
    C extends { readonly type: K } = never,
  >(target: T & OnBus<T, A>, ...rest: Rest<T, K, C, A>): Promise<CommandResult<A>>;
  dispatch(first: unknown, second?: unknown, third?: unknown): Promise<CommandResult<A>> {
    return this.#dispatch(first, second, third);
  }

  async #dispatch(first: unknown, second: unknown, third: unknown): Promise<CommandResult<A>> {
    if (typeof first !== "string") return this.#run(checkedEnvelope(first), second as CommandOptions | undefined);
    const command = second as { readonly type: string };
    return this.#run({ aggregate: this.#routeOf(command), id: first, command }, third as CommandOptions | undefined);
  }

  /** Like `dispatch`, but a rejection is a value. Other failures still throw. */
  try<
    const T extends string | { readonly aggregate: string },
    K extends string = never,
    C extends { readonly type: K } = never,
  >(target: T & OnBus<T, A>, ...rest: Rest<T, K, C, A>): Promise<CommandAttempt<A>>;
  try(first: unknown, second?: unknown, third?: unknown): Promise<CommandAttempt<A>> {
    return attempt(this.#dispatch(first, second, third));
  }

  /**
   * Sends an envelope that came from outside as JSON: shape, aggregate, command and payload are checked at run time. `options` are
   * yours: the sender sets nothing of the context, unless `allowed` permits that, and never a version, a signal or a timeout. Throws
   * `INVALID_COMMAND` for a payload that nothing checks.
   */
  async dispatchUnknown(
    json: unknown,
    options?: CommandOptions,
    allowed: UnknownCommandOptions = {},
  ): Promise<CommandResult<A>> {
    checkAllowed(allowed);
    const envelope = checkedEnvelope(json);
    if (allowed.unchecked !== "accept") this.#checkPayloadDeclaration(envelope);
    const { aggregate, id, command } = envelope;
    return this.#run(allowed.context === "accept" ? envelope : { aggregate, id, command }, options);
  }

  #checkPayloadDeclaration({ aggregate, command: { type, data } }: CommandEnvelope): void {
    const commands = (this.#aggregates.get(aggregate)?.contract as { readonly commands: Payloads } | undefined)
      ?.commands;
    if (commands === undefined || !Object.hasOwn(commands, type)) return;
    const payload = commands[type];
    if (data === undefined || data === null || payload === undefined || !isTypeOnly(payload)) return;
    throw new InvalidCommandError(
      `the payload of ${aggregate}.${type} is declared by its type only, so nothing can check what came from outside: declare it with a schema, or pass { unchecked: "accept" }`,
    );
  }

  #routeOf(command: unknown): string {
    const type = typeof command === "object" && command !== null && "type" in command ? command.type : undefined;
    if (typeof type !== "string") throw new InvalidCommandError("a command is an object { type, data? }");
    const owners = [...this.#aggregates.values()].filter((aggregate) =>
      Object.hasOwn((aggregate.contract as { readonly commands: object }).commands, type),
    );
    const [owner] = owners;
    if (owner === undefined)
      throw new EventfoldError("UNKNOWN_COMMAND", `no aggregate on this bus has a command ${JSON.stringify(type)}`);
    if (owners.length > 1) {
      throw new EventfoldError(
        "AMBIGUOUS_COMMAND",
        `${owners.map((a) => a.type).join(" and ")} both have a command ${type}; send an envelope: ${owner.type}.at(id).${type}(…)`,
      );
    }
    return owner.type;
  }

  async #run(envelope: CommandEnvelope, options: CommandOptions = {}): Promise<CommandResult<A>> {
    if (!this.#aggregates.has(envelope.aggregate)) {
      throw new EventfoldError(
        "UNKNOWN_AGGREGATE",
        `no aggregate ${JSON.stringify(envelope.aggregate)} is registered on this bus`,
      );
    }
    return withLimits(options, (limits) => {
      const send = async (checked: CommandEnvelope): Promise<CommandResult> => {
        // A store that was opened without a list learns an aggregate from its first handle.
        const aggregate = this.#aggregates.get(checked.aggregate);
        if (aggregate !== undefined) this.#store.get(aggregate as never, checked.id);
        return this.#store.dispatch(checked as never, limits);
      };
      const complete = withContext(envelope, options);
      return passThrough(
        this.#middleware,
        complete,
        send,
        checkedEnvelope,
        limits.signal,
      ) as Promise<unknown> as Promise<CommandResult<A>>;
    });
  }
}

/** The fields of `options` that belong to the context win over those of the envelope. */
function withContext(envelope: CommandEnvelope, options: CommandOptions): CommandEnvelope {
  const context = mergedContext(envelope.context, options);
  return Object.keys(context).length === 0 ? envelope : { ...envelope, context };
}

function checkAllowed({ context = "ignore", unchecked = "refuse" }: UnknownCommandOptions): void {
  if ((context === "ignore" || context === "accept") && (unchecked === "refuse" || unchecked === "accept")) return;
  throw new EventfoldError(
    "INVALID_ARGUMENT",
    `dispatchUnknown expected { context?: "ignore" | "accept", unchecked?: "refuse" | "accept" }, found ${JSON.stringify({ context, unchecked })}`,
  );
}

const FIELDS = new Set(["aggregate", "id", "command", "context"]);
/** What may come from outside; anything else could pass for what the store itself adds. */
const CONTEXT_FIELDS = new Set([
  "actor",
  "correlationId",
  "causationId",
  "sourceDevice",
  "metadata",
  "idempotencyKey",
] satisfies (keyof CommandContext)[] as string[]);

function checkedEnvelope(json: unknown): CommandEnvelope {
  const bad = (why: string): InvalidCommandError =>
    new InvalidCommandError(`an envelope is an object { aggregate, id, command: { type, data? }, context? }; ${why}`);
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw bad(`found ${Array.isArray(json) ? "an array" : json === null ? "null" : `a ${typeof json}`}`);
  const { aggregate, id, command, context } = json as Record<string, unknown>;
  const extra = Object.keys(json).find((key) => !FIELDS.has(key));
  if (extra !== undefined) throw bad(`it has no ${JSON.stringify(extra)}`);
  if (typeof aggregate !== "string") throw bad("aggregate is not a string");
  if (typeof id !== "string") throw bad("id is not a string");
  if (
    typeof command !== "object" ||
    command === null ||
    typeof (command as { readonly type?: unknown }).type !== "string"
  )
    throw bad("command has no type");
  const excess = Object.keys(command).find((key) => key !== "type" && key !== "data");
  if (excess !== undefined) throw bad(`a command has no ${JSON.stringify(excess)}`);
  if (context === undefined) return json as CommandEnvelope;
  if (typeof context !== "object" || context === null || Array.isArray(context)) throw bad("context is not an object");
  const stranger = Object.keys(context).find((key) => !CONTEXT_FIELDS.has(key));
  if (stranger !== undefined) throw bad(`a context has no ${JSON.stringify(stranger)}`);
  return json as CommandEnvelope;
}
