import { CUT_TYPES, type CutKind } from "../../cut.ts";
import type { Commit, ConsumerAppend, EventDraft, StoredMeta, StreamAppend } from "../../event-store/event-store.ts";
import { isCount } from "../../json.ts";

/**
 * A message of the stream of commits: one batch, as lines of JSON without a final LF.
 *
 *     {"batch":"6f1c…","after":"02d7…","position":6,"commits":1}
 *     {"streams":[["account","ada",3,1]]}
 *     {"type":"Deposited","time":1795415061123,"id":"…"}
 *     {"amount":50}
 *
 * The first line has the batch's id, the id of the batch before it, the position before its first event and the number of commits. Each
 * commit is a line with its streams and its note, and two lines for each event: its fields and its payload.
 */

export interface BatchHeader {
  readonly batch: string;
  /** Id of the batch before it; `null` for the first one. */
  readonly after: string | null;
  /** The store's last position before the batch. */
  readonly position: number;
  readonly commits: number;
}

export interface BatchMessage extends BatchHeader {
  readonly contents: readonly Commit[];
}

/** The text of a message is not that of a batch, or is one of a newer version of this library. */
export class MalformedBatch extends Error {
  override readonly name = "MalformedBatch";
}

type StreamFields = [type: string, id: string, expectedVersion: number, events: number, cut?: CutKind];

interface CommitFields {
  readonly streams: readonly StreamFields[];
  readonly manager?: {
    readonly name: string;
    readonly sequence: number;
    readonly note: unknown;
    readonly deadLetters?: ConsumerAppend["deadLetters"];
    readonly settledLetters?: ConsumerAppend["settledLetters"];
  };
}

interface EventFields {
  readonly type: string;
  readonly v?: number;
  readonly time: number;
  readonly id?: string;
  readonly actor?: string;
  readonly meta?: StoredMeta;
}

/** The first line of a message. */
export function headerText({ batch, after, position, commits }: BatchHeader): string {
  return JSON.stringify({ batch, after, position, commits });
}

/** The lines of a commit, each with an LF before it. */
export function commitText({ appends, consumer }: Commit): string {
  const streams = appends.map(({ stream: { type, id }, expectedVersion, events, cut }): StreamFields => {
    return cut === undefined
      ? [type, id, expectedVersion, events.length]
      : [type, id, expectedVersion, events.length, cut];
  });
  const fields: CommitFields = { streams, ...(consumer === undefined ? {} : { manager: managerFields(consumer) }) };
  let text = `\n${JSON.stringify(fields)}`;
  for (const { events } of appends) for (const event of events) text += eventText(event);
  return text;
}

function managerFields({ name, expectedSequence, note, deadLetters, settledLetters }: ConsumerAppend) {
  return {
    ...{ name, sequence: expectedSequence + 1, note: note ?? null },
    ...(deadLetters === undefined ? {} : { deadLetters }),
    ...(settledLetters === undefined ? {} : { settledLetters }),
  };
}

function eventText({ type, data, schemaVersion, timestamp, eventId, actor, meta }: EventDraft): string {
  const fields: EventFields = {
    ...(schemaVersion === 0 ? { type } : { type, v: schemaVersion }),
    time: timestamp,
    ...(eventId === undefined ? {} : { id: eventId }),
    ...(actor === undefined ? {} : { actor }),
    ...(meta === undefined ? {} : { meta }),
  };
  // An LF in JSON can only be between tokens.
  return `\n${JSON.stringify(fields)}\n${data.includes("\n") ? data.replaceAll("\n", " ") : data}`;
}

/** Reads a message. Throws `MalformedBatch`. */
export function parseBatch(text: string): BatchMessage {
  const lines = new Lines(text);
  const { batch, after, position, commits } = lines.next() as Partial<BatchHeader>;
  const isHeader = typeof batch === "string" && (after === null || typeof after === "string");
  if (!isHeader || !isCount(position) || !isCount(commits))
    throw new MalformedBatch("its first line is not that of a batch");
  const contents = Array.from({ length: commits }, () => parseCommit(lines));
  if (!lines.isAtEnd) throw new MalformedBatch("it has more lines than its commits");
  return { batch, after, position, commits, contents };
}

function parseCommit(lines: Lines): Commit {
  const { streams, manager } = lines.next() as Partial<CommitFields>;
  if (!Array.isArray(streams)) throw new MalformedBatch("a commit has no streams");
  const appends = (streams as readonly StreamFields[]).map(([type, id, expectedVersion, events, cut]): StreamAppend => {
    if (typeof type !== "string" || typeof id !== "string" || !isCount(expectedVersion) || !isCount(events))
      throw new MalformedBatch("a stream of a commit has an unknown form");
    if (cut !== undefined && !Object.hasOwn(CUT_TYPES, cut))
      throw new MalformedBatch("a commit has an unknown kind of cut");
    const stream = { type, id };
    const drafts = Array.from({ length: events }, () => parseEvent(lines));
    return { stream, expectedVersion, events: drafts, cut };
  });
  if (manager === undefined) return { appends };
  const { name, sequence, note, deadLetters, settledLetters } = manager;
  if (typeof name !== "string" || !isCount(sequence) || sequence === 0)
    throw new MalformedBatch("the note of a commit has an unknown form");
  const consumer: ConsumerAppend = {
    ...{ name, expectedSequence: sequence - 1, note },
    ...(deadLetters === undefined ? {} : { deadLetters }),
    ...(settledLetters === undefined ? {} : { settledLetters }),
  };
  return { appends, consumer };
}

function parseEvent(lines: Lines): EventDraft {
  const { type, v = 0, time, id, actor, meta } = lines.next() as Partial<EventFields>;
  const data = lines.nextText();
  if (typeof type !== "string" || !isCount(v) || typeof time !== "number" || data === "")
    throw new MalformedBatch("an event has an unknown form");
  return { type, data, schemaVersion: v, timestamp: time, eventId: id, actor, meta };
}

class Lines {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  get isAtEnd(): boolean {
    return this.#at > this.#text.length;
  }

  nextText(): string {
    if (this.isAtEnd) throw new MalformedBatch("it ends too early");
    const end = this.#text.indexOf("\n", this.#at);
    const line = this.#text.slice(this.#at, end < 0 ? this.#text.length : end);
    this.#at = end < 0 ? this.#text.length + 1 : end + 1;
    return line;
  }

  next(): object {
    let value: unknown;
    try {
      value = JSON.parse(this.nextText());
    } catch (error) {
      throw error instanceof MalformedBatch ? error : new MalformedBatch("a line is not JSON", { cause: error });
    }
    if (typeof value !== "object" || value === null) throw new MalformedBatch("a line is no object");
    return value;
  }
}
