import { isError, messageOf } from "../../realm.ts";
/**
 * The state of a statement that failed:
 *
 * - `"unsent"`: there was no connection, so nothing happened;
 * - `"unknown"`: it was sent and its answer is missing, so it may have been carried out, or may still be;
 * - `"passing"`: the server refused it for a reason that goes away by itself; nothing of it was done;
 * - `"refused"`: the server refused it and would do so again; nothing of it was done.
 */
export type SqlOutcome = "unsent" | "unknown" | "passing" | "refused";

/** A statement that failed, and whether it was carried out. Internal: the store turns it into an error of the library. */
export class SqlFailure extends Error {
  override readonly name = "SqlFailure";
  readonly outcome: SqlOutcome;
  /** The server's five characters (SQLSTATE), or what the client calls the error. */
  readonly code: string | undefined;

  constructor(outcome: SqlOutcome, cause: unknown) {
    super(messageOf(cause), { cause });
    this.outcome = outcome;
    this.code = codeOf(cause);
  }
}

/** Errors that the server reports with the transaction rolled back and that another try may not meet. */
const PASSING = new Set([
  "25006", // read-only transaction: a standby that is about to be promoted, or a connection to the old primary
  "40001", // serialization failure
  "40P01", // deadlock
  "53200", // out of memory
  "53300", // too many connections
  "53400", // configuration limit
  "55P03", // lock not available: lock_timeout
  "57014", // query canceled: statement_timeout
]);

/** The prepared statement of this name is not there, or is already: a pooler gave the statement another connection. */
const NOT_PREPARED = new Set(["26000", "42P05"]);

/** Mistakes in what the caller or the database was set up with, which waiting does not cure. */
const LASTING = /^(28|3D|3F)/;

/** Classifies an error that came while a statement was with the server. */
export function queryFailure(error: unknown): SqlFailure {
  const state = codeOf(error);
  const isReported = severityOf(error) !== undefined && state !== undefined;
  // A fatal error ends the connection; it can come after the commit, while the answer was on its way.
  if (isReported && severityOf(error) === "ERROR")
    return new SqlFailure(PASSING.has(state) ? "passing" : "refused", error);
  // The client could not even put the statement into bytes.
  if (isError(error) && (error.name === "TypeError" || error.name === "RangeError"))
    return new SqlFailure("refused", error);
  return new SqlFailure("unknown", error);
}

/** Classifies an error that came instead of a connection. */
export function connectFailure(error: unknown): SqlFailure {
  const lasts = LASTING.test(codeOf(error) ?? "") || /after calling end on the pool/.test(String(error));
  return new SqlFailure(lasts ? "refused" : "unsent", error);
}

/** Whether the statement has to be sent without a name. */
export function isPreparedElsewhere(failure: SqlFailure): boolean {
  return failure.outcome === "refused" && NOT_PREPARED.has(failure.code ?? "");
}

function codeOf(error: unknown): string | undefined {
  const code = (error as { readonly code?: unknown } | null | undefined)?.code;
  return typeof code === "string" ? code : undefined;
}

/** `"ERROR"`, `"FATAL"` or `"PANIC"` for what the server reported; nothing for what the client or the network did. */
function severityOf(error: unknown): string | undefined {
  const { severity } = (error ?? {}) as { readonly severity?: unknown };
  return typeof severity === "string" ? severity : undefined;
}
