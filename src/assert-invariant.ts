/** An internal rule does not hold: a defect of this library, never of its caller or of a file. */
export class InvariantError extends Error {
  override readonly name = "InvariantError";
}

/** Throws an `InvariantError` unless `condition` holds. `invariant` says what must always be so. */
export function assertInvariant(condition: boolean, invariant: string): asserts condition {
  if (!condition) throw new InvariantError(`internal error, please report it: ${invariant}`);
}

/** The value, which must be there; throws an `InvariantError` otherwise. */
export function present<T>(value: T | undefined, invariant: string): T {
  assertInvariant(value !== undefined, invariant);
  return value as T;
}
