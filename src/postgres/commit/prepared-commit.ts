import { InvalidPayloadError } from "../../errors.ts";
import type { CutKind } from "../../cut.ts";
import type { Commit, ConsumerAppend, EventDraft, StreamName } from "../../event-store/event-store.ts";
import { toStored } from "../stored-text.ts";

/** The largest commit, in characters of JSON and text: well below what the server takes as one message, and what it has memory for. */
const LARGEST_COMMIT = 64 << 20;

/** An event's columns as they go to the server. */
export type EventColumns = readonly [
  type: string,
  data: string,
  schema: number,
  time: number,
  eventId: string | null,
  actor: string | null,
  meta: string | null,
  cut: CutKind | null,
  /** How many events of its compaction come before it; `null` for an event that is in none. */
  ofCompaction: number | null,
];

export interface PreparedAppend {
  readonly stream: StreamName;
  /** Names the stream among others. */
  readonly key: string;
  readonly expectedVersion: number;
  readonly events: readonly EventColumns[];
}

export interface PreparedProgress {
  readonly name: string;
  readonly expectedSequence: number;
  readonly note: string;
  readonly letters: readonly (readonly [key: string, letter: string])[];
  readonly dropped: readonly string[];
}

/** A commit as text. If the caller changes its objects after the call, the commit stays the same. */
export interface PreparedCommit {
  readonly appends: readonly PreparedAppend[];
  readonly progress: PreparedProgress | undefined;
  readonly chain: Commit["chain"];
  /** About how long it is, in characters. */
  readonly size: number;
}

/** Throws when the commit cannot be written as text, or is too large. */
export function prepared({ appends, consumer, chain }: Commit): PreparedCommit {
  let size = 0;
  const columns = (
    { type, data, schemaVersion, timestamp, eventId, actor, meta }: EventDraft,
    index: number,
    cut: CutKind | undefined,
  ): EventColumns => {
    const metaText = meta === undefined ? null : JSON.stringify(meta);
    size += 100 + data.length + (metaText?.length ?? 0) + (eventId?.length ?? 0) + (actor?.length ?? 0);
    const ofCut = cut === "compacted" ? index : null;
    return [
      ...([toStored(type), data, schemaVersion, timestamp, stored(eventId), stored(actor), metaText] as const),
      index === 0 ? (cut ?? null) : null,
      ofCut,
    ];
  };
  const preparedAppends = appends.map(({ stream, expectedVersion, events, cut }) => {
    size += stream.id.length;
    const key = `${stream.type}/${stream.id}`;
    return {
      stream,
      key,
      expectedVersion,
      events: events.map((event, i) => columns(event, i, cut)),
    };
  });
  const progress = consumer === undefined ? undefined : progressOf(consumer);
  if (progress !== undefined)
    size += progress.note.length + progress.letters.reduce((n, [, text]) => n + text.length, 0);
  if (size > LARGEST_COMMIT) throw tooLarge(size);
  return { appends: preparedAppends, progress, chain, size };
}

function progressOf(consumer: ConsumerAppend): PreparedProgress {
  const { name, expectedSequence, note, deadLetters = [], settledLetters = [] } = consumer;
  return {
    name,
    expectedSequence,
    note: JSON.stringify(note) ?? "null",
    letters: deadLetters.map(({ key, letter }) => [toStored(key), JSON.stringify(letter)]),
    dropped: settledLetters.map(toStored),
  };
}

function stored(text: string | undefined): string | null {
  return text === undefined ? null : toStored(text);
}

function tooLarge(size: number): InvalidPayloadError {
  const message = `one commit has ${size} characters, and PostgreSQL gets at most ${LARGEST_COMMIT} at once: split the command, or keep large data elsewhere`;
  return new InvalidPayloadError(message, [{ message, path: [] }]);
}
