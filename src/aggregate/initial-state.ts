import { EventfoldError } from "../errors.ts";
import { copyOf } from "../json.ts";
import { isArrayPrototype, isMapOrSet, isObjectPrototype, isPromise, ignoreFailure } from "../realm.ts";

/** Objects that a copy has with all that they hold, besides plain ones, arrays, maps and sets. */
const COPIED =
  /^\[object (?:Date|RegExp|ArrayBuffer|SharedArrayBuffer|DataView|Error|Boolean|Number|String|BigInt|\w+Array)\]$/;

/** A fresh initial state, from a value or a function that makes it. Throws `INVALID_DEFINITION` for a promise. */
export function initialOf(initial: unknown): unknown {
  const state = typeof initial === "function" ? (initial as () => unknown)() : copyOf(initial);
  if (!isPromise(state)) return state;
  ignoreFailure(state);
  throw new EventfoldError("INVALID_DEFINITION", "expected an initial state, found a promise; make it at once");
}

/** Throws `INVALID_DEFINITION` for an initial value of which a copy would be something else. */
export function checkInitial(definition: string, initial: unknown): void {
  if (typeof initial === "function") return;
  const problem = copyProblem(initial);
  if (problem !== undefined)
    throw new EventfoldError(
      "INVALID_DEFINITION",
      `${definition}: the initial state ${problem}, which cannot be copied; give a function that makes the state`,
    );
}

function copyProblem(initial: unknown): string | undefined {
  const seen = new Set<unknown>();
  const waiting = [initial];
  while (waiting.length > 0) {
    const value = waiting.pop();
    if (typeof value === "function" || typeof value === "symbol") return `has a ${typeof value}`;
    if (typeof value !== "object" || value === null || seen.has(value)) continue;
    seen.add(value);
    const tag = Object.prototype.toString.call(value);
    if (isMapOrSet(value)) for (const item of value) waiting.push(item);
    else if (!COPIED.test(tag)) {
      const prototype: unknown = Object.getPrototypeOf(value);
      if (!isObjectPrototype(prototype) && !(Array.isArray(value) && isArrayPrototype(prototype)))
        return prototype === null ? "has an object without a prototype" : "has an instance of a class";
      for (const { value: item, get } of Object.values(Object.getOwnPropertyDescriptors(value))) {
        if (get !== undefined) return "has a getter";
        waiting.push(item);
      }
    }
  }
  try {
    copyOf(initial);
    return undefined;
  } catch {
    return "is nested too deeply";
  }
}
