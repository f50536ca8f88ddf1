import { expect, test } from "vitest";
import { soak } from "../support/soak.ts";
import { temporaryDirectory } from "../support/temporary-directory.ts";

test("processes that write to one directory and are killed neither lose nor duplicate events (`npm run soak` runs longer)", async () => {
  const report = await soak({ directory: temporaryDirectory(), seconds: 3 });
  expect(report.kills).toBeGreaterThan(2);
  expect(report.acknowledged).toBeGreaterThan(0);
  expect(report.delivered).toBe(report.events);
});
