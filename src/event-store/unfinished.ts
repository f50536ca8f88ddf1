/** A reader of the log that has something left to do. */
export interface Unfinished {
  /** Names the reader in messages. */
  readonly what: string;
  /** Position of the last event that it has handled. */
  readonly position: number;
  /** Why its last attempt failed, if it did. */
  readonly failure: { readonly error: unknown } | undefined;
}
