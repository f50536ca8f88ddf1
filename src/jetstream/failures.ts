import { EventfoldError, InvalidPayloadError } from "../errors.ts";
import { messageOf } from "../realm.ts";
import { ApiFailure, ERROR_CODES } from "./connection/api-failure.ts";

/** A failed reading as users meet it; an error that is not the server's passes unchanged. */
export function readFailed(error: unknown, what: string): unknown {
  return error instanceof ApiFailure ? failed(error, `reading ${what}`) : error;
}

/** A failed commit as users meet it. */
export function commitFailed(error: unknown): unknown {
  if (!(error instanceof ApiFailure)) return error;
  return error.outcome === "unknown" ? commitUnknown(error) : failed(error, "committing");
}

/** A failed opening as users meet it. */
export function openFailed(error: unknown, name: string): unknown {
  return error instanceof ApiFailure ? failed(error, `opening the store in the stream ${name}`) : error;
}

function commitUnknown({ message, cause }: ApiFailure): EventfoldError {
  return new EventfoldError(
    "COMMIT_UNKNOWN",
    `JetStream did not say whether it has carried the commit out (${message}): look whether the events are there, or repeat the command with the same idempotency key`,
    { cause },
  );
}

/** A commit that JetStream has acknowledged, and that readers here cannot see because the replica could not take it. */
export function writtenUnseen(cause: unknown): EventfoldError {
  const why = cause === undefined ? "it is slow" : messageOf(cause);
  return new EventfoldError(
    "COMMIT_UNKNOWN",
    `JetStream has carried the commit out, and the replica here has not taken it (${why}): do not repeat the command without its idempotency key`,
    { cause },
  );
}

/** A commit that does not fit into a message. */
export function commitTooLarge(size: number, most: number): InvalidPayloadError {
  const message = `expected at most ${most} bytes in one commit, which is what the NATS server takes as one message (max_payload), found ${size}: split the command, raise max_payload, or keep large data elsewhere`;
  return new InvalidPayloadError(message, [{ message, path: [] }]);
}

/** What the replica has is not what the stream has. */
export function replicaDiverged(directory: string, problem: string): EventfoldError {
  return new EventfoldError(
    "REPLICA_DIVERGED",
    `the replica in ${directory} is not a copy of the stream: ${problem}. Nothing more is read or written. If the stream is right, close the store, delete the directory and open the store again`,
  );
}

function failed({ outcome, code, message, cause }: ApiFailure, doing: string): EventfoldError {
  if (outcome !== "refused")
    return new EventfoldError(
      "STORE_UNAVAILABLE",
      `${doing}: JetStream does not answer (${message}); nothing was written`,
      { cause },
    );
  const isFull =
    code === ERROR_CODES.storeFailed ||
    code === ERROR_CODES.insufficientResources ||
    code === ERROR_CODES.storageResources;
  return isFull
    ? new EventfoldError(
        "DISK_FULL",
        `${doing}: JetStream has no room left (${message}), and nothing was written; free some room or raise its limits, and try again`,
        { cause },
      )
    : new EventfoldError(
        "IO_ERROR",
        `${doing}: JetStream refused it (${code ?? "no code"}: ${message}); nothing was written`,
        { cause },
      );
}
