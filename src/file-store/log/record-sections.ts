import type { CutKind } from "../../cut.ts";
import type { StoredDeadLetter } from "../../event-store/event-store.ts";
import { isCount } from "../../json.ts";
import { storedKey, type StreamKey } from "../disk/stream-key.ts";
import type { RecordHeader } from "./record-format.ts";

export interface Section {
  readonly key: StreamKey;
  /** Version of the first event. */
  readonly version: number;
  /** Position of the first event. */
  readonly position: number;
  readonly events: number;
  /** The lines are foreign: the Rust crate wrote them to the stream's file, without `pos`. */
  readonly adopted: boolean;
  /** The section is a cut: no earlier event of its stream counts. */
  readonly cut?: CutKind | undefined;
  /** Offset in the stream's file. */
  readonly at: number;
  /** Where the lines are in the buffer. */
  readonly start: number;
  readonly end: number;
  /** CRC-32 of the stream's lines up to the section's end, if the writer knows it. */
  readonly crc?: number | undefined;
}

export function sectionHeader(
  section: Pick<Section, "key" | "version" | "at" | "events" | "adopted" | "cut">,
  bytes: number,
): string {
  const { key, version, at, events, adopted, cut } = section;
  const kind = adopted ? ',"adopted":true' : cut === undefined ? "" : `,"cut":"${cut}"`;
  return `{"stream":${JSON.stringify(key)},"version":${version},"at":${at},"events":${events},"bytes":${bytes}${kind}}\n`;
}

/** What a process manager notes in the log: a header line `{"manager":…}` and one line of JSON. */
export interface NoteSection {
  /** The process manager's. */
  readonly name: string;
  readonly sequence: number;
  readonly note: unknown;
  readonly deadLetters?: readonly StoredDeadLetter[];
  /** Keys of dead letters that were replayed or dropped. */
  readonly settledLetters?: readonly string[];
}

/** The line of a note, without its LF. */
export function noteLine({ note, deadLetters, settledLetters }: Omit<NoteSection, "name" | "sequence">): string {
  return JSON.stringify({ note, deadLetters, settledLetters });
}

/** The text of a note's section. */
export function noteLines(section: NoteSection): string {
  const { name, sequence } = section;
  const body = `${noteLine(section)}\n`;
  return `{"manager":${JSON.stringify(name)},"sequence":${sequence},"bytes":${Buffer.byteLength(body)}}\n${body}`;
}

const LETTER_C = 0x63;
const LETTER_M = 0x6d;
const COMMA = 0x2c;
interface NoteHeader {
  readonly manager: string;
  readonly sequence: number;
  readonly bytes: number;
}
const STREAM_PREFIX = '{"stream":"'.length;
const VERSION = '","version":'.length;

/** A record has the right checksum and impossible contents, so a different program wrote it. */
export class MalformedRecordError extends Error {
  override readonly name = "MalformedRecordError";
}

/** The body of a record as text with a character for each byte, and where that begins in the buffer. */
export interface RecordText {
  readonly text: string;
  readonly start: number;
}

/**
 * Calls `visit` for each stream's section of a record, and `visitNote` for each note. A caller that reads many records passes
 * the same `keys` each time, so that not every section makes its stream's key anew.
 */
export function readSections(
  buffer: Buffer,
  header: RecordHeader,
  base: number,
  visit: (section: Section, record: RecordText) => void,
  visitNote?: (section: NoteSection, start: number, end: number) => void,
  keys?: Map<string, StreamKey>,
): void {
  const bodyStart = header.body - base;
  const end = header.end - base;
  const text = buffer.toString("latin1", bodyStart, end);
  const record: RecordText = { text, start: bodyStart };
  let position = header.position;
  let cursor = 0;
  // The layout is ours and the checksum has been verified: skip the names, read the digits.
  const number = (skip: number): number => {
    cursor += skip;
    let value = 0;
    for (let unit = text.charCodeAt(cursor); unit >= 0x30 && unit <= 0x39; unit = text.charCodeAt(++cursor))
      value = value * 10 + unit - 0x30;
    return value;
  };
  for (let at = 0; at < text.length;) {
    const lineEnd = text.indexOf("\n", at);
    if (lineEnd < 0) throw new MalformedRecordError("a section of a commit record has no first line");
    if (text.charCodeAt(at + 2) === LETTER_M) {
      const { manager, sequence, bytes } = parseHeader(buffer, bodyStart + at, bodyStart + lineEnd) as NoteHeader;
      const start = bodyStart + lineEnd + 1;
      if (typeof manager !== "string" || !isCount(sequence) || !isCount(bytes) || start + bytes > end)
        throw new MalformedRecordError("the section of a process manager's note has an unknown form");
      at = start + bytes - bodyStart;
      visitNote?.(noteSection(manager, sequence, buffer.toString("utf8", start, start + bytes)), start, start + bytes);
      continue;
    }
    const keyStart = at + STREAM_PREFIX;
    const keyEnd = text.indexOf('"', keyStart);
    const raw = text.slice(keyStart, keyEnd);
    let key = keys?.get(raw);
    cursor = keyEnd;
    if (key === undefined) {
      if (isPlainAscii(raw)) {
        // Its own text: a slice would keep the whole record in memory.
        key = storedKey(buffer.toString("latin1", bodyStart + keyStart, bodyStart + keyEnd));
        keys?.set(key, key);
      } else {
        const line = parseHeader(buffer, bodyStart + at, bodyStart + lineEnd);
        key = storedKey(String((line as { readonly stream: unknown }).stream));
        cursor = keyStart + Buffer.byteLength(JSON.stringify(key)) - 2;
      }
    }
    const version = number(VERSION);
    const fileOffset = number(',"at":'.length);
    const events = number(',"events":'.length);
    const bytes = number(',"bytes":'.length);
    const isPlain = text.charCodeAt(cursor) !== COMMA;
    const cut = isPlain ? undefined : cutAt(text, cursor);
    const adopted = !isPlain && cut === undefined;
    const start = bodyStart + lineEnd + 1;
    if (start + bytes > end || cursor > lineEnd)
      throw new MalformedRecordError("a section of a commit record is longer than the record");
    const section = { key, version, position, events, adopted, cut, at: fileOffset, start, end: start + bytes };
    at = section.end - bodyStart;
    position += events;
    visit(section, record);
  }
}

const CUTS = (["deleted", "compacted"] satisfies CutKind[]).map((kind) => [kind, `,"cut":"${kind}"}`] as const);

/** The kind in the `,"cut":"…"` at a place of a section's header; nothing for `,"adopted":true`. */
function cutAt(text: string, at: number): CutKind | undefined {
  if (text.charCodeAt(at + 2) !== LETTER_C) return undefined;
  const found = CUTS.find(([, end]) => text.startsWith(end, at));
  if (found === undefined) throw new MalformedRecordError("a section of a commit record has an unknown kind of cut");
  return found[0];
}

/** Whether a text of bytes is what it seems: ASCII, without a backslash. */
function isPlainAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit > 0x7e || unit === 0x5c) return false;
  }
  return true;
}

function parseHeader(buffer: Buffer, start: number, end: number): object {
  const value = parsed(buffer.toString("utf8", start, end));
  if (typeof value !== "object" || value === null)
    throw new MalformedRecordError("a section's first line is no object");
  return value;
}

function noteSection(name: string, sequence: number, text: string): NoteSection {
  const body = parsed(text) as Partial<NoteSection> | null;
  const { note, deadLetters, settledLetters } = body ?? {};
  const isSound =
    (deadLetters === undefined ||
      (Array.isArray(deadLetters) &&
        deadLetters.every((each: Partial<StoredDeadLetter> | null) => typeof each?.key === "string"))) &&
    (settledLetters === undefined ||
      (Array.isArray(settledLetters) && settledLetters.every((key) => typeof key === "string")));
  if (!isSound) throw new MalformedRecordError("the dead letters of a process manager's note have an unknown form");
  return {
    name,
    sequence,
    note,
    ...(deadLetters === undefined ? {} : { deadLetters }),
    ...(settledLetters === undefined ? {} : { settledLetters }),
  };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new MalformedRecordError("a line of a commit record is not JSON");
  }
}
