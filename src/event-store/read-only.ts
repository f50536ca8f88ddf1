import { EventfoldError } from "../errors.ts";

/** The error of a call that would write. `found` names the call. */
export function readOnlyStore(found: string): EventfoldError {
  return new EventfoldError(
    "READ_ONLY",
    `the store was opened with readOnly(); expected only reads, found ${found}. Nothing was written; open the store without readOnly() to write`,
  );
}
