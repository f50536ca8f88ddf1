/** A place between two records of the log. */
export interface LogPlace {
  /** First position of the segment: its name. */
  readonly segment: number;
  /** Byte offset in the segment's file. */
  readonly offset: number;
  /** Position of the last event before this place; 0 at the very beginning. */
  readonly position: number;
}

/** Whether a place comes before another in the log. */
export function isBefore(a: LogPlace, b: LogPlace): boolean {
  return a.segment < b.segment || (a.segment === b.segment && a.offset < b.offset);
}

/**
 * Whether a log that ends at `end` lacks something of what was once durable up to a place. The position alone does not
 * tell: commits without events, which process managers make, do not move it.
 */
export function endsBefore(end: LogPlace, place: LogPlace): boolean {
  return isBefore(end, place) || end.position < place.position;
}

/** The first of these places in the log. */
export function earliest(end: LogPlace, ...others: readonly (LogPlace | undefined)[]): LogPlace {
  return others.reduce<LogPlace>(
    (first, place) => (place !== undefined && isBefore(place, first) ? place : first),
    end,
  );
}
