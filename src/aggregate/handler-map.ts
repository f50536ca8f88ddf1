import { EventfoldError } from "../errors.ts";
import { isObjectPrototype } from "../realm.ts";

/**
 * Checks functions that a definition gives by the names of messages. Throws `INVALID_DEFINITION` with all names that are wrong: not
 * declared, without a function, asynchronous, or missing when a function is required for `"each"` declared name.
 */
export function checkHandlerMap(
  where: string,
  declared: readonly string[],
  given: unknown,
  required: "each" | "any",
): void {
  const problems = problemsOf(declared, given, required);
  if (problems.length > 0)
    throw new EventfoldError(
      "INVALID_DEFINITION",
      `${where}: ${problems.join("; ")}; expected an object with a function for ${required === "each" ? "each" : "some"} of ${declared.join(", ") || "no name"}`,
    );
}

function problemsOf(declared: readonly string[], given: unknown, required: "each" | "any"): string[] {
  if (typeof given !== "object" || given === null)
    return [`found ${given === null || given === undefined ? String(given) : `a ${typeof given}`}`];
  const prototype: unknown = Object.getPrototypeOf(given);
  if (Array.isArray(given) || (prototype !== null && !isObjectPrototype(prototype))) {
    const name = (given.constructor as { readonly name?: string } | undefined)?.name;
    return [`found an instance of ${name || "a class"}, whose methods are not its own properties`];
  }
  const problems: string[] = [];
  const functions = given as Readonly<Record<string, unknown>>;
  for (const name of Reflect.ownKeys(given)) {
    if (typeof name === "symbol" || !declared.includes(name)) problems.push(`${String(name)} is not declared`);
    else if (typeof functions[name] !== "function")
      problems.push(`${name} is ${functions[name] === undefined ? "undefined" : "no function"}`);
    else {
      const problem = kindProblem(functions[name]);
      if (problem !== undefined) problems.push(`${name} is ${problem}`);
    }
  }
  if (required === "each")
    for (const name of declared) if (!Object.hasOwn(functions, name)) problems.push(`${name} has no function`);
  return problems;
}

/** Why a function cannot give its result at once; `undefined` if it can, as far as its kind tells. */
function kindProblem(fn: unknown): string | undefined {
  switch (Object.prototype.toString.call(fn)) {
    case "[object AsyncFunction]":
      return "asynchronous, but its result is needed at once";
    case "[object GeneratorFunction]":
    case "[object AsyncGeneratorFunction]":
      return "a generator";
    default:
      return /^class\b/.test(Function.prototype.toString.call(fn)) ? "a class" : undefined;
  }
}

export function functionOf<F>(functions: Readonly<Record<string, F>>, name: string): F {
  const found = functions[name];
  if (found === undefined) throw new EventfoldError("INVALID_DEFINITION", `no function for ${name}`);
  return found;
}
