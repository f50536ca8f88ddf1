import type { FileSystem } from "../../fs/file-system.ts";

/** Makes a directory with its missing parents, and makes the names of all of them durable, from that of `base` on. */
export async function makeDirectoryDurably(fs: FileSystem, path: string, base: string): Promise<void> {
  const created = fs.makeDirectory(path);
  const topmost = created !== undefined && created.length < base.length ? created : base;
  // Also those that were there: the process that made them may have died just then.
  for (let made = path; made.length >= topmost.length; made = parentOf(made))
    await fs.syncDirectory(parentOf(made) || "/");
}

export function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/"));
}
