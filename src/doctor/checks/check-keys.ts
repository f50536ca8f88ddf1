import { isEventfoldError } from "../../errors.ts";
import { KeyFile } from "../../file-store/keys/key-file.ts";
import type { StorePaths } from "../../file-store/disk/store-paths.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import type { Problem } from "../findings.ts";

/** Reads the keys of personal fields. They exist once, so damage cannot be repaired. */
export function checkKeys(fs: FileSystem, paths: StorePaths): Problem[] {
  const keys = new KeyFile(fs, paths);
  try {
    keys.read();
    return [];
  } catch (error) {
    if (!isEventfoldError(error, "CORRUPT_KEYS")) throw error;
    const { line, offset } = error;
    const message = "a line with keys of personal fields is damaged; restore the file from a copy of it";
    return [{ kind: "keys-damaged", severity: "error", file: paths.subjectKeys, line, offset, message }];
  } finally {
    keys.close();
  }
}
