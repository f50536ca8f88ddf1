import { isTurnLong, turn } from "../../event-loop.ts";
import type { StoreSizes } from "../../event-store/event-store.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import type { StorePaths } from "./store-paths.ts";

type Part = Exclude<keyof StoreSizes, "reclaimable">;

/**
 * The sizes of all files, in bytes. A file that disappears meanwhile counts for nothing. `dropped`: bytes of lines that no longer
 * count, which the log has a second time.
 */
export async function storeSizes(fs: FileSystem, paths: StorePaths, dropped: number): Promise<StoreSizes> {
  const sizes: Record<Part, number> = { log: 0, streams: 0, caches: 0, other: 0 };
  const waiting = [paths.base];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    for (const entry of fs.readDirectory(next)) {
      const path = `${next}/${entry.name}`;
      if (entry.directory) waiting.push(path);
      else sizes[partOf(paths, path)] += fs.stat(path)?.size ?? 0;
      if (isTurnLong()) await turn();
    }
  }
  return { ...sizes, reclaimable: 2 * dropped };
}

/** Files that are made again from the log when they are gone count as caches. */
function partOf(paths: StorePaths, path: string): Part {
  if (path.startsWith(`${paths.commitLog}/`)) return "log";
  if (path.startsWith(`${paths.streams}/`)) return path.includes("/views/") ? "caches" : "streams";
  if (path === paths.streamEnds) return "caches";
  const isCheckpoint = path.endsWith("/checkpoint.eventfold.json") && !path.startsWith(`${paths.base}/subscriptions/`);
  return isCheckpoint ? "caches" : "other";
}
