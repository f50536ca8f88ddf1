import type { SubjectKeys } from "./subject-keys.ts";

/** Made of events that were read in one era of a store. */
export interface MadeInEra {
  /** That era; the one of the call if left out. Never stored. */
  readonly era?: number | undefined;
}

/** What a store has for personal data. */
export interface PersonalParts {
  /** Where the keys of personal data are kept. A storage without it can have none, unless the program brings a place of its own. */
  readonly keys?: SubjectKeys;

  /**
   * Counts how often a person was forgotten since the store was opened, as far as this process knows. A state that was made of events in
   * another era may say more than the store still does: it is neither used nor kept. Missing in a store without personal data.
   */
  readonly era?: number | undefined;

  /** Calls `listener` in the same turn in which `era` changes. */
  watchEra?(listener: () => void): () => void;
}
