/**
 * What a function may do with its arguments, as far as its source tells. Used only to leave out work: in doubt the
 * answer is the one with which nothing is left out.
 */

/** Whether a function may look at its third argument: it declares one, also with a default, or takes them all. */
export function takesThird(fn: (...args: never[]) => unknown): boolean {
  const source = sourceOf(fn);
  if (fn.length > 2 || /\barguments\b/.test(source)) return true;
  const open = source.indexOf("(");
  const arrow = source.indexOf("=>");
  if (open < 0 || (arrow >= 0 && arrow < open)) return false;
  // Only what stands between parameters counts: commas and spreads inside patterns and defaults do not.
  let depth = 0;
  let commas = 0;
  for (let i = open; i < source.length; i++) {
    const character = source[i] ?? "";
    if ("([{".includes(character)) depth++;
    else if (")]}".includes(character) && --depth === 0) break;
    else if (depth === 1 && character === ",") commas++;
    else if (depth === 1 && source.startsWith("...", i)) return true;
  }
  return commas >= 2;
}

/** Whether a function of two parameters certainly looks at no other properties of its second argument than these. */
export function usesOnly(fn: (...args: never[]) => unknown, properties: ReadonlySet<string>): boolean {
  const source = sourceOf(fn);
  // Ways to an argument without its name; and names written otherwise than they are.
  if (/\b(?:arguments|eval|with)\b|\\u|\[native code\]/.test(source)) return false;
  // A lone parameter without parentheses, or a list in which no expression stands.
  if (/^(?:async\s+)?[\w$]+\s*=>/.test(source)) return true;
  const list = /^[\w$\s]*\(([\w$\s,{}:]*)\)/.exec(source);
  if (list === null) return false;
  const [, second, ...more] = splitAtCommas(list[1] ?? "");
  if (more.some((parameter) => parameter !== "")) return false;
  if (second === undefined || second === "") return true;
  if (second.startsWith("{")) {
    const keys = splitAtCommas(second.slice(1, -1)).map((part) => part.split(":", 1)[0]?.trim() ?? "");
    return second.endsWith("}") && keys.every((key) => key === "" || properties.has(key));
  }
  if (!/^[A-Za-z_$][\w$]*$/.test(second)) return false;
  const name = second.replaceAll("$", "\\$");
  const body = source.slice(list[0].length);
  for (const { index } of body.matchAll(new RegExp(`(?<![\\w$])${name}(?![\\w$])`, "g"))) {
    const property = /^\s*\??\.\s*([\w$]+)/.exec(body.slice(index + second.length))?.[1];
    if (property === undefined || !properties.has(property)) return false;
  }
  return true;
}

/** The true source: a function's own `toString` may say anything. */
function sourceOf(fn: (...args: never[]) => unknown): string {
  return Function.prototype.toString.call(fn);
}

/** The parts between the commas that stand in no braces, trimmed. */
function splitAtCommas(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === "{") depth++;
    else if (text[i] === "}") depth--;
    else if (text[i] === "," && depth === 0) {
      parts.push(text.slice(start, i).trim());
      start = i + 1;
    }
  }
  return [...parts, text.slice(start).trim()];
}
