import type { FileSystem } from "../../fs/file-system.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import { KeyFile } from "../keys/key-file.ts";

/** Copies the keys of a store that may be in use. Those that the copy had before are destroyed. Durable when it resolves. */
export async function copyKeys(fs: FileSystem, source: StorePaths, target: StorePaths): Promise<void> {
  const from = new KeyFile(fs, source);
  const to = new KeyFile(fs, target);
  try {
    from.read();
    if (from.size > 0) await to.replaceBy(from.all);
  } finally {
    from.close();
    to.close();
  }
}
