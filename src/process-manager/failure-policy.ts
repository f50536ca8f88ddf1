import { EventfoldError } from "../errors.ts";
import { checkRetry, type RetryOptions } from "../subscription/retry.ts";
import { messageOf } from "../realm.ts";

/**
 * What becomes of something that cannot succeed: the manager stops there and tries again later, passes it, or makes it a dead
 * letter and goes on.
 */
export type FailureEnd = "stop" | "skip" | "dead-letter";

/** What a process manager does about a failure: at once, or after some attempts, with `"dead-letter"` if `otherwise` is left out. */
export type FailurePolicy = FailureEnd | { readonly retry: RetryOptions; readonly otherwise?: FailureEnd };

/** What a process manager does about failures, by what has failed. */
export interface FailurePolicies {
  /** A command that is rejected, whose `handle` throws, or that no aggregate accepts. Default: `"dead-letter"`. */
  readonly command?: FailurePolicy;
}

/** A policy, spelled out. */
export interface Policy {
  readonly attempts: number;
  readonly backoff: RetryOptions["backoff"];
  readonly end: FailureEnd;
}

const ENDS: readonly unknown[] = ["stop", "skip", "dead-letter"] satisfies FailureEnd[];

/** Spells a policy out. Throws `INVALID_DEFINITION` for one that cannot be meant; `what` names it. */
export function policyOf(what: string, policy: FailurePolicy): Policy {
  if (typeof policy !== "object" || policy === null)
    return { attempts: 1, backoff: undefined, end: checkedEnd(what, policy) };
  const { retry, otherwise = "dead-letter" } = policy;
  try {
    checkRetry(retry);
  } catch (error) {
    throw new EventfoldError("INVALID_DEFINITION", `${what}: ${messageOf(error)}`, { cause: error });
  }
  return { attempts: retry.attempts, backoff: retry.backoff, end: checkedEnd(what, otherwise) };
}

function checkedEnd(what: string, end: FailureEnd): FailureEnd {
  if (ENDS.includes(end)) return end;
  throw new EventfoldError(
    "INVALID_DEFINITION",
    `${what}: expected "stop", "skip", "dead-letter" or { retry: { attempts, backoff? }, otherwise? }, found ${JSON.stringify(end)}`,
  );
}
