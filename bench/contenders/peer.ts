import { existsSync } from "node:fs";

/** Where the benchmark's own dependencies are: seen from the compiled file. */
const MODULES = new URL("../../node_modules/", import.meta.url);

/**
 * Loads a peer. Its name is a variable, and its types are the caller's own, because the project is checked and built
 * where the peers are not installed.
 */
export async function loadPeer<T>(name: string): Promise<T> {
  return (await import(name)) as T;
}

export function isInstalled(name: string): boolean {
  return existsSync(new URL(`${name}/package.json`, MODULES));
}
