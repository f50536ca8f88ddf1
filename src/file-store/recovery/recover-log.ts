import type { FileSystem } from "../../fs/file-system.ts";
import type { CommitLog } from "../log/commit-log.ts";
import { type LogPlace, endsBefore } from "../log/log-place.ts";
import type { RecordVisitor, ScanResult } from "../log/log-scanner.ts";
import { readRecord } from "../log/record-format.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import { quarantine } from "../disk/quarantine.ts";

/**
 * Reads the log from a place to its end and leaves it fit for the next record: what a dead process left
 * behind the last whole record is kept aside and cut off. Damage in the middle (a bad record that was once durable) is an error; nothing is cut then. `known` is
 * what `meta/head` tells: it is only written when the log is durable up to there. Needs the store's lock. Returns how many bytes were cut.
 */
export async function recoverLog(
  fs: FileSystem,
  paths: StorePaths,
  log: CommitLog,
  from: LogPlace,
  known: LogPlace | undefined,
  visit: RecordVisitor,
): Promise<number> {
  // The dead process may not have flushed what we are about to accept, and nothing reaches the streams'
  // files before it is durable in the log.
  await log.flushFrom(from);
  const result = log.scanner.scan(from, undefined, visit);
  log.moveTo(result.end);
  if (wasDurable(log, result) || (known !== undefined && endsBefore(result.end, known))) {
    throw log.scanner.corruption(result.end, result.invalid ?? "records are missing");
  }
  const tail = log.tail();
  if (tail.length > 0) {
    await quarantine(fs, paths, `commit_log.${result.end.segment}.${result.end.offset}`, tail);
    await log.cutTail();
  }
  await log.renewBeginning();
  return tail.length;
}

/**
 * Whether what a scan stopped at had once been acknowledged: then something valid that was written after
 * its flush follows. A torn tail has nothing behind it that says so.
 */
function wasDurable(log: CommitLog, { end }: ScanResult): boolean {
  if (log.scanner.segments().some((segment) => segment > end.position + 1)) return true;
  const bytes = log.tail();
  const start = Buffer.from('{"commit":');
  for (let at = bytes.indexOf(start, 1); at >= 0; at = bytes.indexOf(start, at + 1)) {
    const read = readRecord(bytes, at, bytes.length, end.offset);
    if (read.kind === "record" && read.header.flushed > end.offset) return true;
  }
  return false;
}
