/**
 * `npm run soak:backups -- --seconds 60`: backups at random moments, while real processes write and are killed. Prints the counts, and
 * fails if a backup or a restoration is not clean, or is not a prefix of the history.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { soakBackups } from "../test/support/soak-backups.ts";

const { values } = parseArgs({ options: { seconds: { type: "string", default: "60" } } });
const directory = mkdtempSync(join(tmpdir(), "eventfold-es-soak-backups-"));
const report = await soakBackups({ directory, seconds: Number(values.seconds) }).catch((error: unknown) => {
  console.error(`the directory is kept: ${directory}`);
  throw error;
});
rmSync(directory, { recursive: true });
console.log(
  `${report.backups} backups (${report.additions} additions to earlier ones) of ${report.events} events, beside ${report.killedWriters} killed writers; ` +
    `${report.killedBackups} processes killed while they made a backup; ${report.restored} restorations, written to; all clean and prefixes of the history`,
);
