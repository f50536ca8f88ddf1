import type { StoredEvent, StoredMeta, StreamName } from "../../event-store/event-store.ts";
import { type ParsedLine, parseLine } from "./parse-line.ts";
import {
  BEFORE_PAYLOAD,
  AFTER_PAYLOAD,
  endOfDigits,
  isPlain,
  LETTER_S,
  type LineStart,
  matches,
  mayHaveKeyV,
  MS,
  ownText,
  POS,
  positionAt,
  START,
  startOfDigits,
  startOfTail,
  toNumber,
  V,
} from "./line-scanner.ts";

/** What an event needs to know of the file that its line was read from. */
export interface LineOrigin {
  readonly stream: StreamName;
  /** The error for something wrong with the line at a byte offset. */
  problem(offset: number, why: string, cause?: unknown): Error;
  /** The position of a foreign event, whose line does not carry it. */
  adoptedPosition(version: number, offset: number): number;
}

/** The part after the payload in a line that we wrote. */
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
export class LazyEvent implements StoredEvent {
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
  private rest: Envelope | undefined = undefined;

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
    const end = this.rest?.line === undefined ? this.endOfPayload() : -1;
    return end > 0 && this.isPayload(end) ? this.value : (this.value = this.whole().data);
  }

  /** Whether the payload ends here; then it is parsed. Otherwise it has a key `ts` itself, other keys follow it, or the line is damaged. */
  private isPayload(end: number): boolean {
    try {
      this.value ??= JSON.parse(this.text().slice(this.payload, end)) as unknown;
      return true;
    } catch {
      return false;
    }
  }

  /** The text of the payload in a line of ours, as far as the first `,"ts":`; nothing of any other line. */
  payloadText(): string | undefined {
    if (!this.isOurs) return undefined;
    const end = this.endOfPayload();
    return end < 0 ? undefined : this.source?.slice(this.payload, end);
  }

  /** Sets the payload, which was parsed together with others. */
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
    const end = this.text().indexOf(AFTER_PAYLOAD, start);
    return end < this.to ? end : -1;
  }

  private envelope(): Envelope {
    if (this.rest === undefined) {
      const text = this.text();
      const end = this.endOfPayload();
      // In a line of others, more keys may stand before the time.
      if (end > 0 && (this.isOurs || this.isPayload(end)))
        this.rest = walk(text, end + AFTER_PAYLOAD.length, startOfTail(text, this.from, this.to), this.to);
      if (this.rest === undefined) this.whole();
    }
    return this.rest as unknown as Envelope;
  }

  private text(): string {
    if (this.source === undefined) throw this.origin.problem(this.offset, "this line is not UTF-8");
    return this.source;
  }

  private whole(): ParsedLine {
    const known = this.rest?.line;
    if (known !== undefined) return known;
    const text = this.text().slice(this.from, this.to);
    const line = parseLine(text, (why, cause) => this.origin.problem(this.offset, why, cause));
    const { ts, ms, id, actor, meta, v } = line;
    this.rest = {
      timestamp: Math.min(ts * 1000 + (ms ?? 0), LAST_TIME),
      eventId: id ?? undefined,
      actor: actor ?? undefined,
      meta: isMeta(meta) ? meta : undefined,
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
export function parsePayloads(events: readonly LazyEvent[]): void {
  const waiting: LazyEvent[] = [];
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

/** Metadata that is nothing but a correlation id without escapes, up to the id. */
const CORRELATION = '{"correlation_id":"';

/**
 * Reads the part after `,"ts":` up to the end of the line at `to`, if it is exactly what we write; nothing
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

function metaOf(line: string, start: number, end: number): StoredMeta | undefined {
  const id = start + CORRELATION.length;
  if (id < end && matches(line, start, CORRELATION) && matches(line, end - 2, '"}') && isPlain(line, id, end - 2))
    return { correlation_id: ownText(line, id, end - 2) };
  try {
    const meta = JSON.parse(line.slice(start, end)) as unknown;
    return isMeta(meta) ? meta : undefined;
  } catch {
    return undefined;
  }
}

/** The last moment that a `Date` can have, in milliseconds since 1970. The Rust crate's seconds have no such limit. */
const LAST_TIME = 8.64e15;

function isMeta(value: unknown): value is StoredMeta {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
