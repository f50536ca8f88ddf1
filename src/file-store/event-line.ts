import { jsonProblem } from "../json.ts";
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

/** The line without its end; `endOfLine` completes it once the position is known. */
export function startOfLine(event: EventDraft): string {
  const seconds = Math.floor(event.timestamp / 1000);
  let line = `{"type":${quoted(event.type)},"data":${event.data},"ts":${seconds}`;
  if (event.eventId !== undefined) line += `,"id":${JSON.stringify(event.eventId)}`;
  if (event.actor !== undefined) line += `,"actor":${JSON.stringify(event.actor)}`;
  if (event.meta !== undefined) line += `,"meta":${JSON.stringify(event.meta)}`;
  return `${line},"ms":${event.timestamp - seconds * 1000}`;
}

export function endOfLine(event: EventDraft, position: number): string {
  return event.schemaVersion === 0 ? `,"pos":${position}}\n` : `,"pos":${position},"v":${event.schemaVersion}}\n`;
}

const ZERO = 0x30;
const NINE = 0x39;

/** Where the digits that end at `end` (exclusive) begin; `end` itself if there are none. */
function startOfDigits(line: string, end: number): number {
  let start = end;
  while (start > 0 && end - start < 16) {
    const unit = line.charCodeAt(start - 1);
    if (unit < ZERO || unit > NINE) break;
    start--;
  }
  return start;
}

/** The position at the end of a line that we wrote, without parsing it; nothing for any other line. */
export function positionOfLine(line: string): number | undefined {
  let end = line.length - 1;
  if (line[end] !== "}") return undefined;
  let start = startOfDigits(line, end);
  if (line.startsWith(',"v":', start - 5) && start < end) {
    end = start - 5;
    start = startOfDigits(line, end);
  }
  if (start === end || !line.startsWith(',"pos":', start - 7)) return undefined;
  const position = Number(line.slice(start, end));
  const ms = startOfDigits(line, start - 7);
  return ms < start - 7 && line.startsWith(',"ms":', ms - 6) ? position : undefined;
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

/**
 * An event that parses itself on first use: `type` costs a search, `data` a parse of the payload alone,
 * everything else a parse of the whole line. A getter throws when the line is bad.
 */
export class LineEvent implements StoredEvent {
  readonly version: number;
  readonly #line: string | undefined;
  readonly #offset: number;
  readonly #origin: LineOrigin;
  #parsed: ParsedLine | undefined;

  /** `line` is `undefined` for bytes that are not UTF-8; `offset` is that of its first byte. */
  constructor(line: string | undefined, version: number, offset: number, origin: LineOrigin) {
    this.#line = line;
    this.version = version;
    this.#offset = offset;
    this.#origin = origin;
  }

  get stream(): StreamName {
    return this.#origin.stream;
  }

  get position(): number {
    const line = this.#text();
    return positionOfLine(line) ?? this.#whole().pos ?? this.#origin.adoptedPosition(this.version, this.#offset);
  }

  get type(): string {
    const line = this.#text();
    if (this.#parsed === undefined && this.#isOurs(line)) {
      const end = line.indexOf('"', 9);
      const type = line.slice(9, end);
      if (end > 9 && !type.includes("\\") && line.startsWith('"data":', end + 2)) return type;
    }
    return this.#whole().type;
  }

  get data(): unknown {
    if (this.#parsed !== undefined) return this.#parsed.data;
    const text = this.#payloadText();
    if (text !== undefined) {
      try {
        return JSON.parse(text) as unknown;
      } catch {
        // The text ended too early because the payload itself has a key "ts", or the line is damaged.
      }
    }
    return this.#whole().data;
  }

  get schemaVersion(): number {
    const line = this.#text();
    if (this.#parsed === undefined && this.#isOurs(line) && !line.includes('"v":') && !line.includes("\\u")) return 0;
    return this.#whole().v ?? 0;
  }

  get timestamp(): number {
    const { ts, ms } = this.#whole();
    return ts * 1000 + (ms ?? 0);
  }

  get eventId(): string | undefined {
    return this.#whole().id ?? undefined;
  }

  get actor(): string | undefined {
    return this.#whole().actor ?? undefined;
  }

  get meta(): StoredMeta | undefined {
    const line = this.#text();
    if (this.#parsed === undefined && this.#isOurs(line) && !line.includes('"meta"') && !line.includes("\\u"))
      return undefined;
    return this.#whole().meta ?? undefined;
  }

  /** Begins and ends as the lines that we write do. Any other line is parsed as a whole. */
  #isOurs(line: string): boolean {
    return line.startsWith('{"type":"') && positionOfLine(line) !== undefined;
  }

  /**
   * The payload's text in a line of known layout. It ends at the first `,"ts":` that leaves valid JSON:
   * inside a string the quotes would be escaped, and inside an object or array the text would be
   * unbalanced, so a wrong cut never parses.
   */
  #payloadText(): string | undefined {
    const line = this.#text();
    if (!this.#isOurs(line)) return undefined;
    const typeEnd = line.indexOf('"', 9);
    if (!line.startsWith(',"data":', typeEnd + 1)) return undefined;
    const start = typeEnd + 9;
    const end = line.indexOf(',"ts":', start);
    return end < 0 ? undefined : line.slice(start, end);
  }

  #text(): string {
    if (this.#line === undefined) throw this.#origin.problem(this.#offset, "this line is not UTF-8");
    return this.#line;
  }

  #whole(): ParsedLine {
    this.#parsed ??= parseLine(this.#text(), (why, cause) => this.#origin.problem(this.#offset, why, cause));
    return this.#parsed;
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
        : !isSafeCount(event["ts"])
          ? "ts is not a whole number of seconds"
          : !isOptionalString(event["id"])
            ? "id is not a string"
            : !isOptionalString(event["actor"])
              ? "actor is not a string"
              : !isOptional(event["meta"], (meta) => typeof meta === "object" && !Array.isArray(meta))
                ? "meta is not an object"
                : !isOptional(event["ms"], (ms) => isSafeCount(ms) && ms < 1000)
                  ? "ms is not a number from 0 to 999"
                  : !isOptional(event["pos"], (pos) => isSafeCount(pos) && pos > 0)
                    ? "pos is not a position"
                    : !isOptional(event["v"], isSafeCount)
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

function isSafeCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isOptionalString(value: unknown): boolean {
  return isOptional(value, (text) => typeof text === "string");
}

function isOptional(value: unknown, check: (value: unknown) => boolean): boolean {
  return value === undefined || value === null || check(value);
}
