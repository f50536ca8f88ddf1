/** Freezes a value deeply. If a part is frozen already, everything below it must be, too. */
export function freeze<T>(value: T): T {
  if (!isFreezable(value)) return value;
  Object.freeze(value);
  // No recursion: a state may be nested deeper than the stack is.
  const waiting: object[] = [value];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    for (const key of Object.keys(next)) {
      const item = (next as Record<string, unknown>)[key];
      if (isFreezable(item)) waiting.push(Object.freeze(item));
    }
  }
  return value;
}

function isFreezable(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Object.isFrozen(value) && !ArrayBuffer.isView(value);
}
