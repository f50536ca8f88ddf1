import type { FileHandle } from "../../fs/file-system.ts";
import type { StoreLock } from "../disk/store-lock.ts";
import type { StreamKey } from "../disk/stream-key.ts";
import type { StreamFiles } from "../streams/stream-files.ts";

const CHUNK = 256 << 10;
const BLANK = Buffer.alloc(CHUNK, "\n");

export interface ReclaimStreamParts {
  readonly files: StreamFiles;
  readonly lock: StoreLock;
  readonly unsettled: { has(key: StreamKey): boolean };
  /** Streams whose files this process has locked. */
  readonly lockedStreams: ReadonlyMap<StreamKey, FileHandle>;
}

/**
 * Replaces the lines of a stream's file up to an offset by blank ones, which neither this library nor the Rust crate counts. Durable
 * when it resolves. False if the Rust crate holds the file.
 */
export async function reclaimStream(
  { files, lock, unsettled, lockedStreams }: ReclaimStreamParts,
  key: StreamKey,
  end: number,
): Promise<boolean> {
  if (!(await lock.hold(() => hasLines(files, key, end)))) return true;
  return lock.hold(async () => {
    if (unsettled.has(key)) return false;
    const { file } = files.acquire(key);
    const isLocked = lockedStreams.has(key);
    if (!isLocked && !file.tryLock()) return false;
    try {
      for (let at = 0; at < end; at += CHUNK) file.write(BLANK, 0, Math.min(CHUNK, end - at), at);
      await file.flush();
      return true;
    } finally {
      if (!isLocked) file.unlock();
      files.trim();
    }
  });
}

/** Whether a stream's file has anything but line ends before an offset. */
async function hasLines(files: StreamFiles, key: StreamKey, end: number): Promise<boolean> {
  const file = files.openForReading(key);
  if (file === undefined) return false;
  try {
    const buffer = Buffer.alloc(Math.min(CHUNK, end));
    for (let at = 0; at < end;) {
      const count = file.read(buffer, 0, Math.min(buffer.length, end - at), at);
      if (count === 0) return false;
      if (buffer.compare(BLANK, 0, count, 0, count) !== 0) return true;
      at += count;
    }
    return false;
  } finally {
    file.close();
  }
}
