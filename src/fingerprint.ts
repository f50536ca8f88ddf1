import { EventfoldError } from "./errors.ts";
import { isMapOrSet } from "./realm.ts";

/** What a definition calls its code. A change of it makes the caches stale that the code before it made. */
export type CodeVersion = string | number;

/** A function of a definition, with its place there. */
export type NamedFunction = readonly [place: string, fn: unknown];

/** Two 32-bit FNV-1a hashes with different seeds: tells versions of code apart, nothing more. */
export function fingerprint(text: string): string {
  let a = 0x811c9dc5;
  let b = 0x9747b28c;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    a = Math.imul(a ^ unit, 0x01000193);
    b = Math.imul(b ^ unit, 0x85ebca6b) ^ (b >>> 13);
  }
  return [a, b].map((n) => (n >>> 0).toString(16).padStart(8, "0")).join("");
}

/**
 * Identifies the code that folds states. Without a version, the text of the functions counts. With one, only their places count,
 * so that two builds of one program (minified or not, compiled or not) have the same fingerprint.
 */
export function codeFingerprint(
  version: CodeVersion | undefined,
  initial: unknown,
  functions: readonly NamedFunction[],
): string {
  const code = functions.map(([place, fn]) => (version === undefined ? [place, sourceOf(fn)] : place));
  return fingerprint(textOf([version ?? null, initial, code]));
}

/** Throws `INVALID_DEFINITION` for something that cannot be the version of a definition's code. */
export function checkCodeVersion(definition: string, version: unknown): void {
  if (version === undefined || (typeof version === "string" && version !== "") || Number.isFinite(version)) return;
  throw new EventfoldError(
    "INVALID_DEFINITION",
    `${definition}: expected version to be a number or a string that is not empty, found ${typeof version === "number" ? version : version === "" ? '""' : typeof version}`,
  );
}

/** The true source: a function's own `toString` may say anything. */
function sourceOf(fn: unknown): string {
  return typeof fn === "function" ? Function.prototype.toString.call(fn) : String(fn);
}

/** The text of a value for a fingerprint: its JSON where it is JSON, and something for whatever else a state may hold. */
export function textOf(value: unknown): string {
  try {
    const text = JSON.stringify(value, (_, item: unknown) =>
      typeof item === "bigint" ? `${item}n` : isMapOrSet(item) ? [item.constructor.name, ...item] : item,
    ) as string | undefined;
    return text ?? String(value);
  } catch {
    // It contains itself, or is nested too deeply.
    return Object.prototype.toString.call(value);
  }
}
