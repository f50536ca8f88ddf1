import { EventfoldError } from "../errors.ts";
import { checkRetry, type RetryOptions } from "../subscription/retry.ts";
import { messageOf } from "../realm.ts";

/**
 * What becomes of something that cannot succeed: the manager stops there and tries again later, passes it, or makes it a dead
 * letter and goes on.
 */
export type FailureEnd = "stop" | "skip" | "dead-letter";

/** What a process manager does about a failure: at once, or after some attempts. Without `otherwise`, it then does what it does by default. */
export type FailurePolicy<End extends FailureEnd = FailureEnd> =
  | End
  | { readonly retry: RetryOptions; readonly otherwise?: End };

/** What a process manager does about failures, by what has failed. */
export interface FailurePolicies {
  /** A reaction that throws. `"skip"` passes the event: the state stays as it was, and nothing is sent. Default: `"stop"`. */
  readonly reaction?: FailurePolicy<"stop" | "skip">;
  /** A command that is rejected, whose `handle` throws, or that no aggregate accepts. Default: `"dead-letter"`. */
  readonly command?: FailurePolicy;
}

/** A policy, spelled out. */
export interface Policy {
  readonly attempts: number;
  readonly backoff: RetryOptions["backoff"];
  readonly end: FailureEnd;
}

/** Spells a policy out. Throws `INVALID_DEFINITION` for one that cannot be meant; `what` names it. */
export function policyOf<End extends FailureEnd>(
  what: string,
  given: FailurePolicy<End> | undefined,
  ends: readonly [byDefault: End, ...others: End[]],
): Policy {
  const [byDefault] = ends;
  const policy = given ?? byDefault;
  const { retry, otherwise = byDefault } =
    typeof policy === "object" ? policy : { retry: { attempts: 1 }, otherwise: policy };
  if (!(ends as readonly FailureEnd[]).includes(otherwise))
    throw new EventfoldError(
      "INVALID_DEFINITION",
      `${what}: expected ${ends.map((end) => JSON.stringify(end)).join(", ")} or { retry: { attempts, backoff? }, otherwise? }, found ${JSON.stringify(otherwise)}`,
    );
  try {
    checkRetry(retry);
  } catch (error) {
    throw new EventfoldError("INVALID_DEFINITION", `${what}: ${messageOf(error)}`, { cause: error });
  }
  const { attempts, backoff } = retry;
  return { attempts, backoff, end: otherwise };
}
