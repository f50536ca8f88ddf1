/**
 * `npm run soak -- --seconds 60 --writers 3`: hundreds of real processes write to one directory and are killed at any moment. Prints
 * the counts, and fails if anything was lost, duplicated or torn.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { soakOptions } from "./seconds.ts";
import { soak } from "../test/support/soak.ts";

const { seconds, writers } = soakOptions({ writers: "3" });
const directory = mkdtempSync(join(tmpdir(), "eventfold-es-soak-"));
const report = await soak({ directory, seconds, writers: Number(writers) }).catch((error: unknown) => {
  console.error(`the directory is kept: ${directory}`);
  throw error;
});
rmSync(directory, { recursive: true });
console.log(
  `${report.kills} processes killed (${report.early} before their first acknowledgement), ${report.acknowledged} commands acknowledged, ` +
    `${report.unacknowledged} more committed without a reply, ${report.events} events in ${report.streams} streams, ` +
    `${report.delivered} delivered to a subscriber; nothing lost, duplicated or torn`,
);
