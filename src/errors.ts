import { isError } from "./realm.ts";
/**
 * Every error that the library raises on purpose. An error is identified by its `code`, never by
 * `instanceof`: two copies of the package in one process must still understand each other. Each code
 * has a heading in `docs/errors.md`.
 */
export type ErrorCode =
  | "ADOPTION_AMBIGUOUS"
  | "AMBIGUOUS_COMMAND"
  | "COMMAND_REJECTED"
  | "COMMIT_UNKNOWN"
  | "COMPACTION_DIFFERS"
  | "CONFLICT"
  | "COPY_DIVERGED"
  | "COPY_INCOMPLETE"
  | "CORRUPT_KEYS"
  | "CORRUPT_LOG"
  | "CORRUPT_STREAM"
  | "DISK_FULL"
  | "DISPATCH_LOOP"
  | "DUPLICATE_DEFINITION"
  | "EVENTS_RECLAIMED"
  | "ID_COLLISION"
  | "ID_TOO_LONG"
  | "IMPORT_CONFLICT"
  | "IMPORT_INVALID"
  | "INSTANCE_DELETED"
  | "INVALID_ARGUMENT"
  | "INVALID_COMMAND"
  | "INVALID_CONTEXT"
  | "INVALID_DEFINITION"
  | "INVALID_ID"
  | "INVALID_PAYLOAD"
  | "INVALID_REACTION"
  | "INVALID_STATE"
  | "IO_ERROR"
  | "LOCKS_UNSUPPORTED"
  | "MODEL_CHANGED"
  | "PERSONAL_DATA_DAMAGED"
  | "PROCESS_MANAGER_FAILED"
  | "PROJECTION_FAILED"
  | "READ_ONLY"
  | "REPLICA_DIVERGED"
  | "STORE_BUSY"
  | "STORE_CLOSED"
  | "STORE_NOT_FOUND"
  | "STORE_REPLACED"
  | "STORE_UNAVAILABLE"
  | "STREAM_LOCKED"
  | "TARGET_NOT_EMPTY"
  | "TIMEOUT"
  | "UNKNOWN_AGGREGATE"
  | "UNKNOWN_COMMAND"
  | "UNKNOWN_DEAD_LETTER"
  | "UNKNOWN_EVENT"
  | "UNSUPPORTED_FORMAT"
  | "UNTRUSTED_CHECKPOINT"
  | "UPCAST_FAILED"
  | "VERSION_NOT_FOUND";

/** Base of all errors of this library. `code` is stable; the message is for people and may change. */
export class EventfoldError extends Error {
  override readonly name: string = "EventfoldError";
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** A domain rejection: the aggregate's `handle` said no. Nothing was written. */
export class CommandRejectedError<
  R extends { readonly type: string } = { readonly type: string; readonly data?: unknown },
> extends EventfoldError {
  override readonly name = "CommandRejectedError";
  readonly rejection: R;

  constructor(aggregate: string, id: string, command: string, rejection: R) {
    super("COMMAND_REJECTED", `${aggregate} ${JSON.stringify(id)} rejected ${command}: ${rejection.type}`);
    this.rejection = rejection;
  }
}

/** The instance has another version than expected: than the caller said, or than the store found each time that it decided the command again. */
export class ConflictError extends EventfoldError {
  override readonly name = "ConflictError";
  readonly expectedVersion: number;
  readonly actualVersion: number;

  constructor(aggregate: string, id: string, expectedVersion: number, actualVersion: number) {
    super(
      "CONFLICT",
      `${aggregate} ${JSON.stringify(id)} is at version ${actualVersion}, not ${expectedVersion}: another commit came first; try the command again`,
    );
    this.expectedVersion = expectedVersion;
    this.actualVersion = actualVersion;
  }
}

/** One thing that is wrong with a payload or a state. */
export interface PayloadIssue {
  readonly message: string;
  /** Keys and indexes that lead to the value; empty for the whole payload. */
  readonly path: readonly PropertyKey[];
}

/** A payload that its schema refuses, or that JSON would change. */
export class InvalidPayloadError extends EventfoldError {
  override readonly name = "InvalidPayloadError";
  readonly issues: readonly PayloadIssue[];

  constructor(message: string, issues: readonly PayloadIssue[]) {
    super("INVALID_PAYLOAD", message);
    this.issues = issues;
  }
}

/** A command that its schema refuses, or that is no command. */
export class InvalidCommandError extends EventfoldError {
  override readonly name = "InvalidCommandError";
  /** What the schema says; one issue with an empty path for something that is no command. */
  readonly issues: readonly PayloadIssue[];

  constructor(message: string, issues: readonly PayloadIssue[] = [{ message, path: [] }]) {
    super("INVALID_COMMAND", message);
    this.issues = issues;
  }
}

/** A state that the schema of its contract refuses. Nothing was written. */
export class InvalidStateError extends EventfoldError {
  override readonly name = "InvalidStateError";
  readonly issues: readonly PayloadIssue[];

  constructor(message: string, issues: readonly PayloadIssue[]) {
    super("INVALID_STATE", message);
    this.issues = issues;
  }
}

/** Bytes on disk that cannot be what was written. Names the file and the place; nothing was skipped. */
export class CorruptionError extends EventfoldError {
  override readonly name = "CorruptionError";
  readonly file: string;
  /** 1-based line in the file. */
  readonly line: number;
  /** Byte offset of that line's first byte. */
  readonly offset: number;

  constructor(
    code: "CORRUPT_STREAM" | "CORRUPT_LOG" | "CORRUPT_KEYS",
    where: { readonly file: string; readonly line: number; readonly offset: number },
    why: string,
    options?: { readonly cause?: unknown },
  ) {
    super(code, `${where.file}, line ${where.line}, byte ${where.offset}: ${why}`, options);
    this.file = where.file;
    this.line = where.line;
    this.offset = where.offset;
  }
}

interface ErrorsWithFields {
  readonly COMMAND_REJECTED: CommandRejectedError;
  readonly CONFLICT: ConflictError;
  readonly CORRUPT_KEYS: CorruptionError;
  readonly CORRUPT_LOG: CorruptionError;
  readonly CORRUPT_STREAM: CorruptionError;
  readonly INVALID_COMMAND: InvalidCommandError;
  readonly INVALID_PAYLOAD: InvalidPayloadError;
  readonly INVALID_STATE: InvalidStateError;
}

/** The error with a code, with the fields that errors of this code have. */
export type ErrorWithCode<Code extends ErrorCode> = Code extends keyof ErrorsWithFields
  ? ErrorsWithFields[Code]
  : EventfoldError & { readonly code: Code };

/** Tells whether a value is an error of this library (of any copy of it), optionally with the given code. */
export function isEventfoldError(error: unknown): error is EventfoldError;
export function isEventfoldError<Code extends ErrorCode>(error: unknown, code: Code): error is ErrorWithCode<Code>;
export function isEventfoldError(error: unknown, code?: ErrorCode): boolean {
  return (
    isError(error) &&
    "code" in error &&
    typeof error.code === "string" &&
    /^(EventfoldError|CommandRejectedError|ConflictError|CorruptionError|Invalid(Command|Payload|State)Error)$/.test(
      error.name,
    ) &&
    (code === undefined || error.code === code)
  );
}

/** Tells whether an error is a domain rejection, of any copy of this library. */
export function isCommandRejected(error: unknown): error is CommandRejectedError {
  return isEventfoldError(error, "COMMAND_REJECTED");
}
