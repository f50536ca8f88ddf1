import type { CommitLog } from "./commit-log.ts";
import type { LogPlace } from "./log-place.ts";
import { readRecord } from "./record-format.ts";

const RECORD_START = Buffer.from('{"commit":');

/**
 * Whether the bytes after the last record, which ends the log at `end`, had once been acknowledged. Then a later segment or a valid
 * record follows that was written after they had been flushed. Nothing of that kind follows a torn write.
 */
export function wasDurable(log: CommitLog, end: LogPlace): boolean {
  if (log.scanner.segments().some((segment) => segment > end.position + 1)) return true;
  return isFollowedByFlushed(log.tail(), end.offset);
}

/** Whether a valid record is in bytes from `offset` of a segment on that was written after the first of them had been flushed. */
export function isFollowedByFlushed(bytes: Buffer, offset: number): boolean {
  for (let at = bytes.indexOf(RECORD_START, 1); at >= 0; at = bytes.indexOf(RECORD_START, at + 1)) {
    const read = readRecord(bytes, at, bytes.length, offset);
    if (read.kind === "record" && read.header.flushed > offset) return true;
  }
  return false;
}
