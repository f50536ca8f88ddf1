import type { FileHandle, FileSystem } from "../../fs/file-system.ts";
import { systemErrorCode } from "../../fs/file-system.ts";

/** Where everything is inside a store's directory. */
export interface Layout {
  readonly base: string;
  readonly streams: string;
  readonly commitLog: string;
  /** The commit log while it is being made from streams; renamed when complete. */
  readonly newCommitLog: string;
  readonly meta: string;
  readonly registry: string;
  readonly lock: string;
  readonly head: string;
  readonly marker: string;
  /** Where each stream ends. */
  readonly streamEnds: string;
  /** Bytes that recovery removed, kept for people to look at. */
  readonly aside: string;
}

export function layoutOf(base: string): Layout {
  const meta = `${base}/meta`;
  return {
    base,
    streams: `${base}/streams`,
    commitLog: `${base}/commit_log`,
    newCommitLog: `${base}/commit_log.new`,
    meta,
    registry: `${meta}/streams.jsonl`,
    lock: `${meta}/lock`,
    head: `${meta}/head`,
    marker: `${meta}/marker.json`,
    streamEnds: `${meta}/stream_ends`,
    aside: `${meta}/aside`,
  };
}

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
export function replaceFileNow(fs: FileSystem, path: string, content: string): void {
  const temporary = `${path}.tmp`;
  const bytes = Buffer.from(content);
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
