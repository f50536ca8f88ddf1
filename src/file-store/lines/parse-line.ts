import { isCount, jsonProblem } from "../../json.ts";
import { positionOfLine } from "./line-scanner.ts";

export interface ParsedLine {
  readonly type: string;
  readonly data: unknown;
  readonly ts: number;
  readonly id?: string | null;
  readonly actor?: string | null;
  /** The Rust crate keeps a value that is not an object, too. */
  readonly meta?: unknown;
  readonly ms?: number;
  readonly pos?: number;
  readonly v?: number;
}

/** Parses any line that the Rust crate would accept, and refuses any other. */
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
        : !isSeconds(event["ts"])
          ? "ts is not a whole number of seconds"
          : !isOptionalString(event["id"])
            ? "id is not a string"
            : !isOptionalString(event["actor"])
              ? "actor is not a string"
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

/** Why the Rust crate would refuse a line that `JSON.parse` accepts. */
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

/** The Rust crate writes any number of 64 bits. */
function isSeconds(value: unknown): boolean {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= 2 ** 64;
}

function isOptionalString(value: unknown): boolean {
  return isOptional(value, (text) => typeof text === "string");
}

function isOptional(value: unknown, check: (value: unknown) => boolean): boolean {
  return value === undefined || value === null || check(value);
}
