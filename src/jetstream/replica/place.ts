import { isCount } from "../../json.ts";

/** Up to which message a replica has the stream, as its directory keeps it. */
export interface Place {
  /** Sequence of the last message that the replica certainly had; 0 for none. */
  readonly sequence: number;
  /** Id of that message's batch. */
  readonly batch: string | null;
  /** Position of its last event. */
  readonly position: number;
  /** The consumers' sequences after it. */
  readonly consumers: Readonly<Record<string, number>>;
  /** Whether the replica was closed after it, and so has nothing more. */
  readonly closed: boolean;
}

/** Reads a place. Nothing if the text is not one: then the replica is compared with the stream from the beginning. */
export function parsePlace(text: string | undefined): Place | undefined {
  try {
    const place = JSON.parse(text ?? "null") as Place | null;
    const { sequence, batch, position, consumers, closed } = place ?? {};
    const isSound =
      isCount(sequence) &&
      isCount(position) &&
      typeof closed === "boolean" &&
      (typeof batch === "string" || (batch === null && sequence === 0)) &&
      typeof consumers === "object" &&
      consumers !== null &&
      Object.values(consumers).every(isCount);
    return isSound ? (place ?? undefined) : undefined;
  } catch {
    return undefined;
  }
}
