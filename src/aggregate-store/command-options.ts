import { whenAborted } from "../abort.ts";
import { optionBesideContext } from "../aggregate/context.ts";
import type { CommandLimits, Remember } from "../aggregate/instance/command-limits.ts";
import type { CommandContext } from "../aggregate/messages.ts";
import { type Duration, milliseconds } from "../duration.ts";
import { EventfoldError } from "../errors.ts";
import { isCount } from "../json.ts";
import { LONGEST_TIMER_MS, startTimer } from "../real-timers.ts";

/** The context of a command, and the conditions on which it is executed. */
export interface CommandOptions extends CommandContext {
  /** The version that the instance must have, 0 for a new one. If it has another, the command fails with `CONFLICT` and is not tried again. */
  readonly expectedVersion?: number | undefined;
  /**
   * Which outcomes the `idempotencyKey` remembers: `"events"` (default) only those of commands that wrote events, `"all"` also
   * rejections and commands with nothing to do.
   */
  readonly remember?: Remember | undefined;
  /**
   * Takes the command back: it fails with the signal's reason and never takes effect. If its events are being written already, it
   * fails with `COMMIT_UNKNOWN`.
   */
  readonly signal?: AbortSignal | undefined;
  /** How long to wait: milliseconds or a text like `"5s"`. Then the command ends as with `signal`, with `TIMEOUT` as the reason. */
  readonly timeout?: number | Duration | undefined;
}

/** The context of several commands, and what is remembered of them. */
export type DispatchAllOptions = CommandContext & Pick<CommandOptions, "remember">;

const NO_LIMITS: CommandLimits = {};

/** Runs a command within the limits that its options name. Throws `INVALID_ARGUMENT` for limits that cannot be meant. */
export function withLimits<T>(options: CommandOptions, run: (limits: CommandLimits) => Promise<T>): Promise<T> {
  const { expectedVersion, remember, signal, timeout } = options ?? {};
  checkRemember(remember);
  const isWaiting = signal !== undefined || timeout !== undefined;
  if (!isWaiting && expectedVersion === undefined && remember === undefined) return run(NO_LIMITS);
  if (expectedVersion !== undefined && !isCount(expectedVersion))
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `expectedVersion expected a whole number from 0 on, found ${String(expectedVersion)}`,
    );
  if (!isWaiting) return run({ expectedVersion, remember });
  const ms = timeout === undefined ? Infinity : milliseconds(timeout, "timeout");
  const controller = new AbortController();
  const unlink = signal === undefined ? () => {} : whenAborted(signal, () => controller.abort(signal.reason));
  const end = (): void =>
    controller.abort(new EventfoldError("TIMEOUT", `expected the command to be answered within ${ms} ms; it was not`));
  const cancel = ms > LONGEST_TIMER_MS ? () => {} : startTimer(end, ms, "foreground");
  return run({ expectedVersion, remember, signal: controller.signal }).finally(() => {
    unlink();
    cancel();
  });
}

/** What the options of `dispatchAll` ask for. Throws `INVALID_ARGUMENT` for what holds for one command alone. */
export function limitsOfAll(options: DispatchAllOptions): CommandLimits {
  const { remember, ...rest } = options ?? {};
  checkRemember(remember);
  const excess = optionBesideContext(rest);
  if (excess === undefined) return { remember };
  throw new EventfoldError(
    "INVALID_ARGUMENT",
    `dispatchAll expected a context, found ${excess}; it holds for one command, so pass it to dispatch`,
  );
}

/** Throws `INVALID_ARGUMENT` for anything that `remember` cannot be. */
function checkRemember(remember: unknown): void {
  if (remember === undefined || remember === "events" || remember === "all") return;
  throw new EventfoldError(
    "INVALID_ARGUMENT",
    `remember expected "events" or "all", found ${JSON.stringify(remember)}`,
  );
}
