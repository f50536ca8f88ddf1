import { EventfoldError } from "../errors.ts";
import { SqlFailure } from "./connection/sql-failure.ts";

/** A failed reading as users meet it; an error that is not the database's passes unchanged. */
export function readFailed(error: unknown, what: string): unknown {
  return error instanceof SqlFailure ? failed(error, `reading ${what}`) : error;
}

/** A failed commit as users meet it. */
export function commitFailed(error: unknown): unknown {
  if (!(error instanceof SqlFailure)) return error;
  if (error.outcome !== "unknown") return failed(error, "committing");
  return new EventfoldError(
    "COMMIT_UNKNOWN",
    `PostgreSQL did not say whether it has carried the commit out (${error.message}): look whether the events are there, or repeat the command with the same idempotency key`,
    { cause: error.cause },
  );
}

/** A failed opening as users meet it. */
export function openFailed(error: unknown, schema: string): unknown {
  return error instanceof SqlFailure ? failed(error, `opening the store in the schema ${schema}`) : error;
}

function failed(failure: SqlFailure, doing: string): EventfoldError {
  const { outcome, code, message, cause } = failure;
  if (outcome !== "refused")
    return new EventfoldError(
      "STORE_UNAVAILABLE",
      `${doing}: PostgreSQL does not answer (${message}); nothing was written`,
      {
        cause,
      },
    );
  return code === "53100"
    ? new EventfoldError(
        "DISK_FULL",
        `${doing}: the server's disk is full, and nothing was written; free some room and try again`,
        {
          cause,
        },
      )
    : new EventfoldError(
        "IO_ERROR",
        `${doing}: PostgreSQL refused it (${code ?? "no code"}: ${message}); nothing was written`,
        {
          cause,
        },
      );
}
