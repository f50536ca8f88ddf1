/** Where an example keeps its events: in the PostgreSQL that `DATABASE_URL` names, or else in a directory. */
import { basename, resolve } from "node:path";
import type { EventStorage } from "eventfold-es";
import { postgres } from "eventfold-es/postgres";
import pg from "pg";

/** In a database, each directory's name is a schema. */
export function storageOf(directory: string): { storage: string | EventStorage; place: string } {
  const url = process.env["DATABASE_URL"];
  if (url === undefined) return { storage: directory, place: resolve(directory) };
  const schema = basename(directory).replaceAll(/[^a-z0-9]/gi, "_");
  // A pool that does not keep the program alive need not be ended.
  const pool = new pg.Pool({ connectionString: url, allowExitOnIdle: true });
  return { storage: postgres({ pool, schema }), place: `the schema ${schema} of the database` };
}
