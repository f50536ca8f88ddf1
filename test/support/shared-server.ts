import * as fs from "node:fs";
import { setTimeout as pause } from "node:timers/promises";

/**
 * Starts a server that the tests of one run share, unless another test file has. `start` puts what the others need to know into the file
 * that it is given. Resolves with the file's content.
 */
export async function sharedServer<T>(file: string, start: (file: string) => Promise<void>): Promise<T> {
  try {
    fs.mkdirSync(`${file}.starting`);
  } catch {
    return startedByAnother<T>(file);
  }
  try {
    await start(file);
  } catch (error) {
    fs.writeFileSync(`${file}.failed`, error instanceof Error ? error.message : String(error));
  }
  return startedByAnother<T>(file);
}

async function startedByAnother<T>(file: string): Promise<T> {
  for (;;) {
    if (fs.existsSync(file)) return JSON.parse(fs.readFileSync(file, "utf8")) as T;
    if (fs.existsSync(`${file}.failed`)) throw new Error(fs.readFileSync(`${file}.failed`, "utf8"));
    await pause(20);
  }
}

/** Writes a file that is there whole or not at all. */
export function saveWhole(file: string, content: unknown): void {
  fs.writeFileSync(`${file}.new`, JSON.stringify(content));
  fs.renameSync(`${file}.new`, file);
}
