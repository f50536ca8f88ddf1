/** All items of an asynchronous iterable. */
export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const collected: T[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}

/** The positions of the first `count` events of an iterable, which it then ends. `positions` shows them as they come. */
export async function firstPositions(
  count: number,
  events: AsyncIterable<{ readonly position: number }>,
  positions: number[] = [],
): Promise<number[]> {
  for await (const { position } of events) if (positions.push(position) === count) break;
  return positions;
}
