/**
 * How a line of `app.jsonl` is laid out that we wrote, and searches for its parts in a text of many lines. Everything here looks at as
 * few characters as it can; what is not certain to be ours goes to `parseLine`.
 */

const quotedTypes = new Map<string, string>();

export function quoted(type: string): string {
  let text = quotedTypes.get(type);
  if (text === undefined) quotedTypes.set(type, (text = JSON.stringify(type)));
  return text;
}

const ZERO = 0x30;
const NINE = 0x39;
const CLOSING_BRACE = 0x7d;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const SPACE = 0x20;
export const LETTER_S = 0x73;

/** Whether `text` stands at a place of a line. Faster than `startsWith` for texts this short. */
export function matches(line: string, at: number, text: string): boolean {
  for (let i = 0; i < text.length; i++) if (line.charCodeAt(at + i) !== text.charCodeAt(i)) return false;
  return true;
}

/** Where the digits that end at `end` (exclusive) begin, not before `from`; `end` itself if there are none. */
export function startOfDigits(line: string, from: number, end: number): number {
  let start = end;
  while (start > from && end - start < 16) {
    const unit = line.charCodeAt(start - 1);
    if (unit < ZERO || unit > NINE) break;
    start--;
  }
  return start;
}

/** The index after a whole number as JSON writes it; `from` itself if there is none, or if it is too large to be one of ours. */
export function endOfDigits(line: string, from: number): number {
  let at = from;
  for (let unit = line.charCodeAt(at); unit >= ZERO && unit <= NINE; unit = line.charCodeAt(++at));
  return at - from > 16 || (at - from > 1 && line.charCodeAt(from) === ZERO) ? from : at;
}

export function toNumber(line: string, start: number, end: number): number {
  let value = 0;
  for (let i = start; i < end; i++) value = value * 10 + (line.charCodeAt(i) - ZERO);
  return value;
}

export const MS = ',"ms":';
export const POS = ',"pos":';
export const V = ',"v":';

/**
 * Where `,"ms":…,"pos":…}` begins, with which the lines that we write end; -1 for any other line. The line stands in `text`
 * between `from` and `to`.
 */
export function startOfTail(text: string, from: number, to: number): number {
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

export function positionAt(line: string, tail: number): number {
  const start = endOfDigits(line, tail + MS.length) + POS.length;
  return toNumber(line, start, endOfDigits(line, start));
}

export const START = '{"type":"';
export const BEFORE_PAYLOAD = '","data":';
export const AFTER_PAYLOAD = ',"ts":';

/** Whether a part of a line is what a JSON string holds when it needs no escapes. */
export function isPlain(line: string, start: number, end: number): boolean {
  for (let i = start; i < end; i++) {
    const unit = line.charCodeAt(i);
    if (unit === QUOTE || unit === BACKSLASH || unit < SPACE) return false;
  }
  return true;
}

/** A copy of a part of a text. A slice would keep the whole text in memory. */
export function ownText(text: string, start: number, end: number): string {
  return ` ${text.slice(start, end)}`.slice(1);
}

/** How a line of a certain type begins, up to its payload. */
export interface LineStart {
  readonly type: string;
  readonly text: string;
  /** The type as the line has it, with its closing quote. */
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
  // Before the next search, which would go back through all lines of other types before this one.
  if (pos < from || !matches(text, pos, POS) || text.charCodeAt(to - 1) !== CLOSING_BRACE) return undefined;
  const tail = text.lastIndexOf(MS, pos);
  if (tail < from || pos - tail > MS.length + 3) return undefined;
  for (let i = 0; i < known.length; i++) {
    const start = known[i];
    if (start === undefined || !matches(text, from, start.text)) continue;
    // The next line is most probably of the same type.
    if (i > 0) {
      known.splice(i, 1);
      known.unshift(start);
    }
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
