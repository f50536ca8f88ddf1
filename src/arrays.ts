/**
 * Appends items to an array. Not `target.push(...items)`: a call takes no more than some 100,000 arguments, and throws a
 * `RangeError` beyond.
 */
export function appendAll<T>(target: T[], items: Iterable<T>): void {
  for (const item of items) target.push(item);
}

/** The largest of `floor` and some numbers. Not `Math.max(...numbers)`, for the same reason. */
export function largest(numbers: Iterable<number>, floor: number): number {
  let found = floor;
  for (const number of numbers) if (number > found) found = number;
  return found;
}
