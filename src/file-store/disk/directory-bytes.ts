import { isTurnLong, turn } from "../../event-loop.ts";
import type { FileSystem } from "../../fs/file-system.ts";

/** The size of all files under a directory, in bytes. A file that disappears meanwhile counts for nothing. */
export async function directoryBytes(fs: FileSystem, directory: string): Promise<number> {
  let bytes = 0;
  const waiting = [directory];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    for (const entry of fs.readDirectory(next)) {
      const path = `${next}/${entry.name}`;
      if (entry.directory) waiting.push(path);
      else bytes += fs.stat(path)?.size ?? 0;
      if (isTurnLong()) await turn();
    }
  }
  return bytes;
}
