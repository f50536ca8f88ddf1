import { type ErrorCode, isEventfoldError } from "../../errors.ts";
import { startTimer } from "../../real-timers.ts";

/** How long a rule waits for an answer that may take a while, in milliseconds. */
export const PATIENCE_MS = 5000;

/** Throws unless both values are the same as JSON, whatever the order of keys; `what` names the value in the error. */
export function equal(actual: unknown, expected: unknown, what: string): void {
  const [a, e] = [show(actual), show(expected)];
  if (a === e) return;
  // Long values: shown from shortly before their first difference.
  let from = 0;
  while (a[from] === e[from]) from++;
  from = Math.max(0, from - 40);
  throw new Error(`${what}: expected ${cut(e, from)}, got ${cut(a, from)}`);
}

/** Throws unless `run` fails with an error of this code. */
export async function refused(code: ErrorCode, what: string, run: () => Promise<unknown>): Promise<void> {
  let outcome: unknown;
  try {
    outcome = await run();
  } catch (error) {
    if (isEventfoldError(error, code)) return;
    throw error;
  }
  throw new Error(`${what}: expected an error with code ${code}, got ${show(outcome)}`);
}

/** Gives the promise's outcome, and rejects if that takes longer than `PATIENCE_MS`. */
export async function within<T>(promise: Promise<T>): Promise<T> {
  let cancel = (): void => {};
  const late = new Promise<never>((_, reject) => {
    cancel = startTimer(() => reject(new Error(`no answer within ${PATIENCE_MS} ms`)), PATIENCE_MS, "foreground");
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    cancel();
  }
}

/** A value as text, the same for equal values: keys are sorted, and a key with `undefined` is shown. */
export function show(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(show).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const object = value as Readonly<Record<string, unknown>>;
    const entries = Object.keys(object).sort();
    return `{${entries.map((key) => `${JSON.stringify(key)}:${show(object[key])}`).join(",")}}`;
  }
  return Object.is(value, -0) ? "-0" : (JSON.stringify(value) ?? String(value));
}

function cut(text: string, from: number): string {
  return `${from > 0 ? "…" : ""}${text.slice(from, from + 400)}${from + 400 < text.length ? "…" : ""}`;
}
