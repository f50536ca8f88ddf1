import { isCount, jsonProblem } from "../json.ts";
import type { EventDraft, StoredEvent, StoredMeta, StreamName } from "../event-store/event-store.ts";

/**
 * One event as one line of `app.jsonl`: the original's keys `type, data, ts, id, actor, meta` in its
 * order, then ours `ms, pos` and, for a type with upcasters, `v` (how many steps the payload has been
 * through). Lines that we wrote are read by looking for these keys; any other line that the original
 * would accept takes `JSON.parse`, with the same result.
 */

const quotedTypes = new Map<string, string>();

function quoted(type: string): string {
  let text = quotedTypes.get(type);
  if (text === undefined) quotedTypes.set(type, (text = JSON.stringify(type)));
  return text;
}

/** The JSON of an event's metadata. */
export function metaText({ meta }: EventDraft): string | undefined {
  return meta === undefined ? undefined : JSON.stringify(meta);
}

/** An event's line, with its LF. */
export function lineOf(event: EventDraft, meta: string | undefined, position: number): string {
  const { type, data, timestamp, eventId, actor, schemaVersion } = event;
  const seconds = Math.floor(timestamp / 1000);
  const id = eventId === undefined ? "" : `,"id":${JSON.stringify(eventId)}`;
  const by = actor === undefined ? "" : `,"actor":${JSON.stringify(actor)}`;
  const more = meta === undefined ? "" : `,"meta":${meta}`;
  const shape = schemaVersion === 0 ? "" : `,"v":${schemaVersion}`;
  const ms = timestamp - seconds * 1000;
  return `{"type":${quoted(type)},"data":${data},"ts":${seconds}${id}${by}${more},"ms":${ms},"pos":${position}${shape}}\n`;
}

const ZERO = 0x30;
const NINE = 0x39;
const CLOSING_BRACE = 0x7d;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const SPACE = 0x20;
const LETTER_S = 0x73;

/** Whether `text` stands at a place of a line. Faster than `startsWith` for texts this short. */
function matches(line: string, at: number, text: string): boolean {
  for (let i = 0; i < text.length; i++) if (line.charCodeAt(at + i) !== text.charCodeAt(i)) return false;
  return true;
}

/** Where the digits that end at `end` (exclusive) begin, not before `from`; `end` itself if there are none. */
function startOfDigits(line: string, from: number, end: number): number {
  let start = end;
  while (start > from && end - start < 16) {
    const unit = line.charCodeAt(start - 1);
    if (unit < ZERO || unit > NINE) break;
    start--;
  }
  return start;
}

/** Behind a whole number as JSON writes it; `from` itself if there is none, or a number too large to be one of ours. */
function endOfDigits(line: string, from: number): number {
  let at = from;
  for (let unit = line.charCodeAt(at); unit >= ZERO && unit <= NINE; unit = line.charCodeAt(++at));
  return at - from > 16 || (at - from > 1 && line.charCodeAt(from) === ZERO) ? from : at;
}

function toNumber(line: string, start: number, end: number): number {
  let value = 0;
  for (let i = start; i < end; i++) value = value * 10 + (line.charCodeAt(i) - ZERO);
  return value;
}

const MS = ',"ms":';
const POS = ',"pos":';
const V = ',"v":';

/**
 * Where `,"ms":…,"pos":…}` begins, with which the lines that we write end; -1 for any other line. The line stands in `text`
 * between `from` and `to`.
 */
function startOfTail(text: string, from: number, to: number): number {
  let end = to - 1;
  if (text.charCodeAt(end) !== CLOSING_BRACE) return -1;
  let start = startOfDigits(text, from, end);
  if (start < end && matches(text, start - V.length, V)) {
    end = start - V.length;
    start = startOfDigits(text, from, end);
  }
  if (
    start === end ||
    !matches(text, start - POS.length, POS) ||
    (end - start === 1 && text.charCodeAt(start) === ZERO)
  )
    return -1;
  end = start - POS.length;
  start = startOfDigits(text, from, end);
  const tail = start - MS.length;
  return start < end && tail > from && matches(text, tail, MS) ? tail : -1;
}

/** The position at the end of a line that we wrote, without parsing it; nothing for any other line. */
export function positionOfLine(line: string): number | undefined {
  const tail = startOfTail(line, 0, line.length);
  return tail < 0 ? undefined : positionAt(line, tail);
}

function positionAt(line: string, tail: number): number {
  const start = endOfDigits(line, tail + MS.length) + POS.length;
  return toNumber(line, start, endOfDigits(line, start));
}

interface ParsedLine {
  readonly type: string;
  readonly data: unknown;
  readonly ts: number;
  readonly id?: string | null;
  readonly actor?: string | null;
  readonly meta?: StoredMeta | null;
  readonly ms?: number;
  readonly pos?: number;
  readonly v?: number;
}

/** What an event needs to know of the file that its line was read from. */
export interface LineOrigin {
  readonly stream: StreamName;
  /** The error for something wrong with the line at a byte offset. */
  problem(offset: number, why: string, cause?: unknown): Error;
  /** The position of an event whose line does not carry it, because another program wrote it. */
  adoptedPosition(version: number, offset: number): number;
}

/** What stands behind the payload in a line that we wrote. */
interface Envelope {
  readonly timestamp: number;
  readonly eventId: string | undefined;
  readonly actor: string | undefined;
  readonly meta: StoredMeta | undefined;
  readonly schemaVersion: number;
  /** The whole line, if it had to be parsed. */
  readonly line?: ParsedLine;
}

/**
 * An event that parses itself on first use: `type` costs a search, `data` a parse of the payload alone,
 * everything else a walk over the rest of a line of known layout, or a parse of the whole line. A getter
 * throws when the line is bad.
 */
export class LineEvent implements StoredEvent {
  // Plain fields, not #private ones, and few of them: a million of these are made at a time.
  readonly version: number;
  private readonly source: string | undefined;
  private readonly from: number;
  private readonly to: number;
  private readonly offset: number;
  private readonly origin: LineOrigin;
  private known: number | undefined;
  /** Where the payload begins in a line of known layout; -1 in any other, 0 if we have not looked. */
  private payload = 0;
  /** We wrote it, for certain. */
  private readonly isOurs: boolean;
  private name: string | undefined = undefined;
  /** The payload, once it was parsed. */
  private value: unknown = undefined;
  private behind: Envelope | undefined = undefined;

  /**
   * `offset` is that of the line's first byte in its file. `position` is given when something more trustworthy than the line
   * tells it; `start` when it is known to begin with that, and to be a line that we wrote.
   */
  constructor(
    source: string | undefined,
    from: number,
    to: number,
    version: number,
    offset: number,
    origin: LineOrigin,
    position?: number,
    start?: LineStart,
  ) {
    this.version = version;
    this.source = source;
    this.from = from;
    this.to = to;
    this.offset = offset;
    this.origin = origin;
    this.known = position;
    this.isOurs = start !== undefined;
    if (start === undefined) return;
    this.name = start.type;
    this.payload = from + start.text.length;
  }

  get stream(): StreamName {
    return this.origin.stream;
  }

  get position(): number {
    if (this.known === undefined) {
      const text = this.text();
      const tail = startOfTail(text, this.from, this.to);
      this.known =
        tail > 0
          ? positionAt(text, tail)
          : (this.whole().pos ?? this.origin.adoptedPosition(this.version, this.offset));
    }
    return this.known;
  }

  get type(): string {
    if (this.name === undefined) {
      const start = this.startOfPayload();
      this.name =
        start < 0 ? this.whole().type : ownText(this.text(), this.from + START.length, start - BEFORE_PAYLOAD.length);
    }
    return this.name;
  }

  get data(): unknown {
    if (this.value !== undefined) return this.value;
    const end = this.behind?.line === undefined ? this.endOfPayload() : -1;
    if (end > 0) {
      try {
        return (this.value = JSON.parse(this.text().slice(this.payload, end)) as unknown);
      } catch {
        // The text ended too early because the payload itself has a key "ts", or the line is damaged.
      }
    }
    return (this.value = this.whole().data);
  }

  /** The text of the payload in a line of ours, as far as the first `,"ts":`; nothing of any other line. */
  payloadText(): string | undefined {
    if (!this.isOurs) return undefined;
    const end = this.endOfPayload();
    return end < 0 ? undefined : this.source?.slice(this.payload, end);
  }

  /** Takes the payload from somebody who has parsed many at once. */
  setData(value: unknown): void {
    this.value = value;
  }

  get schemaVersion(): number {
    // Most types have no upcasters, and their lines end with the position.
    const text = this.text();
    if (this.isOurs && text.charCodeAt(text.lastIndexOf(":", this.to) - 2) === LETTER_S) return 0;
    if (this.startOfPayload() > 0) {
      const digits = startOfDigits(text, this.from, this.to - 1);
      if (matches(text, digits - POS.length, POS) && (this.isOurs || !mayHaveKeyV(text.slice(this.from, this.to))))
        return 0;
    }
    return this.envelope().schemaVersion;
  }

  get timestamp(): number {
    return this.envelope().timestamp;
  }

  get eventId(): string | undefined {
    return this.envelope().eventId;
  }

  get actor(): string | undefined {
    return this.envelope().actor;
  }

  get meta(): StoredMeta | undefined {
    return this.envelope().meta;
  }

  /**
   * Where the payload begins in a line that begins and ends as the lines that we write do; -1 in any other. It ends at the first
   * `,"ts":` that leaves valid JSON: inside a string the quotes would be escaped, and inside an object or array the text
   * would be unbalanced, so a wrong cut never parses.
   */
  private startOfPayload(): number {
    if (this.payload !== 0) return this.payload;
    const text = this.text();
    let start = -1;
    if (matches(text, this.from, START) && startOfTail(text, this.from, this.to) > 0) {
      const name = this.from + START.length;
      const end = text.indexOf(BEFORE_PAYLOAD, name);
      if (end > name && end < this.to && isPlain(text, name, end)) start = end + BEFORE_PAYLOAD.length;
    }
    return (this.payload = start);
  }

  /** Where the payload ends in such a line, unless it has a key `ts` itself; -1 if there is no end. */
  private endOfPayload(): number {
    const start = this.startOfPayload();
    if (start < 0) return -1;
    const end = this.text().indexOf(BEHIND_PAYLOAD, start);
    return end < this.to ? end : -1;
  }

  private envelope(): Envelope {
    if (this.behind === undefined) {
      const text = this.text();
      const end = this.endOfPayload();
      if (end > 0)
        this.behind = walk(text, end + BEHIND_PAYLOAD.length, startOfTail(text, this.from, this.to), this.to);
      if (this.behind === undefined) this.whole();
    }
    return this.behind as unknown as Envelope;
  }

  private text(): string {
    if (this.source === undefined) throw this.origin.problem(this.offset, "this line is not UTF-8");
    return this.source;
  }

  private whole(): ParsedLine {
    const known = this.behind?.line;
    if (known !== undefined) return known;
    const text = this.text().slice(this.from, this.to);
    const line = parseLine(text, (why, cause) => this.origin.problem(this.offset, why, cause));
    const { ts, ms, id, actor, meta, v } = line;
    this.behind = {
      timestamp: ts * 1000 + (ms ?? 0),
      eventId: id ?? undefined,
      actor: actor ?? undefined,
      meta: meta ?? undefined,
      schemaVersion: v ?? 0,
      line,
    };
    return line;
  }
}

/**
 * Parses the payloads of many events in one call, which takes a third less time than one at a time. Only those of lines that we
 * certainly wrote: anything else could be cut where two pieces make sense together. They are left as they are if any of them is not
 * what it looks like; then each parses itself when it is asked.
 *
 * A text that was cut too early, because its payload has a key `ts`, ends inside an object; what follows it here is the beginning of
 * a value and not a key, so that it never parses.
 */
export function parsePayloads(events: readonly LineEvent[]): void {
  const waiting: LineEvent[] = [];
  const texts: string[] = [];
  for (const event of events) {
    const text = event.payloadText();
    if (text === undefined) continue;
    waiting.push(event);
    texts.push(text);
  }
  if (texts.length < 2) return;
  let values: unknown;
  try {
    values = JSON.parse(`[${texts.join(",")}]`);
  } catch {
    return;
  }
  if (!Array.isArray(values) || values.length !== waiting.length) return;
  for (let i = 0; i < values.length; i++) waiting[i]?.setData(values[i]);
}

/** How a line of a certain type begins, up to its payload. */
export interface LineStart {
  readonly type: string;
  readonly text: string;
  /** The type as it stands in the line, with the quote behind it. */
  readonly name: string;
  readonly bytes: Buffer;
}

export function lineStart(type: string): LineStart {
  const text = `{"type":${quoted(type)},"data":`;
  return { type, text, name: quoted(type).slice(1), bytes: Buffer.from(text) };
}

/** Which of these a line of ours that begins at `at` of a text begins with: only their names have to be told apart. */
export function startOf(text: string, at: number, starts: readonly LineStart[]): LineStart | undefined {
  const name = at + START.length;
  for (const start of starts) if (matches(text, name, start.name)) return start;
  return undefined;
}

/** Whether some lines may have a key `v` that does not stand at the end, where we write it. */
export function mayHaveKeyV(text: string): boolean {
  return text.includes('"v"') || text.includes("\\u");
}

/** Whether a line is one that we wrote, to the letter of its layout. */
export function isOurLine(line: string): boolean {
  if (startOfTail(line, 0, line.length) < 0 || startOfOurs(line, 0, line.length, []) === undefined) return false;
  try {
    const event = JSON.parse(line) as object;
    return OUR_KEYS.test(Object.keys(event).join()) && JSON.stringify(event) === line;
  } catch {
    return false;
  }
}

const OUR_KEYS = /^type,data,ts(,id)?(,actor)?(,meta)?,ms,pos$/;

/**
 * How a line begins that we wrote; nothing for any other, and if it is not certain. The line is one that was committed, so this
 * need not be proof against damage; it is the most frequent thing that loading does, and searches are fast before code is.
 */
export function startOfOurs(text: string, from: number, to: number, known: LineStart[]): LineStart | undefined {
  const pos = text.lastIndexOf(":", to) + 1 - POS.length;
  // Before the next search, which would go back through all lines of others in front of one of others.
  if (pos < from || !matches(text, pos, POS) || text.charCodeAt(to - 1) !== CLOSING_BRACE) return undefined;
  const tail = text.lastIndexOf(MS, pos);
  if (tail < from || pos - tail > MS.length + 3) return undefined;
  for (let i = 0; i < known.length; i++) {
    const start = known[i];
    if (start === undefined || !matches(text, from, start.text)) continue;
    // The next line is most probably of the same type.
    if (i > 0) known.unshift(...known.splice(i, 1));
    return start;
  }
  if (!matches(text, from, START)) return undefined;
  const name = from + START.length;
  const end = text.indexOf(BEFORE_PAYLOAD, name);
  if (end <= name || end >= to || !isPlain(text, name, end)) return undefined;
  const found = lineStart(ownText(text, name, end));
  if (known.length < MAX_STARTS) known.push(found);
  return found;
}

/** Types whose lines are told apart by how they begin. */
const MAX_STARTS = 32;

const START = '{"type":"';
const BEFORE_PAYLOAD = '","data":';
const BEHIND_PAYLOAD = ',"ts":';
/** Metadata that is nothing but a correlation id without escapes, up to the id. */
const CORRELATION = '{"correlation_id":"';

/** Whether a part of a line is what a JSON string holds when it needs no escapes. */
function isPlain(line: string, start: number, end: number): boolean {
  for (let i = start; i < end; i++) {
    const unit = line.charCodeAt(i);
    if (unit === QUOTE || unit === BACKSLASH || unit < SPACE) return false;
  }
  return true;
}

/**
 * Reads what stands behind `,"ts":` up to the end of the line at `to`, if it is exactly what we write; nothing
 * otherwise. A cut inside the payload is noticed: what follows it does not end with the line.
 */
function walk(line: string, from: number, tail: number, to: number): Envelope | undefined {
  let at = endOfDigits(line, from);
  if (at === from) return undefined;
  const seconds = toNumber(line, from, at);
  let eventId: string | undefined;
  if (matches(line, at, ',"id":"')) {
    const end = line.indexOf('"', (at += 7));
    if (end < 0 || end > tail || !isPlain(line, at, end)) return undefined;
    eventId = ownText(line, at, end);
    at = end + 1;
  }
  let actor: string | undefined;
  if (matches(line, at, ',"actor":"')) {
    const end = line.indexOf('"', (at += 10));
    if (end < 0 || end > tail || !isPlain(line, at, end)) return undefined;
    actor = ownText(line, at, end);
    at = end + 1;
  }
  let meta: StoredMeta | undefined;
  if (at < tail && matches(line, at, ',"meta":')) {
    meta = metaOf(line, at + 8, tail);
    if (meta === undefined) return undefined;
    at = tail;
  }
  if (at !== tail) return undefined;
  const ms = endOfDigits(line, (at += MS.length));
  const timestamp = seconds * 1000 + toNumber(line, at, ms);
  if (ms === at || ms - at > 3) return undefined;
  const pos = ms + POS.length;
  at = endOfDigits(line, pos);
  if (at === pos || !Number.isSafeInteger(toNumber(line, pos, at))) return undefined;
  let schemaVersion = 0;
  if (matches(line, at, V)) {
    const end = endOfDigits(line, (at += V.length));
    schemaVersion = toNumber(line, at, end);
    at = end;
  }
  return at === to - 1 && Number.isSafeInteger(timestamp)
    ? { timestamp, eventId, actor, meta, schemaVersion }
    : undefined;
}

/** A part of a text that does not keep the whole of it in memory, as a slice does for as long as somebody has it. */
function ownText(text: string, start: number, end: number): string {
  return ` ${text.slice(start, end)}`.slice(1);
}

function metaOf(line: string, start: number, end: number): StoredMeta | undefined {
  const id = start + CORRELATION.length;
  if (id < end && matches(line, start, CORRELATION) && matches(line, end - 2, '"}') && isPlain(line, id, end - 2))
    return { correlation_id: ownText(line, id, end - 2) };
  try {
    const meta = JSON.parse(line.slice(start, end)) as unknown;
    return typeof meta === "object" && meta !== null && !Array.isArray(meta) ? (meta as StoredMeta) : undefined;
  } catch {
    return undefined;
  }
}

/** Parses any line that the original would accept, and refuses what it would refuse. */
export function parseLine(line: string, problem: (why: string, cause?: unknown) => Error): ParsedLine {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw problem("this line is not JSON", cause);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw problem("this line is not a JSON object");
  const event = value as Record<string, unknown>;
  const bad =
    typeof event["type"] !== "string"
      ? "type is not a string"
      : !Object.hasOwn(event, "data")
        ? "data is missing"
        : !isCount(event["ts"])
          ? "ts is not a whole number of seconds"
          : !isOptionalString(event["id"])
            ? "id is not a string"
            : !isOptionalString(event["actor"])
              ? "actor is not a string"
              : !isOptional(event["meta"], (meta) => typeof meta === "object" && !Array.isArray(meta))
                ? "meta is not an object"
                : !isOptional(event["ms"], (ms) => isCount(ms) && ms < 1000)
                  ? "ms is not a number from 0 to 999"
                  : !isOptional(event["pos"], (pos) => isCount(pos) && pos > 0)
                    ? "pos is not a position"
                    : !isOptional(event["v"], isCount)
                      ? "v is not a count of upcasting steps"
                      : undefined;
  const unsound = bad ?? (positionOfLine(line) === undefined ? foreignProblem(line, event) : undefined);
  if (unsound !== undefined) throw problem(unsound);
  return value as ParsedLine;
}

/** What the original would stumble over in a line that JSON.parse accepts. */
function foreignProblem(line: string, event: Readonly<Record<string, unknown>>): string | undefined {
  const { ts, twice } = scanTopLevel(line);
  if (twice !== undefined) return `${twice} stands there twice`;
  if (ts === undefined || !/^\d+$/.test(ts)) return "ts is not written as a whole number";
  for (const key of ["type", "data", "id", "actor", "meta"]) {
    const found = jsonProblem(event[key] ?? null, key, 0, "found");
    if (found !== undefined) return found;
  }
  return undefined;
}

const KNOWN_KEYS = new Set(["type", "data", "ts", "id", "actor", "meta", "ms", "pos", "v"]);

/** The text of `ts`, and a known key that stands twice, at the top level of an object that JSON.parse accepts. */
function scanTopLevel(line: string): { readonly ts: string | undefined; readonly twice: string | undefined } {
  const seen = new Set<string>();
  let ts: string | undefined;
  let twice: string | undefined;
  let depth = 0;
  let expectsKey = false;
  for (let i = 0; i < line.length; i++) {
    const character = line[i];
    if (character === '"') {
      let end = i + 1;
      while (line[end] !== '"') end += line[end] === "\\" ? 2 : 1;
      if (depth === 1 && expectsKey) {
        const key = JSON.parse(line.slice(i, end + 1)) as string;
        if (KNOWN_KEYS.has(key) && seen.has(key)) twice ??= key;
        seen.add(key);
        if (key === "ts") ts = /^\s*:\s*([^\s,}]*)/.exec(line.slice(end + 1))?.[1];
        expectsKey = false;
      }
      i = end;
    } else if (character === "{" || character === "[") {
      depth++;
      expectsKey = depth === 1;
    } else if (character === "}" || character === "]") {
      depth--;
    } else if (character === "," && depth === 1) {
      expectsKey = true;
    }
  }
  return { ts, twice };
}

function isOptionalString(value: unknown): boolean {
  return isOptional(value, (text) => typeof text === "string");
}

function isOptional(value: unknown, check: (value: unknown) => boolean): boolean {
  return value === undefined || value === null || check(value);
}
