import { isDate, isMapOrSet } from "../../realm.ts";

/** The expected state: a value, or a function that throws if the state is wrong. */
export type Expected<State> = State | ((state: State) => void);

/** Throws unless two values are the same, whatever the order of their keys; `what` names the value in the error. */
export function expectSame(what: string, actual: unknown, expected: unknown): void {
  const [is, should] = [shown(actual), shown(expected)];
  if (is !== should) throw new Error(`${what}:\nexpected ${should}\nbut got  ${is}`);
}

/** The text of a value. Values that JSON would make equal, such as `NaN` and `null`, or two maps, differ in it. */
function shown(value: unknown): string {
  return JSON.stringify(comparable(value, []), undefined, 2) ?? "undefined";
}

function comparable(value: unknown, parents: readonly object[]): unknown {
  switch (typeof value) {
    case "string":
      return value.startsWith("<") ? `<string ${value}>` : value;
    case "number":
      return Number.isFinite(value) && !Object.is(value, -0) ? value : `<${Object.is(value, -0) ? "-0" : value}>`;
    case "bigint":
      return `<${value}n>`;
    case "symbol":
    case "function":
      return `<${String(value)}>`;
    case "object":
      return value === null ? null : comparableObject(value, parents);
    default:
      return value;
  }
}

function comparableObject(value: object, parents: readonly object[]): unknown {
  if (parents.includes(value)) return `<contains itself, ${parents.length - parents.indexOf(value)} levels up>`;
  const below = [...parents, value];
  if (isDate(value)) return `<Date ${value.getTime()}>`;
  if (isMapOrSet(value)) return { [`<${value.constructor.name}>`]: [...value].map((item) => comparable(item, below)) };
  if (Array.isArray(value))
    return Array.from(value, (item: unknown) => (item === undefined ? "<undefined>" : comparable(item, below)));
  const entries = Object.entries(value)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, item]): [string, unknown] => [key, comparable(item, below)]);
  const name = Object.prototype.toString.call(value).slice(8, -1);
  return Object.fromEntries(name === "Object" ? entries : [["<type>", name], ...entries]);
}

/** Throws unless the state is the expected one. */
export function expectState<State>(state: State, expected: Expected<State>): void {
  if (typeof expected === "function") (expected as (state: State) => void)(state);
  else expectSame("state", state, expected);
}
