import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";

/** Installs what the benchmark compares with, once. Some of it is compiled, which takes minutes. */
export function installPeers(directory: string): void {
  if (existsSync(`${directory}/node_modules`)) return;
  process.stderr.write("  installing the peers (some are compiled, so this takes minutes)\n");
  // Not `npm ci`: it refuses when an optional package for another platform is missing from the lock file.
  const { status } = spawnSync("npm", ["install", "--no-save", "--no-audit", "--no-fund"], {
    cwd: directory,
    stdio: ["ignore", "inherit", "inherit"],
    shell: process.platform === "win32",
  });
  if (status !== 0) process.stderr.write("  the peers could not be installed; they are left out\n");
}
