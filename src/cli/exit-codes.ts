import { CommanderError } from "commander";
import type { Terminal } from "./terminal.ts";

/** What the command looked for was found: a finding, a difference, a command that failed again. */
export const FOUND = 1;
/** The command line cannot be understood. */
const USAGE = 2;
/** The store cannot be read. */
const UNREADABLE = 3;

/** Ends a command with exit code 1 and, if there is one, a line that says why. */
export class Found extends Error {}

/** Ends a command with exit code 2. */
export class UsageError extends Error {}

/** Errors of the library that lie in what was asked for, not in the store. */
const ASKED = new Set([
  "INVALID_ARGUMENT",
  "INVALID_COMMAND",
  "INVALID_ID",
  "INVALID_PAYLOAD",
  "ID_TOO_LONG",
  "INVALID_DEFINITION",
  "TARGET_NOT_EMPTY",
  "VERSION_NOT_FOUND",
]);
/** Errors of commands that were sent, not of the store. */
const SENT = new Set([
  "COMMAND_REJECTED",
  "CONFLICT",
  "UNKNOWN_AGGREGATE",
  "UNKNOWN_COMMAND",
  "UNKNOWN_DEAD_LETTER",
  "INSTANCE_DELETED",
]);

/** Says on the error output what went wrong, and returns the exit code for it. */
export function exitCodeOf(error: unknown, terminal: Terminal): number {
  // Commander has said what is wrong; help and version are no failures.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE;
  if (error instanceof Found) {
    if (error.message !== "") terminal.complain(error.message);
    return FOUND;
  }
  const { message, code } = error as { readonly message?: unknown; readonly code?: unknown };
  const text = typeof message === "string" ? message : String(error);
  terminal.complain(typeof code === "string" && /^[A-Z_]+$/.test(code) && code !== "EPIPE" ? `${code}: ${text}` : text);
  if (error instanceof UsageError || ASKED.has(String(code))) return USAGE;
  return SENT.has(String(code)) ? FOUND : UNREADABLE;
}
