/** The conditions on which a command is executed. */
export interface CommandLimits {
  /** The version that the instance must have when the command is decided. */
  readonly expectedVersion?: number | undefined;
  /** Of this command alone. Aborted when its caller no longer waits; the reason is the error. */
  readonly signal?: AbortSignal | undefined;
}
