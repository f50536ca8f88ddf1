import type { FileSystem } from "../../fs/file-system.ts";
import type { Layout } from "./store-paths.ts";

/** Keeps bytes that are about to be removed, durably; the name says where they were. Returns the file's path. */
export async function keepAside(fs: FileSystem, layout: Layout, name: string, bytes: Uint8Array): Promise<string> {
  const path = keepAsideNow(fs, layout, name, bytes);
  const file = fs.open(path, "update");
  try {
    await file.flush();
  } finally {
    file.close();
  }
  await fs.syncDirectory(layout.aside);
  return path;
}

/** Like `keepAside`, without a flush. Returns the file's path. */
export function keepAsideNow(fs: FileSystem, layout: Layout, name: string, bytes: Uint8Array): string {
  fs.makeDirectory(layout.aside);
  // Ids can be as long as a name may be.
  const flat = name.replaceAll("/", ".");
  const short = flat.length <= 60 ? flat : `${flat.slice(0, 40)}~${flat.slice(-20)}`;
  let path = `${layout.aside}/${short}`;
  for (let n = 2; fs.stat(path) !== undefined; n++) path = `${layout.aside}/${short}.${n}`;
  const file = fs.open(path, "create");
  try {
    file.write(bytes, 0, bytes.length, 0);
  } finally {
    file.close();
  }
  return path;
}
