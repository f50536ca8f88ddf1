import { sameJson } from "../json.ts";
import type { LockedShape } from "./event-lock.ts";

interface Field {
  readonly type: string;
  readonly isOptional: boolean;
}

/** What changed between two shapes, one line for each field; nothing if they are the same, or if one is unknown. */
export function shapeDifference(before: LockedShape, after: LockedShape): string[] {
  if (before === null || after === null || sameJson(before, after)) return [];
  const [old, present] = [fieldsOf(before), fieldsOf(after)];
  const lines: string[] = [];
  for (const [path, { type, isOptional }] of old) {
    const field = present.get(path);
    const name = path === "" ? "the payload" : path;
    if (field === undefined) lines.push(`${name} was removed (it was ${type})`);
    else {
      if (field.type !== type) lines.push(`${name} was ${type} and is ${field.type}`);
      if (field.isOptional !== isOptional)
        lines.push(`${name} was ${isOptional ? "optional and is required" : "required and is optional"}`);
    }
  }
  for (const [path, { type, isOptional }] of present)
    if (!old.has(path))
      lines.push(`${path === "" ? "the payload" : path} was added (${isOptional ? "optional, " : ""}${type})`);
  return lines.length > 0 ? lines : [`it was ${shown(before)} and is ${shown(after)}`];
}

function shown(shape: LockedShape): string {
  return typeof shape === "string" ? shape : JSON.stringify(shape);
}

function fieldsOf(shape: LockedShape): Map<string, Field> {
  const fields = new Map<string, Field>();
  if (typeof shape === "string") collectText(shape, "", false, fields);
  else collectSchema(shape, "", false, fields);
  return fields;
}

function collectText(text: string, path: string, isOptional: boolean, fields: Map<string, Field>): void {
  const list = /^(\{.*\})\[\]$/.exec(text)?.[1];
  const object = list ?? text;
  const members =
    object.startsWith("{ ") && closingBrace(object) === object.length - 1 ? membersOf(object.slice(2, -2)) : undefined;
  fields.set(path, {
    type: members === undefined ? text : list === undefined ? "an object" : "a list of objects",
    isOptional,
  });
  for (const member of members ?? []) {
    const [, name = "", mark = "", type = ""] = /^(\[.*?\]|[^:?]+)(\??): (.*)$/.exec(member) ?? [];
    collectText(
      type,
      `${path === "" ? "" : `${path}.`}${list === undefined ? "" : "[]."}${name}`,
      mark === "?",
      fields,
    );
  }
}

function closingBrace(text: string): number {
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === "{") depth++;
    else if (text[i] === "}" && --depth === 0) return i;
  }
  return -1;
}

/** The members of an object type, split at the semicolons that are not inside another type or a string. */
function membersOf(text: string): string[] {
  const members: string[] = [];
  let depth = 0;
  let quote = "";
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    const letter = text[i] ?? "";
    if (quote !== "") quote = letter === quote ? "" : quote;
    else if (letter === '"') quote = letter;
    else if ("{[(<".includes(letter)) depth++;
    else if ("}])>".includes(letter)) depth--;
    else if (letter === ";" && depth === 0) {
      members.push(text.slice(start, i).trim());
      start = i + 1;
    }
  }
  return [...members, text.slice(start).trim()];
}

function collectSchema(schema: unknown, path: string, isOptional: boolean, fields: Map<string, Field>): void {
  const {
    properties,
    required = [],
    items,
    ...rest
  } = (typeof schema === "object" && schema !== null ? schema : {}) as {
    readonly properties?: Readonly<Record<string, unknown>>;
    readonly required?: readonly string[];
    readonly items?: unknown;
  };
  const type = typeof schema === "object" ? JSON.stringify(rest) : JSON.stringify(schema);
  fields.set(path, { type: simpleType(rest) ?? type, isOptional });
  const prefix = path === "" ? "" : `${path}.`;
  for (const [name, property] of Object.entries(properties ?? {}))
    collectSchema(property, `${prefix}${name}`, !required.includes(name), fields);
  if (items !== undefined) collectSchema(items, `${prefix}[]`, false, fields);
}

function simpleType(rest: object): string | undefined {
  const keys = Object.keys(rest);
  return keys.length === 1 && "type" in rest && typeof rest.type === "string" ? rest.type : undefined;
}
