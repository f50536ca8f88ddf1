import type { FileSystem } from "../../fs/file-system.ts";
import type { StreamKey } from "../disk/stream-key.ts";
import type { Layout } from "../disk/store-paths.ts";

/** The keys of all directories that hold a stream. */
export function findStreams(fs: FileSystem, layout: Layout): StreamKey[] {
  const keys: StreamKey[] = [];
  for (const type of fs.readDirectory(layout.streams)) {
    if (!type.directory) continue;
    for (const entry of fs.readDirectory(`${layout.streams}/${type.name}`)) {
      if (!entry.directory || fs.stat(`${layout.streams}/${type.name}/${entry.name}/app.jsonl`) === undefined) continue;
      keys.push(`${type.name}/${entry.name}`);
    }
  }
  return keys;
}
