import { EventfoldError, isEventfoldError } from "../../errors.ts";
import { systemErrorCode } from "../../fs/file-system.ts";
import { isError } from "../../realm.ts";

/** What the file system says against reading, as users meet it; an error that is already ours passes unchanged. */
export function readError(error: unknown, what: string): Error {
  return ioError(error, `reading ${what}`, "try again");
}

/** An error of the file system as users meet it; an error that is already ours passes unchanged. */
export function ioError(error: unknown, doing: string, advice = "nothing of it counts"): Error {
  if (isEventfoldError(error)) return error;
  const code = systemErrorCode(error);
  if (code === undefined) return isError(error) ? error : new Error(String(error));
  return code === "ENOSPC" || code === "EDQUOT"
    ? new EventfoldError(
        "DISK_FULL",
        `the disk is full: ${doing} failed and nothing of it counts; free some room and try again`,
        { cause: error },
      )
    : new EventfoldError("IO_ERROR", `${doing} failed (${code}): ${advice}`, { cause: error });
}
