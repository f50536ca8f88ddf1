import { EventfoldError } from "../errors.ts";
import type { EventDraft, StoredDeadLetter, StoredEvent, StoredMeta } from "../event-store/event-store.ts";
import { fingerprint } from "../fingerprint.ts";
import { isCount, isWellFormed } from "../json.ts";

/** The number in `"format"` of the first line. */
export const TRANSFER_FORMAT = 1;

/** Type of the line that keeps the place of an event that was dropped. */
export const DROPPED_TYPE = "$dropped";

/** The first line of an export. */
export interface HeaderLine {
  readonly "eventfold-es": "export";
  readonly format: number;
  /** Position of the last event. */
  readonly head: number;
  /** Identifies the first event. */
  readonly first?: string | undefined;
}

/** A process manager's note, with the dead letters that are open; they come with its last note. */
export interface NoteLine {
  readonly manager: string;
  readonly sequence: number;
  readonly note: unknown;
  readonly deadLetters?: readonly StoredDeadLetter[] | undefined;
}

/** An event: the keys of a line of `app.jsonl`, then its stream and version. */
export interface EventLine {
  readonly type: string;
  readonly data: unknown;
  readonly ts: number;
  readonly id?: string | undefined;
  readonly actor?: string | undefined;
  readonly meta?: StoredMeta | undefined;
  readonly ms: number;
  readonly pos: number;
  readonly v?: number | undefined;
  readonly aggregate: string;
  readonly instance: string;
  readonly version: number;
}

/** How far a named subscription is. */
export interface SubscriptionLine {
  readonly subscription: string;
  readonly position: number;
  readonly horizon?: number | undefined;
  readonly last?: { readonly since: number; readonly event: string } | undefined;
}

/** The last line. */
export interface EndLine {
  readonly end: true;
  readonly events: number;
  readonly notes: number;
}

export type TransferLine =
  | { readonly kind: "header"; readonly line: HeaderLine }
  | { readonly kind: "note"; readonly line: NoteLine }
  | { readonly kind: "event"; readonly line: EventLine }
  | { readonly kind: "subscription"; readonly line: SubscriptionLine }
  | { readonly kind: "end"; readonly line: EndLine };

/** The text of a line, with its checksum and its LF. */
export function lineText(line: TransferLine["line"]): string {
  const text = JSON.stringify(line).slice(0, -1);
  return `${text},"check":"${fingerprint(text)}"}\n`;
}

const CHECK = /,"check":"([0-9a-f]{16})"\}$/;

/** Reads the line with a number, from 1. Throws `IMPORT_INVALID` for anything else. */
export function parseTransferLine(text: string, number: number): TransferLine {
  const match = CHECK.exec(text.slice(-28));
  if (match !== null && match[1] !== fingerprint(text.slice(0, -match[0].length)))
    throw invalid(number, "its checksum does not match, so a byte of it has changed; export again");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw invalid(number, "it is not JSON, so it may be cut off; export again", cause);
  }
  const line = (typeof value === "object" && value !== null ? value : {}) as Readonly<Record<string, unknown>>;
  if (line["eventfold-es"] === "export") {
    if (line["format"] !== TRANSFER_FORMAT)
      throw new EventfoldError(
        "UNSUPPORTED_FORMAT",
        `the export has format ${String(line["format"])}; this version of eventfold-es reads format ${TRANSFER_FORMAT}`,
      );
    if (isCount(line["head"])) return { kind: "header", line: value as HeaderLine };
  } else if (typeof line["manager"] === "string") {
    if (isCount(line["sequence"]) && isLetters(line["deadLetters"]) && Object.hasOwn(line, "note"))
      return { kind: "note", line: value as NoteLine };
  } else if (typeof line["subscription"] === "string") {
    if (isCount(line["position"])) return { kind: "subscription", line: value as SubscriptionLine };
  } else if (line["end"] === true) {
    if (isCount(line["events"]) && isCount(line["notes"])) return { kind: "end", line: value as EndLine };
  } else if (isEventLine(line)) return { kind: "event", line: value as EventLine };
  throw invalid(number, "it is no line of an export: a key is missing or has an unexpected value");
}

export function invalid(number: number, why: string, cause?: unknown): EventfoldError {
  return new EventfoldError(
    "IMPORT_INVALID",
    `line ${number} of the import: ${why}`,
    cause === undefined ? {} : { cause },
  );
}

export function eventLine(event: StoredEvent): EventLine {
  const seconds = Math.floor(event.timestamp / 1000);
  return {
    type: event.type,
    data: event.data ?? null,
    ts: seconds,
    id: event.eventId,
    actor: event.actor,
    meta: event.meta,
    ms: event.timestamp - seconds * 1000,
    pos: event.position,
    v: event.schemaVersion === 0 ? undefined : event.schemaVersion,
    aggregate: event.stream.type,
    instance: event.stream.id,
    version: event.version,
  };
}

/** The line that keeps the place of a dropped event. It has nothing of the event but its stream, version and position. */
export function droppedLine({ stream, version, position }: StoredEvent): EventLine {
  const { type: aggregate, id: instance } = stream;
  return { type: DROPPED_TYPE, data: null, ts: 0, ms: 0, pos: position, aggregate, instance, version };
}

export function timestampOf({ ts, ms }: EventLine): number {
  return ts * 1000 + ms;
}

export function draftOfLine(line: EventLine): EventDraft {
  return {
    type: line.type,
    data: JSON.stringify(line.data),
    schemaVersion: line.v ?? 0,
    timestamp: timestampOf(line),
    eventId: line.id,
    actor: line.actor,
    meta: line.meta,
  };
}

function isLetters(value: unknown): boolean {
  if (value === undefined) return true;
  return (
    Array.isArray(value) &&
    value.every((each: Partial<StoredDeadLetter> | null) => typeof each?.key === "string" && isObject(each.letter))
  );
}

function isEventLine(line: Readonly<Record<string, unknown>>): boolean {
  const { type, ts, id, actor, meta, ms, pos, v, aggregate, instance, version } = line;
  return (
    [type, aggregate, instance].every((text) => typeof text === "string" && text !== "" && isWellFormed(text)) &&
    [id, actor].every((text) => text === undefined || (typeof text === "string" && isWellFormed(text))) &&
    (meta === undefined || isObject(meta)) &&
    (v === undefined || isCount(v)) &&
    [ts, ms, pos, version].every(isCount) &&
    Object.hasOwn(line, "data") &&
    pos !== 0 &&
    version !== 0
  );
}

function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
