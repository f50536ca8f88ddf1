import { ignoreFailure, isPromise } from "../realm.ts";

interface Schema {
  readonly "~standard": { readonly validate: (value: unknown) => unknown };
}

/** Values that schemas see when they are defined: some library validates each of them far enough to show that it is asynchronous. */
const PROBES: readonly unknown[] = [undefined, null, {}, [], "", 0, true];

/**
 * Whether a schema is asynchronous, as far as that can be found without a valid value: it says so (valibot), it has an asynchronous
 * function inside (zod), or it answers a probe with a promise. One that is not found fails at its first value.
 */
export function isAsynchronous(schema: Schema): boolean {
  return (schema as { readonly async?: unknown }).async === true || hasAsyncFunction(schema) || answersLater(schema);
}

function answersLater({ "~standard": standard }: Schema): boolean {
  return PROBES.some((probe) => {
    try {
      const result = standard.validate(probe);
      if (!isPromise(result)) return false;
      ignoreFailure(result);
      return true;
    } catch {
      // A validator that cannot stand a probe says nothing.
      return false;
    }
  });
}

/** Looks through the definition of a zod schema. Its own methods are left out: some of them are always asynchronous. */
function hasAsyncFunction(schema: unknown): boolean {
  const seen = new Set<unknown>();
  const waiting: unknown[] = [definitionOf(schema)];
  while (waiting.length > 0) {
    const value = waiting.pop();
    if (typeof value === "function" && Object.prototype.toString.call(value) === "[object AsyncFunction]") return true;
    if (typeof value !== "object" || value === null || seen.has(value)) continue;
    seen.add(value);
    for (const { value: item } of Object.values(Object.getOwnPropertyDescriptors(value)))
      waiting.push(definitionOf(item) ?? item);
    const shape = (value as { readonly shape?: unknown }).shape;
    if (typeof shape === "object") waiting.push(shape);
  }
  return false;
}

function definitionOf(schema: unknown): unknown {
  if ((typeof schema !== "object" && typeof schema !== "function") || schema === null) return undefined;
  return (schema as { readonly _zod?: { readonly def?: unknown } })._zod?.def;
}
