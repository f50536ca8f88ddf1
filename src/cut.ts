/**
 * A cut ends what a stream has had so far: all events before it no longer count. Its own first event has a reserved type, which no
 * contract can declare, and keeps the stream's version going: a new life of the same instance never repeats a version.
 */
export type CutKind = "deleted";

/** Type of the event with which a cut begins. */
export const CUT_TYPES: Readonly<Record<CutKind, string>> = { deleted: "$deleted" };

/** The payload of a cut's first event. */
export interface CutData {
  /** Version of the cut's first event. A stream's file says so, because it may have lost the lines before. */
  readonly version: number;
  /** Whether the instance must not live again. */
  readonly final: boolean;
  readonly reason?: string;
}

/** Which cut begins with an event of this type; nothing for any other event. */
export function cutOfType(type: string): CutKind | undefined {
  return type === CUT_TYPES.deleted ? "deleted" : undefined;
}
