import { turn } from "../../event-loop.ts";
import { isBefore, type LogPlace } from "./log-place.ts";
import { type LogScanner, type RecordVisitor, ScanCursor, type ScanResult } from "./log-scanner.ts";

/** So many bytes of records are read before other work gets its turn. */
const SLICE_BYTES = 4 << 20;

/** Does what `scan` of a scanner does, with pauses for other work. Throws the signal's reason when it is aborted. */
export async function pacedScan(
  scanner: LogScanner,
  from: LogPlace,
  limit: LogPlace | undefined,
  visit: RecordVisitor = () => {},
  signal?: AbortSignal,
): Promise<ScanResult> {
  const cursor = new ScanCursor();
  try {
    for (let place = from; ;) {
      signal?.throwIfAborted();
      let bytes = 0;
      let isEnded = false;
      const result = scanner.scan(
        place,
        limit,
        (header, ...record) => {
          isEnded = visit(header, ...record) === false;
          bytes += header.end - header.start;
          return !isEnded && bytes < SLICE_BYTES;
        },
        cursor,
      );
      if (result.stopped !== true || isEnded || (limit !== undefined && !isBefore(result.end, limit))) return result;
      place = result.end;
      await turn();
    }
  } finally {
    cursor.close();
  }
}

/** Does what `read` of a scanner does, in the same way. */
export async function pacedRead(
  scanner: LogScanner,
  from: LogPlace,
  limit: LogPlace,
  visit?: RecordVisitor,
  signal?: AbortSignal,
): Promise<void> {
  const { end, invalid, stopped } = await pacedScan(scanner, from, limit, visit, signal);
  if (stopped !== true && (invalid !== undefined || isBefore(end, limit)))
    throw scanner.corruption(end, invalid ?? `the commit log ends here; position ${limit.position} was committed`);
}
