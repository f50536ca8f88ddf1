import { orAborted, whenAborted } from "../abort.ts";
import type { AnyAggregate, CommandOf } from "../aggregate/aggregate.ts";
import type { CommandOutcome } from "../aggregate/instance/command-outcome.ts";
import { optionBesideContext } from "../aggregate/context.ts";
import type { CommandEnvelope } from "../aggregate/messages.ts";
import { EventfoldError, InvalidCommandError } from "../errors.ts";
import type { CommandResult } from "./command-result.ts";

/** An envelope for one of the given aggregates. */
export type EnvelopeFor<A extends AnyAggregate> = A extends AnyAggregate
  ? CommandEnvelope<A["type"], CommandOf<A>>
  : never;

/**
 * Runs around every command. It may look at the envelope, pass another one to `next`, refuse by throwing, or answer without
 * calling `next`. `next` resolves when the command's events are durable, and throws what `execute` throws.
 */
export type Middleware<A extends AnyAggregate = AnyAggregate> = (
  envelope: EnvelopeFor<A>,
  next: (envelope: EnvelopeFor<A>) => Promise<CommandResult<A>>,
) => Promise<CommandResult<A>>;

/** Executes the command of an envelope. */
export type Execute<Result = CommandOutcome> = (envelope: CommandEnvelope) => Promise<Result>;

/**
 * Passes an envelope through middleware, of which the first runs outermost, to `execute`. An abort also ends the wait for middleware;
 * once the command is executed, only its instance knows whether it can be taken back.
 */
export function passThrough<Result>(
  middleware: readonly Middleware[],
  envelope: CommandEnvelope,
  execute: Execute<Result>,
  check: (envelope: unknown) => CommandEnvelope,
  signal: AbortSignal | undefined,
): Promise<Result> {
  if (signal === undefined) return chained(middleware, execute, check)(envelope);
  const before = new AbortController();
  const unlink = whenAborted(signal, () => before.abort(signal.reason));
  const send: Execute<Result> = (checked) => {
    signal.throwIfAborted();
    unlink();
    return execute(checked);
  };
  return orAborted(chained(middleware, send, check)(envelope), before.signal).finally(unlink);
}

function chained<Result>(
  middleware: readonly Middleware[],
  execute: Execute<Result>,
  check: (envelope: unknown) => CommandEnvelope,
): Execute<Result> {
  let next: Execute<Result> = async (envelope) => execute(check(envelope));
  for (const each of middleware.toReversed()) {
    const inner = next;
    // An error that it throws at once is one of the promise.
    next = async (envelope) => (await each(envelope, inner as never)) as Result;
  }
  return next;
}

/** The middleware of a store. */
export class MiddlewareChain {
  readonly #middleware: readonly Middleware[];

  constructor(middleware: readonly Middleware[]) {
    this.#middleware = middleware;
  }

  get isEmpty(): boolean {
    return this.#middleware.length === 0;
  }

  /** Passes one envelope. Middleware may call `next` again, for example after a conflict. */
  pass(envelope: CommandEnvelope, execute: Execute, signal?: AbortSignal): Promise<CommandOutcome> {
    return passThrough(this.#middleware, envelope, execute, checkEnvelope, signal);
  }

  /**
   * Passes several envelopes whose commands are executed together: each waits at the end of the chain until all others are
   * there. If one is refused on its way, none is executed. One that middleware answers by itself is left out.
   */
  async passAll(
    envelopes: readonly CommandEnvelope[],
    execute: (envelopes: readonly CommandEnvelope[]) => Promise<readonly CommandOutcome[]>,
  ): Promise<readonly CommandOutcome[]> {
    const joint = new JointExecution(envelopes.length, execute);
    const passed = await Promise.allSettled(envelopes.map((envelope) => joint.pass(this, envelope)));
    joint.throwRefusal();
    return passed.map((each) => {
      if (each.status === "rejected") throw each.reason;
      return each.value;
    });
  }
}

class JointExecution {
  readonly #execute: (envelopes: readonly CommandEnvelope[]) => Promise<readonly CommandOutcome[]>;
  readonly #arrived: CommandEnvelope[] = [];
  #underWay: number;
  #refusal: { readonly error: unknown } | undefined;
  #begin: () => void = () => {};
  readonly #allHere = new Promise<void>((resolve) => (this.#begin = resolve));
  #outcomes: Promise<readonly CommandOutcome[]> | undefined;

  constructor(count: number, execute: (envelopes: readonly CommandEnvelope[]) => Promise<readonly CommandOutcome[]>) {
    this.#underWay = count;
    this.#execute = execute;
  }

  async pass(chain: MiddlewareChain, envelope: CommandEnvelope): Promise<CommandOutcome> {
    let isUnderWay = true;
    const end = (): void => {
      if (isUnderWay && --this.#underWay === 0) this.#begin();
      isUnderWay = false;
    };
    try {
      const outcome = await chain.pass(envelope, async (sent) => {
        if (!isUnderWay)
          throw new EventfoldError(
            "INVALID_ARGUMENT",
            "middleware called next twice for a command of dispatchAll; its commands are executed together, once",
          );
        const place = this.#arrived.push(sent) - 1;
        end();
        await this.#allHere;
        this.throwRefusal();
        this.#outcomes ??= this.#execute(this.#arrived);
        return (await this.#outcomes)[place] as CommandOutcome;
      });
      end();
      return outcome;
    } catch (error) {
      if (isUnderWay) this.#refusal ??= { error };
      end();
      throw error;
    }
  }

  /** Throws what the middleware threw that refused a command first. */
  throwRefusal(): void {
    if (this.#refusal !== undefined) throw this.#refusal.error;
  }
}

/** The shape of an envelope, whose command is checked when it is executed. */
export function checkEnvelope(envelope: unknown): CommandEnvelope {
  const { aggregate, id, command } = (typeof envelope === "object" && envelope !== null ? envelope : {}) as Record<
    string,
    unknown
  >;
  if (typeof aggregate !== "string" || typeof id !== "string" || typeof command !== "object") {
    throw new InvalidCommandError("an envelope is an object { aggregate, id, command, context? }");
  }
  const option = optionBesideContext(envelope as object) ?? optionBesideContext((envelope as CommandEnvelope).context);
  if (option !== undefined)
    throw new InvalidCommandError(
      `an envelope is an object { aggregate, id, command, context? }, found ${option} in it; pass it in the options, beside the envelope`,
    );
  return envelope as CommandEnvelope;
}
