/** Whether two types are exactly the same, modifiers included. */
export type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

/** Fails to compile unless its type is `true`. */
export function yes<T extends true>(): T | undefined {
  return undefined;
}

/** Fails to compile unless its type is `false`. */
export function no<T extends false>(): T | undefined {
  return undefined;
}
