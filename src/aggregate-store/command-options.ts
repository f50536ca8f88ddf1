import { whenAborted } from "../abort.ts";
import type { CommandLimits } from "../aggregate/instance/command-limits.ts";
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
   * Takes the command back: it fails with the signal's reason and never takes effect. If its events are being written already, it
   * fails with `COMMIT_UNKNOWN`.
   */
  readonly signal?: AbortSignal | undefined;
  /** How long to wait: milliseconds or a text like `"5s"`. Then the command ends as with `signal`, with `TIMEOUT` as the reason. */
  readonly timeout?: number | Duration | undefined;
}

const NO_LIMITS: CommandLimits = {};

/** Runs a command within the limits that its options name. Throws `INVALID_ARGUMENT` for limits that cannot be meant. */
export function withLimits<T>(options: CommandOptions, run: (limits: CommandLimits) => Promise<T>): Promise<T> {
  const { expectedVersion, signal, timeout } = options ?? {};
  if (expectedVersion === undefined && signal === undefined && timeout === undefined) return run(NO_LIMITS);
  if (expectedVersion !== undefined && !isCount(expectedVersion))
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `expectedVersion expected a whole number from 0 on, found ${String(expectedVersion)}`,
    );
  if (signal === undefined && timeout === undefined) return run({ expectedVersion });
  const ms = timeout === undefined ? Infinity : milliseconds(timeout, "timeout");
  const controller = new AbortController();
  const unlink = signal === undefined ? () => {} : whenAborted(signal, () => controller.abort(signal.reason));
  const end = (): void =>
    controller.abort(new EventfoldError("TIMEOUT", `expected the command to be answered within ${ms} ms; it was not`));
  const cancel = ms > LONGEST_TIMER_MS ? () => {} : startTimer(end, ms, "foreground");
  return run({ expectedVersion, signal: controller.signal }).finally(() => {
    unlink();
    cancel();
  });
}
