import { messageOf } from "../../realm.ts";

/**
 * The state of a request that failed:
 *
 * - `"unsent"`: there was no connection, or no server took the request, so nothing happened;
 * - `"unknown"`: it was sent and its answer is missing, so it may have been carried out, or may still be;
 * - `"passing"`: the server refused it for a reason that goes away by itself; nothing of it was done;
 * - `"refused"`: the server refused it and would do so again; nothing of it was done.
 */
export type ApiOutcome = "unsent" | "unknown" | "passing" | "refused";

/** A request that failed, and whether it was carried out. Internal: the store turns it into an error of the library. */
export class ApiFailure extends Error {
  override readonly name = "ApiFailure";
  readonly outcome: ApiOutcome;
  /** The server's number of the error (`err_code`). */
  readonly code: number | undefined;

  constructor(outcome: ApiOutcome, cause: unknown, code?: number) {
    super(messageOf(cause), { cause });
    this.outcome = outcome;
    this.code = code;
  }
}

/** What the server answers instead of a result. */
export interface ApiError {
  readonly code: number;
  readonly err_code?: number;
  readonly description?: string;
}

/** Numbers of JetStream's errors. */
export const ERROR_CODES = {
  insufficientResources: 10023,
  messageNotFound: 10037,
  storageResources: 10047,
  tooLarge: 10054,
  messageDeleteFailed: 10057,
  nameInUse: 10058,
  streamNotFound: 10059,
  wrongLastSequence: 10071,
  replicasWithoutCluster: 10074,
  storeFailed: 10077,
} as const;

/** Refusals of the class "server error" that another try meets again. A stream that is not found may be: its servers may be starting. */
const LASTING: ReadonlySet<number> = new Set([
  ...[ERROR_CODES.insufficientResources, ERROR_CODES.storageResources, ERROR_CODES.replicasWithoutCluster],
  ERROR_CODES.storeFailed,
]);

/** Classifies an error that the server answered. */
export function answeredFailure({ code, err_code, description }: ApiError): ApiFailure {
  const isPassing = (code >= 500 && !LASTING.has(err_code ?? 0)) || err_code === ERROR_CODES.streamNotFound;
  return new ApiFailure(isPassing ? "passing" : "refused", new Error(description ?? `error ${code}`), err_code);
}

/** Names of the client's errors, which versions 3 and 2 have, and codes of version 2: the request was not made, or no server listens. */
const UNSENT = new Set(["NoResponders", "NoRespondersError", "ClosedConnectionError", "DrainingConnectionError"]);
const UNSENT_CODES = new Set(["503", "CONNECTION_CLOSED", "CONNECTION_DRAINING"]);
/** The client or the server refuses the request as it is. */
const REFUSED = new Set(["PermissionViolationError", "InvalidSubjectError", "InvalidArgumentError"]);

/** Classifies an error that came instead of an answer. */
export function requestFailure(error: unknown): ApiFailure {
  for (let each: unknown = error; typeof each === "object" && each !== null;) {
    const { name, code, cause } = each as {
      readonly name?: unknown;
      readonly code?: unknown;
      readonly cause?: unknown;
    };
    if (UNSENT.has(String(name)) || UNSENT_CODES.has(String(code))) return new ApiFailure("unsent", error);
    if (REFUSED.has(String(name)) || code === "PERMISSIONS_VIOLATION") return new ApiFailure("refused", error);
    each = cause;
  }
  return new ApiFailure("unknown", error);
}
