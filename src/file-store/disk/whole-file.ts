import { type FileHandle, type FileSystem, systemErrorCode } from "../../fs/file-system.ts";

/** The whole of a file, or nothing if it does not exist. */
export function readWhole(fs: FileSystem, path: string): Buffer | undefined {
  let file: FileHandle;
  try {
    file = fs.open(path, "read");
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return undefined;
    throw error;
  }
  try {
    const buffer = Buffer.alloc(file.size());
    return buffer.subarray(0, file.read(buffer, 0, buffer.length, 0));
  } finally {
    file.close();
  }
}

/** Replaces a file so that after a crash either the old or the new content is there. Durable when `durable`. */
export async function replaceFile(
  fs: FileSystem,
  path: string,
  content: string | Uint8Array,
  durable: boolean,
): Promise<void> {
  const temporary = `${path}.tmp`;
  const bytes = typeof content === "string" ? Buffer.from(content) : content;
  const file = fs.open(temporary, "create");
  try {
    file.truncate(0);
    file.write(bytes, 0, bytes.length, 0);
    if (durable) await file.flush();
  } finally {
    file.close();
  }
  fs.rename(temporary, path);
  if (durable) await fs.syncDirectory(path.slice(0, path.lastIndexOf("/")));
}

/** Like `replaceFile`, at once: after a crash the old or the new content is there, whole. */
export function replaceFileNow(fs: FileSystem, path: string, content: string | Buffer): void {
  const temporary = `${path}.tmp`;
  const bytes = typeof content === "string" ? Buffer.from(content) : content;
  const file = fs.open(temporary, "create");
  try {
    file.truncate(0);
    file.write(bytes, 0, bytes.length, 0);
    file.flushNow();
  } finally {
    file.close();
  }
  fs.rename(temporary, path);
}
