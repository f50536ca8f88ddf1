import { textOf } from "../fingerprint.ts";
import { EventfoldError } from "../errors.ts";
import { isArrayPrototype, isObjectPrototype } from "../realm.ts";

/** A part of a value that is different in another one. */
export interface ValueChange {
  /** Keys and indexes from the whole to the part, joined by dots; empty for the whole. */
  readonly path: string;
  /** `undefined` if the part was not there. */
  readonly before: unknown;
  /** `undefined` if the part is not there any more. */
  readonly after: unknown;
}

/** The smallest parts in which two values differ, in the order of their paths. Equal parts of one value are not looked into. */
export function changesOf(before: unknown, after: unknown): ValueChange[] {
  const changes: ValueChange[] = [];
  collect(before, after, "", changes);
  return changes;
}

/** Whether two values are equal. Maps and sets are compared by their contents. */
export function isSameValue(before: unknown, after: unknown): boolean {
  return Object.is(before, after) || changesOf(before, after).length === 0;
}

function collect(before: unknown, after: unknown, path: string, changes: ValueChange[]): void {
  if (Object.is(before, after)) return;
  if (!areAlike(before, after)) {
    if (typeof before !== typeof after || typeof before !== "object" || textOf(before) !== textOf(after))
      changes.push({ path, before, after });
    return;
  }
  const [left, right] = [before, after] as Record<string, unknown>[] as [
    Record<string, unknown>,
    Record<string, unknown>,
  ];
  const keys = new Set([...Object.keys(left), ...Object.keys(right)]);
  for (const key of [...keys].sort((a, b) => (isIndex(a) && isIndex(b) ? Number(a) - Number(b) : a < b ? -1 : 1)))
    collect(own(left, key), own(right, key), path === "" ? key : `${path}.${key}`, changes);
}

function isIndex(key: string): boolean {
  return /^\d+$/.test(key);
}

/** Two arrays, or two plain objects. */
function areAlike(before: unknown, after: unknown): boolean {
  if (typeof before !== "object" || typeof after !== "object" || before === null || after === null) return false;
  const [left, right]: unknown[] = [before, after].map((value) => Object.getPrototypeOf(value) as unknown);
  const isPlain = (prototype: unknown): boolean => prototype === null || isObjectPrototype(prototype);
  if (Array.isArray(before) || Array.isArray(after))
    return Array.isArray(before) && Array.isArray(after) && isArrayPrototype(left) && isArrayPrototype(right);
  return isPlain(left) && isPlain(right);
}

function own(value: Readonly<Record<string, unknown>>, key: string): unknown {
  return Object.hasOwn(value, key) ? value[key] : undefined;
}

/** A path as `"lines.0.amount"`, or as a list of keys if a key has a dot. */
export type ValuePath = string | readonly (string | number)[];

/** The part of a value at a path; `undefined` if the value has no such part. Throws `INVALID_ARGUMENT` unless `path` is a path. */
export function valueAt(value: unknown, path: ValuePath): unknown {
  const keys = typeof path === "string" ? path.split(".").filter((key) => key !== "") : path;
  if (!Array.isArray(keys) || keys.some((key) => typeof key !== "string" && typeof key !== "number"))
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `expected a path as "lines.0.amount", or a list of keys, found ${JSON.stringify(path)}`,
    );
  let part = value;
  for (const key of keys as readonly (string | number)[])
    part = typeof part === "object" && part !== null ? own(part as Record<string, unknown>, String(key)) : undefined;
  return part;
}
