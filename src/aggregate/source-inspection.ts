/**
 * What a function may do with its arguments, as far as its source tells with certainty. Used only to leave out work: in doubt the
 * answer is the one with which nothing is left out.
 */
import { tokensOf } from "./source-tokens.ts";

type AnyFunction = (...args: never[]) => unknown;

const NAME = /^[A-Za-z_$][\w$]*$/;
/** Ways to an argument without its name. */
const HIDDEN_WAYS: ReadonlySet<string> = new Set(["arguments", "eval", "with", "debugger"]);

/** Whether a function may look at its third argument: it declares one, also with a default, or takes them all. */
export function takesThird(fn: AnyFunction): boolean {
  if (fn.length > 2) return true;
  const parsed = parse(fn);
  return parsed === undefined || parsed.parameters.length > 2;
}

/** Whether a function of two parameters certainly looks at no other properties of its second argument than these. */
export function usesOnly(fn: AnyFunction, properties: ReadonlySet<string>): boolean {
  const parsed = parse(fn);
  if (parsed === undefined || parsed.parameters.length > 2) return false;
  const { parameters, body } = parsed;
  const second = parameters[1];
  if (second === undefined) return true;
  const [name = ""] = second;
  if (second.length > 1) return patternKeys(second)?.every((key) => properties.has(key)) === true;
  return body.every((token, at) => {
    if (token !== name) return true;
    const dot = body[at + 1];
    return (dot === "." || dot === "?.") && properties.has(body[at + 2] ?? "");
  });
}

interface ParsedFunction {
  /** The tokens of each parameter: a name, or a pattern of names without defaults. */
  readonly parameters: readonly (readonly string[])[];
  readonly body: readonly string[];
}

/** A function with parameters and a body that are fully understood. */
function parse(fn: AnyFunction): ParsedFunction | undefined {
  const tokens = tokensOf(Function.prototype.toString.call(fn));
  if (tokens === undefined || tokens.some((token) => HIDDEN_WAYS.has(token))) return undefined;
  let at = 0;
  if (tokens[at] === "async" && tokens[at + 1] !== "=>") at++;
  if (tokens[at + 1] === "=>" && NAME.test(tokens[at] ?? ""))
    return { parameters: [[tokens[at] ?? ""]], body: tokens.slice(at + 2) };
  if (tokens[at] === "function") at++;
  const isNamed = NAME.test(tokens[at] ?? "");
  if (isNamed) at++;
  if (tokens[at] !== "(") return undefined;
  const close = tokens.indexOf(")", at);
  const parameters = close < 0 ? undefined : parametersOf(tokens.slice(at + 1, close));
  if (parameters === undefined) return undefined;
  at = close + 1;
  if (tokens[at] === "=>") at++;
  // The source of a function of the machine is not shown: `{ [native code] }`.
  else if (tokens[at] !== "{" || tokens[at + 1] === "[") return undefined;
  return { parameters, body: tokens.slice(at) };
}

/** Splits a list in which no expression stands; `undefined` for any other. */
function parametersOf(tokens: readonly string[]): string[][] | undefined {
  const parameters: string[][] = [];
  let current: string[] = [];
  let depth = 0;
  for (const token of tokens) {
    if (token === "{") depth++;
    else if (token === "}") depth--;
    else if (token === "," && depth === 0) {
      parameters.push(current);
      current = [];
      continue;
    } else if (!NAME.test(token) && token !== "," && token !== ":") return undefined;
    current.push(token);
  }
  if (current.length > 0) parameters.push(current);
  const isUnderstood = ([first = "", ...more]: string[]): boolean =>
    more.length === 0 ? NAME.test(first) : first === "{" && more.at(-1) === "}";
  return parameters.every(isUnderstood) ? parameters : undefined;
}

/** The keys of a pattern `{ key, key: name, key: { … } }`. */
function patternKeys(pattern: readonly string[]): string[] | undefined {
  const keys: string[] = [];
  let depth = 0;
  for (const [at, token] of pattern.entries()) {
    if (token === "{") depth++;
    else if (token === "}") depth--;
    else if (depth === 1 && NAME.test(token) && pattern[at - 1] !== ":") keys.push(token);
  }
  return depth === 0 ? keys : undefined;
}
