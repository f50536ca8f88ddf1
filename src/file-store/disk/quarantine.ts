import type { FileSystem } from "../../fs/file-system.ts";
import type { StreamKey } from "./stream-key.ts";
import { readWhole } from "./whole-file.ts";
import type { StorePaths } from "./store-paths.ts";

/** So much of a long name is kept at its beginning. */
const KEPT = 40;

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

/** Removes what is kept of streams, durably: bytes of their files, and of the log if they name the streams. */
export async function removeQuarantined(fs: FileSystem, paths: StorePaths, keys: Iterable<StreamKey>): Promise<void> {
  const names = fs.readDirectory(paths.quarantine).filter(({ directory }) => !directory);
  if (names.length === 0) return;
  const streams = Array.from(keys, (key) => ({
    // The name of a stream's file, and that of a file below its directory.
    prefixes: [`${key}.`, `streams/${key}/`].map((path) => shortName(path.replaceAll("/", "."))),
    header: `{"stream":${JSON.stringify(key)},`,
  }));
  let isChanged = false;
  for (const { name } of names) {
    const path = `${paths.quarantine}/${name}`;
    const bytes = readWhole(fs, path);
    if (
      !streams.some(
        ({ prefixes, header }) => prefixes.some((each) => name.startsWith(each)) || bytes?.includes(header) === true,
      )
    )
      continue;
    fs.remove(path);
    isChanged = true;
  }
  if (isChanged) await fs.syncDirectory(paths.quarantine);
}

/** What the name of a quarantined file begins with, if it had to be made shorter. */
function shortName(prefix: string): string {
  return prefix.slice(0, KEPT);
}

/** Like `quarantine`, without a flush. Returns the file's path. */
export function quarantineNow(fs: FileSystem, paths: StorePaths, name: string, bytes: Uint8Array): string {
  fs.makeDirectory(paths.quarantine);
  // Ids can be as long as a name may be.
  const flat = name.replaceAll("/", ".");
  const short = flat.length <= 60 ? flat : `${flat.slice(0, KEPT)}~${flat.slice(-20)}`;
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
