/**
 * A cut ends what a stream has had so far: all events before it no longer count. Its own first event has a reserved type, which no
 * contract can declare, and keeps the stream's version going: no version of a stream is used twice.
 *
 * - `deleted`: the instance is gone. Readers get the deletion as an event.
 * - `compacted`: the events after the cut's first one stand for all before it. Readers that began before the cut go on with the old
 *   events and get none of those; readers that begin later get those alone. The cut's first event is not for readers of all events.
 */
export type CutKind = "deleted" | "compacted";

/** Type of the event with which a cut begins. */
export const CUT_TYPES: Readonly<Record<CutKind, string>> = { deleted: "$deleted", compacted: "$compacted" };

/** The payload of a deletion. */
export interface CutData {
  /** Version of the cut's first event. A stream's file says so, because it may have lost the lines before. */
  readonly version: number;
  /** Whether the instance must not live again. */
  readonly final: boolean;
  readonly reason?: string;
}

/** The payload of a compaction. */
export interface CompactionData {
  /** As in a deletion. */
  readonly version: number;
  /** How many events follow that stand for those before. */
  readonly events: number;
  /** Idempotency keys of the commands that led to the events before. */
  readonly keys?: readonly string[];
  /** Ids of the events before, by which an injected one is recognised. */
  readonly ids?: readonly string[];
}

/** Which cut begins with an event of this type; nothing for any other event. */
export function cutOfType(type: string): CutKind | undefined {
  if (type.charCodeAt(0) !== DOLLAR) return undefined;
  return type === CUT_TYPES.deleted ? "deleted" : type === CUT_TYPES.compacted ? "compacted" : undefined;
}

const DOLLAR = 0x24;

/** The ids of the events that a compaction has replaced; none for any other event. */
export function replacedIds({ type, data }: { readonly type: string; readonly data: unknown }): readonly string[] {
  return compactionOf(type, data)?.ids ?? [];
}

/** The payload of a compaction's first event; nothing for any other event. */
export function compactionOf(type: string, data: unknown): CompactionData | undefined {
  return cutOfType(type) === "compacted" ? ((data as CompactionData | null) ?? undefined) : undefined;
}
