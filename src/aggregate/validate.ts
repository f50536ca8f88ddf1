import { EventfoldError, InvalidPayloadError, type PayloadIssue } from "../errors.ts";
import { ignoreFailure, isPromise } from "../realm.ts";
import type { Payload } from "./payload.ts";

/** What a schema makes of a value, or what is wrong with it. Throws `INVALID_DEFINITION` for an asynchronous schema. */
export function validated(
  schema: Payload,
  value: unknown,
  what: string,
): { readonly value: unknown; readonly issues?: undefined } | { readonly issues: readonly PayloadIssue[] } {
  const result = schema["~standard"].validate(value);
  if (isPromise(result)) {
    ignoreFailure(result);
    throw new EventfoldError(
      "INVALID_DEFINITION",
      `${what} has an asynchronous schema; expected one that validates at once`,
    );
  }
  if (result.issues === undefined) return result;
  const issues = result.issues.map(({ message, path = [] }) => ({ message, path: Array.from(path, keyOf) }));
  return { issues: issues.sort((a, b) => comparePlaces(a.path, b.path, value)) };
}

/** Orders paths by their places in a value, so that every library gives the same order. Paths that the value lacks come last. */
function comparePlaces(a: readonly PropertyKey[], b: readonly PropertyKey[], value: unknown): number {
  let inner = value;
  for (let depth = 0; depth < Math.min(a.length, b.length); depth++) {
    if (typeof inner !== "object" || inner === null) return 0;
    const [left, right] = [a[depth], b[depth]] as [PropertyKey, PropertyKey];
    if (left !== right) return placeIn(inner, left) - placeIn(inner, right) || 0;
    inner = (inner as Record<PropertyKey, unknown>)[left];
  }
  return 0;
}

function placeIn(value: object, key: PropertyKey): number {
  const place = Object.keys(value).indexOf(String(key));
  return place < 0 ? Number.MAX_SAFE_INTEGER : place;
}

/** What a schema makes of a value. Throws `INVALID_PAYLOAD` with all issues if it refuses the value. */
export function parsed(schema: Payload, value: unknown, what: string): unknown {
  const result = validated(schema, value, what);
  if (result.issues !== undefined)
    throw new InvalidPayloadError(`${what}: ${shownIssues(result.issues)}`, result.issues);
  return result.value;
}

export function shownIssues(issues: readonly PayloadIssue[]): string {
  return issues
    .map(({ message, path }) => (path.length === 0 ? message : `${path.map(String).join(".")}: ${message}`))
    .join("; ");
}

/** A step of a path as Standard Schema allows it: a key, or an object with one. */
function keyOf(part: unknown): PropertyKey {
  return (typeof part === "object" && part !== null && "key" in part ? part.key : part) as PropertyKey;
}
