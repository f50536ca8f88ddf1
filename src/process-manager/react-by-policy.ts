import { pauseAfter } from "../subscription/retry.ts";
import type { RunnerParts } from "./deliver-by-policy.ts";
import type { Policy } from "./failure-policy.ts";
import type { Progress } from "./progress.ts";
import type { Outputs } from "./reaction.ts";

/**
 * Asks a manager for what it makes of an event, as often as a policy says. A reaction that fails may have changed half of the
 * state, so the state before it is put back. `"spoilt"` and `"skipped"` mean that the event is to be skipped; after `"spoilt"`, the
 * manager has to find its state again. Throws if it is to stop.
 */
export async function reactByPolicy(
  progress: Progress,
  { attempts, backoff, end }: Policy,
  react: () => Outputs,
  { wait, onError }: RunnerParts,
): Promise<Outputs | "skipped" | "spoilt"> {
  for (let failures = 1; ; failures++) {
    const before = copyOf(progress.state);
    try {
      return react();
    } catch (error) {
      const isLast = failures >= attempts || before === undefined;
      if (isLast && end === "stop") throw error;
      if (before !== undefined) progress.state = before.state;
      if (isLast) {
        onError(error);
        return before === undefined ? "spoilt" : "skipped";
      }
      await wait(pauseAfter(failures, backoff));
    }
  }
}

/** Nothing for a state that cannot be copied. */
function copyOf(state: unknown): { readonly state: unknown } | undefined {
  try {
    return { state: structuredClone(state) };
  } catch {
    return undefined;
  }
}
