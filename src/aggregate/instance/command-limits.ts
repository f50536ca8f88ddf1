import type { ExecuteTrace } from "../../tracing/tracing.ts";

/** Which outcomes of commands with an idempotency key are remembered. */
export type Remember = "events" | "all";

/** The conditions on which a command is executed. */
export interface CommandLimits {
  /** The version that the instance must have when the command is decided. */
  readonly expectedVersion?: number | undefined;
  /** Whether an outcome without events is remembered, too. */
  readonly remember?: Remember | undefined;
  /** Of this command alone. Aborted when its caller no longer waits; the reason is the error. */
  readonly signal?: AbortSignal | undefined;
  /** Of a command that is traced. */
  readonly trace?: ExecuteTrace | undefined;
}
