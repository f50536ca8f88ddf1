import type { Payload } from "./payload.ts";

/** What Standard Schema calls the methods of a validator that can describe itself. */
interface SelfDescribing {
  readonly jsonSchema?: { readonly output: (options: { readonly target: string }) => unknown };
}

/** JSON Schema of what a schema returns; `undefined` if its library does not offer it, or not for this schema. */
export function jsonSchemaOf(schema: Payload): Readonly<Record<string, unknown>> | undefined {
  try {
    const { $schema: _, ...shape } = ((schema["~standard"] as SelfDescribing).jsonSchema?.output({
      target: "draft-2020-12",
    }) ?? {}) as Record<string, unknown>;
    return Object.keys(shape).length === 0 ? undefined : shape;
  } catch {
    return undefined;
  }
}

/** A text that changes when a schema accepts or returns other values, as far as the schema tells. */
export function describedSchema(schema: Payload): string {
  const text = JSON.stringify(jsonSchemaOf(schema) ?? plainSchema(schema)) as string | undefined;
  return text ?? "";
}

/** The data and functions that a schema without JSON Schema consists of, e.g. one of valibot. */
export function plainSchema(schema: Payload): unknown {
  const seen = new Set<unknown>();
  const plain = (value: unknown): unknown => {
    if (typeof value === "function") return Function.prototype.toString.call(value);
    if (typeof value === "bigint" || typeof value === "symbol") return String(value);
    if (typeof value !== "object" || value === null) return value;
    if (seen.has(value)) return "…";
    seen.add(value);
    if (Array.isArray(value)) return value.map(plain);
    // A regular expression or a date, as its text.
    if (Object.prototype.toString.call(value) !== "[object Object]")
      return JSON.stringify(value) + `${value as RegExp}`;
    return Object.fromEntries(
      Object.entries(value)
        .filter(([key, item]) => !key.startsWith("~") && (typeof item !== "function" || key === "requirement"))
        .map(([key, item]) => [key, plain(item)]),
    );
  };
  return plain(schema);
}
