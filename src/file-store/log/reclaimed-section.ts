import { EventfoldError } from "../../errors.ts";
import type { Section } from "./record-sections.ts";

const SPACE = 0x20;
const LF = 0x0a;

/** Replaces the lines of a section whose events were dropped. Their length stays, so that all offsets do. */
export function reclaimLines(buffer: Buffer, { start, end }: Pick<Section, "start" | "end">): void {
  if (end === start) return;
  buffer.fill(SPACE, start, end - 1);
  buffer[end - 1] = LF;
}

/** Whether the lines of a section were reclaimed: it has a blank line in their place, as no section of events has. */
export function isReclaimed(buffer: Buffer, { start, end }: Pick<Section, "start" | "end">): boolean {
  if (buffer[start] !== SPACE || buffer[end - 1] !== LF) return false;
  for (let at = start; at < end - 1; at++) if (buffer[at] !== SPACE) return false;
  return true;
}

/** The error of a reader that needs events whose lines were reclaimed. */
export function eventsReclaimed({ key, position, events }: Section): EventfoldError {
  return new EventfoldError(
    "EVENTS_RECLAIMED",
    `expected the events of ${key} at the positions ${position} to ${position + events - 1}, found that reclaim has removed them; read again from the beginning, which gives the events that replaced them`,
  );
}

/** Bytes of a reclaimed line at least: a blank and a line end. */
const LEAST = 2;

/**
 * Places for the lines that were reclaimed between two offsets of a stream's file, where only blank lines are left. `version` is due
 * there, and `next` is that of the line which follows. None if there is no room for them: then they are lost in another way.
 */
export function reclaimedPlaces(
  version: number,
  next: number | undefined,
  from: number,
  to: number,
): { readonly version: number; readonly offset: number; readonly end: number }[] {
  const count = (next ?? version) - version;
  if (count <= 0 || to - from < LEAST * count) return [];
  return Array.from({ length: count }, (_, i) => {
    const offset = from + LEAST * i;
    return { version: version + i, offset, end: i === count - 1 ? to : offset + LEAST };
  });
}
