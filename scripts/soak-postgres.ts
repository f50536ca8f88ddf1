/**
 * `npm run soak:postgres -- --seconds 60`: three processes write to a PostgreSQL of their own while backends, server and writers are killed.
 * Prints what there was, and fails if anything was lost, doubled or out of place.
 */
import { soakOptions } from "./seconds.ts";
import { soakPostgres } from "../test/support/soak-postgres.ts";
import { soakSummary } from "../test/support/soak-writers.ts";

const { seconds } = soakOptions({});
const report = await soakPostgres({ seconds });
console.log(soakSummary(report));
