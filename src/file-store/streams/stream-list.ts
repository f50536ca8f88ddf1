import type { FileSystem } from "../../fs/file-system.ts";
import type { StreamKey } from "../disk/stream-key.ts";
import type { StorePaths } from "../disk/store-paths.ts";

/** The keys of all directories that hold a stream. */
export function findStreams(fs: FileSystem, paths: StorePaths): StreamKey[] {
  const keys: StreamKey[] = [];
  for (const type of fs.readDirectory(paths.streams)) {
    if (!type.directory) continue;
    for (const entry of fs.readDirectory(`${paths.streams}/${type.name}`)) {
      if (!entry.directory || fs.stat(`${paths.streams}/${type.name}/${entry.name}/app.jsonl`) === undefined) continue;
      keys.push(`${type.name}/${entry.name}`);
    }
  }
  return keys;
}
