import { EventfoldError } from "./errors.ts";

/** The error for a second definition of a name. `what` names both, e.g. `aggregate account`; `where` is the store or the bus. */
export function duplicateDefinition(what: string, where: string): EventfoldError {
  return new EventfoldError(
    "DUPLICATE_DEFINITION",
    `expected one definition of the ${what} ${where}, found a second one. If a hot reload has evaluated its module again, close the ` +
      "store that has the old definition, and open it with the new ones " +
      "(docs/guides/hot-reload.md). Otherwise use one object everywhere, or give one of them another name",
  );
}
