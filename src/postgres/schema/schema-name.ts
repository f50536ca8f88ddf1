import { EventfoldError } from "../../errors.ts";

/** The name of a store's schema, quoted for SQL. PostgreSQL cuts names off after 63 bytes, so a longer one could meet another store's. */
export function quotedSchema(schema: unknown): string {
  if (typeof schema !== "string" || !/^[A-Za-z_][A-Za-z0-9_]{0,62}$/.test(schema) || /^pg_/i.test(schema)) {
    throw new EventfoldError(
      "INVALID_ARGUMENT",
      `schema is a name of ASCII letters, digits and _, at most 63, that does not begin with a digit or pg_; got ${JSON.stringify(schema)}`,
    );
  }
  return `"${schema}"`;
}
