/** The expected state: a value, or a function that throws if the state is wrong. */
export type Expected<State> = State | ((state: State) => void);

/** Throws unless two values are the same as JSON, whatever the order of their keys; `what` names the value in the error. */
export function expectSame(what: string, actual: unknown, expected: unknown): void {
  const [is, should] = [JSON.stringify(sorted(actual), undefined, 2), JSON.stringify(sorted(expected), undefined, 2)];
  if (is !== should) throw new Error(`${what}:\nexpected ${should}\nbut got  ${is}`);
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, item]) => [key, sorted(item)]),
  );
}

/** Throws unless the state is the expected one. */
export function expectState<State>(state: State, expected: Expected<State>): void {
  if (typeof expected === "function") (expected as (state: State) => void)(state);
  else expectSame("state", state, expected);
}
