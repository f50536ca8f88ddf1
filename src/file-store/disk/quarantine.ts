import type { FileSystem } from "../../fs/file-system.ts";
import type { StorePaths } from "./store-paths.ts";

/** Keeps bytes that are about to be removed, durably; the name says where they were. Returns the file's path. */
export async function quarantine(fs: FileSystem, paths: StorePaths, name: string, bytes: Uint8Array): Promise<string> {
  const path = quarantineNow(fs, paths, name, bytes);
  const file = fs.open(path, "update");
  try {
    await file.flush();
  } finally {
    file.close();
  }
  await fs.syncDirectory(paths.quarantine);
  return path;
}

/** Like `quarantine`, without a flush. Returns the file's path. */
export function quarantineNow(fs: FileSystem, paths: StorePaths, name: string, bytes: Uint8Array): string {
  fs.makeDirectory(paths.quarantine);
  // Ids can be as long as a name may be.
  const flat = name.replaceAll("/", ".");
  const short = flat.length <= 60 ? flat : `${flat.slice(0, 40)}~${flat.slice(-20)}`;
  let path = `${paths.quarantine}/${short}`;
  for (let n = 2; fs.stat(path) !== undefined; n++) path = `${paths.quarantine}/${short}.${n}`;
  const file = fs.open(path, "create");
  try {
    file.write(bytes, 0, bytes.length, 0);
  } finally {
    file.close();
  }
  return path;
}
