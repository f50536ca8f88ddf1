import { EventfoldError } from "../../errors.ts";

/** `path`: the file that is not the one that was opened. */
export function storeReplaced(base: string, path: string): EventfoldError {
  return new EventfoldError(
    "STORE_REPLACED",
    `expected ${path} to be the file that this store has opened or written, found another one or none: ${base} was deleted, moved or ` +
      "replaced while the store was open. Nothing was written; close this store and open the directory again",
  );
}
