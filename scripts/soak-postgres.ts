/**
 * `npm run soak:postgres -- --seconds 60`: three processes write to a PostgreSQL of their own while backends, server and writers are killed.
 * Prints what there was, and fails if anything was lost, doubled or out of place.
 */
import { parseArgs } from "node:util";
import { soakPostgres } from "../test/support/soak-postgres.ts";

const { values } = parseArgs({ options: { seconds: { type: "string", default: "60" } } });
const report = await soakPostgres({ seconds: Number(values.seconds) });
const failures = Object.entries(report.failures).map(([name, count]) => `${name} ${count}`);
console.log(
  `failures: ${failures.join(", ")}\n` +
    `${report.acknowledged} commits answered, ${report.events} events in ${report.streams} streams: 0 lost, 0 doubled, no hole\n` +
    `${report.unknown} of unknown outcome (${report.unknownWritten} of them written), ${report.givenUp} given up with nothing written, ` +
    `${report.untold} written whose process died before it could say so\n` +
    `between two answers of a process: p99 ${report.pauses.p99.toFixed(0)} ms, longest ${report.pauses.longest.toFixed(0)} ms`,
);
