/** Errors as HTTP answers, in the form of RFC 9457. */
import { STATUS_CODES } from "node:http";
import { type ErrorCode, isEventfoldError, type RejectionOf } from "eventfold-es";
import type { Product } from "./product.ts";

/** A request that the server refuses before it reaches the shop. */
export class HttpError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

type Problem = { readonly status: number; readonly detail: string; readonly [member: string]: unknown };

const STATUS: Partial<Record<ErrorCode, number>> = {
  INVALID_COMMAND: 400,
  INVALID_CONTEXT: 400,
  UNKNOWN_COMMAND: 404,
  CONFLICT: 412,
  // The client may send the command again, with the same idempotency key.
  COMMIT_UNKNOWN: 503,
  STORE_BUSY: 503,
  STORE_CLOSED: 503,
};

export function problemOf(error: unknown): Problem & { readonly title: string | undefined } {
  const problem = describe(error);
  return { title: STATUS_CODES[problem.status], ...problem };
}

function describe(error: unknown): Problem {
  if (error instanceof HttpError) return { status: error.status, detail: error.message };
  if (isEventfoldError(error, "COMMAND_REJECTED")) {
    const rejection = error.rejection as RejectionOf<typeof Product>;
    return { ...describeRejection(rejection), code: error.code, rejection };
  }
  if (isEventfoldError(error)) {
    const status = STATUS[error.code];
    const issues = isEventfoldError(error, "INVALID_COMMAND") ? error.issues : undefined;
    if (status !== undefined) return { status, detail: error.message, code: error.code, issues };
  }
  console.error(error);
  return { status: 500, detail: "The server has failed. Its log has the reason." };
}

/** 409: the state of the product refuses the command now. 422: the product will always refuse it. */
function describeRejection(rejection: RejectionOf<typeof Product>): Problem {
  switch (rejection.type) {
    case "NotListed":
      return { status: 404, detail: "The shop has no such product." };
    case "AlreadyListed":
      return { status: 409, detail: "The product is listed already." };
    case "OutOfStock":
      return { status: 409, detail: `There are ${rejection.data.stock} left.` };
    case "OverLimit":
      return { status: 422, detail: `An order may have ${rejection.data.limit} at most.` };
  }
}
