import type { CommandOutcome } from "../aggregate/instance/command-outcome.ts";
import { isCommandRejected } from "../errors.ts";
import type { ExecuteTrace } from "../tracing/tracing.ts";

/** Adds to a trace what a command led to. */
export async function told(outcome: Promise<CommandOutcome>, trace: ExecuteTrace): Promise<CommandOutcome> {
  try {
    const { events, version, position } = await outcome;
    Object.assign(trace, { events: events.length, version, position });
  } catch (error) {
    if (isCommandRejected(error)) trace.rejection = error.rejection.type;
    throw error;
  }
  return outcome;
}
