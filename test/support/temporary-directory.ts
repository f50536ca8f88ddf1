import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { onTestFinished } from "vitest";

/** A new directory on disk that is removed when the running test is over. */
export function temporaryDirectory(): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "eventfold-es-test-"));
  onTestFinished(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A copy of a directory, as a crash at this moment would leave it. Its store keeps working. */
export function copyOf(directory: string): string {
  const copy = path.join(temporaryDirectory(), "store");
  fs.cpSync(directory, copy, { recursive: true });
  return copy;
}
