import { expect, test } from "vitest";
import { soakBackups } from "../support/soak-backups.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

test("backups beside processes that write and are killed are clean prefixes of the history (`npm run soak:backups` runs longer)", async () => {
  const report = await soakBackups({ directory: temporaryDirectory(), seconds: 4 });
  expect(report.backups).toBeGreaterThan(0);
  expect(report.restored).toBe(report.backups);
  expect(report.killedWriters).toBeGreaterThan(0);
});
