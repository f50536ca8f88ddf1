/**
 * `npm run soak:backups -- --seconds 60`: backups at random moments, while real processes write and are killed. Prints the counts, and
 * fails if a backup or a restoration is not clean, or is not a prefix of the history.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { soakOptions } from "./seconds.ts";
import { soakBackups } from "../test/support/soak-backups.ts";

const { seconds } = soakOptions({});
const directory = mkdtempSync(join(tmpdir(), "eventfold-es-soak-backups-"));
const report = await soakBackups({ directory, seconds }).catch((error: unknown) => {
  console.error(`the directory is kept: ${directory}`);
  throw error;
});
rmSync(directory, { recursive: true });
console.log(
  `${report.backups} backups (${report.additions} additions to earlier ones) of ${report.events} events, beside ${report.killedWriters} killed writers; ` +
    `${report.killedBackups} processes killed while they made a backup; ${report.restored} restorations, written to; all clean and prefixes of the history`,
);
