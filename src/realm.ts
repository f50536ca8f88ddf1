/**
 * What kind of value something is, also when it comes from another realm: under Jest and in Vitest's vm pools the library and the
 * runtime have different `Error`, `Promise` and `Object`, so `instanceof` says no where it should say yes.
 */

const { toString } = Object.prototype;

function tagOf(value: unknown): string {
  return toString.call(value);
}

export function isError(value: unknown): value is Error {
  // oxlint-disable-next-line unicorn/no-instanceof-builtins -- the quick way where it works; a class of errors may have a tag of its own
  if (value instanceof Error) return true;
  const tag = tagOf(value);
  return tag === "[object Error]" || tag === "[object DOMException]";
}

/** The message of an error, or the text of whatever else was thrown. */
export function messageOf(thrown: unknown): string {
  return isError(thrown) ? thrown.message : String(thrown);
}

/** Whether `await` would wait for it. It may have no method but `then`. */
export function isPromise(value: unknown): value is PromiseLike<unknown> {
  return (
    ((typeof value === "object" && value !== null) || typeof value === "function") &&
    typeof (value as { readonly then?: unknown }).then === "function"
  );
}

/** Lets a promise that nothing waits for fail without ending the program. */
export function ignoreFailure(promise: PromiseLike<unknown>): void {
  Promise.resolve(promise).catch(() => {});
}

/** Calls a function of the user whose failure, at once or later, must not stop what calls it. */
export function callSafely(call: () => unknown): void {
  try {
    const result = call();
    if (isPromise(result)) ignoreFailure(result);
  } catch {
    // It is the caller's promise that this changes nothing.
  }
}

export function isDate(value: unknown): value is Date {
  return tagOf(value) === "[object Date]";
}

export function isMapOrSet(value: unknown): value is Map<unknown, unknown> | Set<unknown> {
  const tag = tagOf(value);
  return tag === "[object Map]" || tag === "[object Set]";
}

/** Whether a prototype is the `Object.prototype` of some realm. */
export function isObjectPrototype(prototype: unknown): boolean {
  if (prototype === Object.prototype) return true;
  return (
    typeof prototype === "object" &&
    prototype !== null &&
    Object.getPrototypeOf(prototype) === null &&
    Object.hasOwn(prototype, "isPrototypeOf")
  );
}

/** Whether a prototype is the `Array.prototype` of some realm: it is an array itself, unlike that of a class. */
export function isArrayPrototype(prototype: unknown): boolean {
  return (
    prototype === Array.prototype || (Array.isArray(prototype) && isObjectPrototype(Object.getPrototypeOf(prototype)))
  );
}
