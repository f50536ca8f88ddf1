const PREFIX = "eventfold-es/";

/**
 * A map that all copies of this library in a realm share: a program may load it twice, by `import` and by `require`, and give the store
 * of one copy what it defined with the other.
 */
export function sharedWeakMap<V>(name: string): WeakMap<object, V> {
  const key = Symbol.for(PREFIX + name);
  const place = globalThis as unknown as Record<symbol, WeakMap<object, V> | undefined>;
  return (place[key] ??= new WeakMap());
}
