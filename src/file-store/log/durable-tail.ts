import type { CommitLog } from "./commit-log.ts";
import type { LogPlace } from "./log-place.ts";
import { readRecord } from "./record-format.ts";

/**
 * Whether the bytes after the last record, which ends the log at `end`, had once been acknowledged. Then a later segment or a valid
 * record follows that was written after they had been flushed. Nothing of that kind follows a torn write.
 */
export function wasDurable(log: CommitLog, end: LogPlace): boolean {
  if (log.scanner.segments().some((segment) => segment > end.position + 1)) return true;
  const bytes = log.tail();
  const start = Buffer.from('{"commit":');
  for (let at = bytes.indexOf(start, 1); at >= 0; at = bytes.indexOf(start, at + 1)) {
    const read = readRecord(bytes, at, bytes.length, end.offset);
    if (read.kind === "record" && read.header.flushed > end.offset) return true;
  }
  return false;
}
