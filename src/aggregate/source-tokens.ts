const IDENTIFIER = /[A-Za-z_$][\w$]*/y;
const NUMBER = /(?:0[xXbBoO][\da-fA-F_]+|\d[\d_]*(?:\.[\d_]*)?(?:[eE][+-]?\d+)?)n?/y;
const STRING = /"(?:[^"\\\r\n]|\\[^\r\n])*"|'(?:[^'\\\r\n]|\\[^\r\n])*'/y;
const COMMENT = /\/\/[^\r\n\u2028\u2029]*|\/\*[\s\S]*?\*\//y;
const SPACE = /[ \t\r\n]+/y;
const PUNCTUATOR = /\.\.\.|\?\.(?!\d)|=>|[{}()[\];,<>+\-*%&|^!~?:=.@]/y;
const TEMPLATE_PART = /(?:[^`\\$]|\\[^]|\$(?!\{))*/y;
/** After one of these an expression begins, and a slash begins a regular expression. */
const BEFORE_EXPRESSION =
  /^(?:return|typeof|case|do|else|in|of|instanceof|new|delete|void|throw|await|yield|default|extends)$/;

/** A string or number; their values do not matter. */
export const LITERAL = "0";

/**
 * The tokens of a function's source, without comments; strings and numbers as `LITERAL`, a template as the tokens of its expressions in
 * parentheses. `undefined` for a source that is not understood with certainty, e.g. one with a regular expression or with a letter
 * outside ASCII in its code.
 */
export function tokensOf(source: string): string[] | undefined {
  // Ways to begin a comment that only some kinds of scripts have.
  if (source.includes("<!--") || source.includes("-->")) return undefined;
  const tokens: string[] = [];
  /** For each template under way: how many braces are open in its expression. */
  const templates: number[] = [];
  let at = 0;
  const next = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    const text = pattern.exec(source)?.[0];
    if (text !== undefined) at += text.length;
    return text;
  };
  /** Reads a part of a template up to its end or its next expression. Returns whether it is closed in some way. */
  const templatePart = (): boolean => {
    next(TEMPLATE_PART);
    if (source[at] === "`") {
      at++;
      tokens.push(")");
      return true;
    }
    if (!source.startsWith("${", at)) return false;
    at += 2;
    templates.push(0);
    return true;
  };
  while (at < source.length) {
    if (next(SPACE) !== undefined || next(COMMENT) !== undefined) continue;
    const word = next(IDENTIFIER);
    if (word !== undefined) {
      tokens.push(word);
      continue;
    }
    if (next(NUMBER) !== undefined || next(STRING) !== undefined) {
      tokens.push(LITERAL);
      continue;
    }
    const character = source[at];
    if (character === "`") {
      at++;
      tokens.push("(");
      if (!templatePart()) return undefined;
      continue;
    }
    if (character === "/") {
      const before = tokens.at(-1);
      // After a closing bracket or parenthesis it may be either.
      if (before === undefined || !/^[\w$]+$/.test(before) || BEFORE_EXPRESSION.test(before)) return undefined;
      at++;
      tokens.push("/");
      continue;
    }
    const mark = next(PUNCTUATOR);
    if (mark === undefined) return undefined;
    const open = templates.length - 1;
    if (mark === "{" && open >= 0) templates[open] = (templates[open] ?? 0) + 1;
    if (mark === "}" && open >= 0) {
      if (templates[open] === 0) {
        templates.pop();
        // Keeps the expressions of one template apart.
        tokens.push(",");
        if (!templatePart()) return undefined;
        continue;
      }
      templates[open] = (templates[open] ?? 0) - 1;
    }
    tokens.push(mark);
  }
  return templates.length === 0 ? tokens : undefined;
}
