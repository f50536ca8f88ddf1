import { InvalidPayloadError } from "./errors.ts";
import { isArrayPrototype, isObjectPrototype } from "./realm.ts";

/** The Rust crate refuses a line whose payload is nested deeper, and with it the whole stream. */
const MAX_DEPTH = 126;

/** Whether a value comes back from JSON exactly as it is: no `undefined`, `-0`, `NaN`, dates, maps, class instances or cycles. */
export function isJsonValue(value: unknown): boolean {
  return jsonProblem(value, "", 0, "exact") === undefined;
}

/**
 * The JSON text of a payload. Properties that are `undefined` are left out, as JSON does; anything else that
 * JSON would change or drop is refused, with the path to it.
 */
export function stringifyPayload(value: unknown, what: string): string {
  if (value === undefined) return "null";
  if (!isFlat(value)) {
    const found = findProblem(value, 0, "payload");
    if (found !== undefined) {
      const message = shown(found, "data");
      throw new InvalidPayloadError(`${what}: ${message}; a payload is plain JSON data`, [
        { message, path: found.path },
      ]);
    }
  }
  return JSON.stringify(value);
}

/** Whether a value is an object as most payloads are, of numbers, sound strings and booleans: certain to be plain JSON data, and seen at a glance. */
function isFlat(value: unknown): boolean {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  if (!isObjectPrototype(Object.getPrototypeOf(value))) return false;
  for (const key of Reflect.ownKeys(value)) {
    if (typeof key !== "string" || key === "__proto__" || key === "toJSON" || !isWellFormed(key)) return false;
    const property: unknown = (value as Record<string, unknown>)[key];
    if (typeof property === "string" ? !isWellFormed(property) : !isNumberOrBoolean(property)) return false;
  }
  return !("toJSON" in value);
}

function isNumberOrBoolean(value: unknown): boolean {
  return typeof value === "number" ? Number.isFinite(value) : typeof value === "boolean";
}

/** Whether two values have the same JSON, whatever the order of keys. Properties that are `undefined` count as missing. */
export function sameJson(a: unknown, b: unknown): boolean {
  if (Object.is(a, b) || (a === 0 && b === 0)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const [left, right] = [a, b] as Record<string, unknown>[];
  const keys = new Set([...Object.keys(left ?? {}), ...Object.keys(right ?? {})]);
  if (Array.isArray(a) && a.length !== (b as unknown[]).length) return false;
  return [...keys].every((key) => sameJson(left?.[key], right?.[key]));
}

type JsonMode = "exact" | "payload" | "found";

/** A part of a value that JSON would change or drop. */
interface JsonProblem {
  /** Keys and indexes from the value to the part. */
  readonly path: (string | number)[];
  readonly why: string;
}

/** What JSON would change or drop in a value, with the path to it. `"exact"`: nothing; `"payload"`: properties that are `undefined`, and -0, may pass; `"found"`: read from a file, where `__proto__` is a key like others. */
export function jsonProblem(value: unknown, path: string, depth: number, mode: JsonMode): string | undefined {
  const problem = findProblem(value, depth, mode);
  return problem === undefined ? undefined : shown(problem, path);
}

function shown({ path, why }: JsonProblem, root: string): string {
  return `${root}${path.map((key) => (typeof key === "number" ? `[${key}]` : `.${key}`)).join("")} ${why}`;
}

function findProblem(value: unknown, depth: number, mode: JsonMode): JsonProblem | undefined {
  switch (typeof value) {
    case "boolean":
      return undefined;
    case "string":
      return isWellFormed(value) ? undefined : problem("has half of a surrogate pair, which is not Unicode text");
    case "number":
      if (!Number.isFinite(value)) return problem(`is ${value}, which JSON cannot hold`);
      return mode === "exact" && Object.is(value, -0) ? problem("is -0") : undefined;
    case "object":
      return value === null ? undefined : objectProblem(value, depth, mode);
    case "undefined":
      return problem("is undefined");
    default:
      return problem(`is a ${typeof value}`);
  }
}

function objectProblem(value: object, depth: number, mode: JsonMode): JsonProblem | undefined {
  if (depth >= MAX_DEPTH) return problem(`is nested deeper than ${MAX_DEPTH} levels, or contains itself`);
  if (Object.getOwnPropertySymbols(value).length > 0) return problem("has a symbol for a key");
  if (Array.isArray(value)) {
    if ("toJSON" in value) return problem("has a toJSON method");
    if (!isArrayPrototype(Object.getPrototypeOf(value))) return problem("is an array of a class of its own");
    if (Object.keys(value).length > value.length) return problem("is an array with properties");
    for (let i = 0; i < value.length; i++) {
      const inner = findProblem(value[i], depth + 1, mode);
      if (inner !== undefined) return within(i, inner);
    }
    return undefined;
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== null && !isObjectPrototype(prototype)) {
    const name = (value.constructor as { readonly name?: string } | undefined)?.name ?? "";
    return problem(`is a ${name === "" ? "class instance" : name}`);
  }
  if ("toJSON" in value && typeof value.toJSON === "function") return problem("has a toJSON method");
  for (const key of Object.keys(value)) {
    if (key === "__proto__" && mode !== "found") return problem('has a key "__proto__"');
    if (!isWellFormed(key)) return problem("has a key with half of a surrogate pair");
    const property = (value as Record<string, unknown>)[key];
    if (property === undefined && mode === "payload") continue;
    const inner = findProblem(property, depth + 1, mode);
    if (inner !== undefined) return within(key, inner);
  }
  return undefined;
}

function problem(why: string): JsonProblem {
  return { path: [], why };
}

function within(key: string | number, inner: JsonProblem): JsonProblem {
  inner.path.unshift(key);
  return inner;
}

/** Whether a string is Unicode text: no half of a surrogate pair. */
export function isWellFormed(text: string): boolean {
  // In ES2024, and in all versions of Node.js that are supported.
  return (text as string & { isWellFormed(): boolean }).isWellFormed();
}

/** A copy of a value. Plain data stays of this realm, which `structuredClone` does not promise under Jest. */
export function copyOf(value: unknown): unknown {
  return isJsonValue(value) ? copyOfData(value) : structuredClone(value);
}

function copyOfData(data: unknown): unknown {
  if (typeof data !== "object" || data === null) return data;
  if (Array.isArray(data)) return data.map(copyOfData);
  return Object.fromEntries(Object.entries(data).map(([key, value]) => [key, copyOfData(value)]));
}

/** Whether a value counts something: a whole number from 0 on that a double holds exactly. */
export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/**
 * Why a state would not come back from JSON as it is, with the path to it; `undefined` if it would. An object in two places of a state
 * that handlers change would come back as two objects.
 */
export function cacheProblem(state: unknown, kind: "frozen" | "changing"): string | undefined {
  const seen = kind === "changing" ? new Set() : undefined;
  try {
    return jsonProblem(state, "state", 0, "exact") ?? shapeProblem(state, "state", seen);
  } catch (error) {
    return `the state cannot be read: ${String(error)}`;
  }
}

/** Looks for what JSON text does not show: getters, hidden properties, missing prototypes, and objects in two places. */
function shapeProblem(value: unknown, path: string, seen: Set<unknown> | undefined): string | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  if (seen?.has(value) === true) return `${path} is an object that the state has in another place, too`;
  seen?.add(value);
  if (Object.getPrototypeOf(value) === null) return `${path} is an object without a prototype`;
  if (Array.isArray(value)) {
    for (const [index, item] of value.entries()) {
      const problem = shapeProblem(item, `${path}[${index}]`, seen);
      if (problem !== undefined) return problem;
    }
    return undefined;
  }
  for (const key of Object.getOwnPropertyNames(value)) {
    const { get, enumerable, value: item } = Object.getOwnPropertyDescriptor(value, key) ?? {};
    if (get !== undefined || enumerable === false) return `${path}.${key} is a getter or hidden`;
    if (typeof item !== "object") continue;
    const problem = shapeProblem(item, `${path}.${key}`, seen);
    if (problem !== undefined) return problem;
  }
  return undefined;
}
