import { crc32 } from "node:zlib";
import { present } from "../../assert-invariant.ts";
import { checksumEnd, isChecksum } from "../disk/checksum.ts";

/**
 * The commit log's record: one batch of commits, made durable by one write. Every line of it is JSON:
 *
 *     {"commit":7,"events":2,"bytes":310,"flushed":1022,"crc":"1a2b3c4d"}
 *     {"stream":"account/ada","version":4,"at":512,"events":2,"bytes":240}
 *     {"type":"Deposited",…,"pos":7}
 *     {"type":"Withdrawn",…,"pos":8}
 *
 * `commit` is the position of the first event, `bytes` the length of what follows the first line, `crc`
 * the CRC-32 of the first line up to `,"crc"` and of all that follows, `flushed` the offset in this
 * segment up to which everything was durable when the record was written. `,"adopted":true` follows if the record has
 * lines that the Rust crate wrote. A section's events are the very bytes of the stream's own file from offset
 * `at` on; `version` is that of its first event.
 *
 * A batch is all or nothing: a torn record has a wrong checksum. If a valid record with a `flushed`
 * beyond a bad one follows, the bad one was once durable, so it is damage and not a torn tail.
 */

export const HEADER_ROOM = 160;

export interface RecordHeader {
  /** Position of the first event. */
  readonly position: number;
  readonly events: number;
  /** Offset of the record's first byte. */
  readonly start: number;
  /** Offset of the first byte after the header line. */
  readonly body: number;
  /** Offset of the first byte after the record. */
  readonly end: number;
  readonly flushed: number;
  /** Whether some of the lines are not ours: they may be written in any way. */
  readonly adopted: boolean;
  /** Lines of dropped events were removed from the record. */
  readonly isReclaimed: boolean;
}

/**
 * Writes the header before a body that is already in `buffer` from `HEADER_ROOM` on; returns where
 * the record starts.
 */
export function sealRecord(
  buffer: Buffer,
  bodyEnd: number,
  { position, events, flushed, adopted }: Pick<RecordHeader, "position" | "events" | "flushed" | "adopted">,
): number {
  const counted = `{"commit":${position},"events":${events},"bytes":${bodyEnd - HEADER_ROOM},"flushed":${flushed}`;
  const checked = adopted ? counted + ADOPTED : counted;
  const checksum = crc32(buffer.subarray(HEADER_ROOM, bodyEnd), crc32(checked));
  const header = `${checked}${checksumEnd(checksum)}\n`;
  const start = HEADER_ROOM - header.length;
  buffer.write(header, start, header.length, "latin1");
  return start;
}

const ADOPTED = ',"adopted":true';

/** Stands in `flushed` of a record from which lines were removed. No record begins there, so no other record has it. */
const RECLAIMED = 1;

/**
 * Says in a record's first line that lines were removed, and corrects its checksum. No length changes. `record` holds the record
 * alone, and `body` is the offset after its first line.
 */
export function markReclaimed(record: Buffer, body: number): void {
  const line = record.toString("latin1", 0, body);
  const match = /,"flushed":( *\d+)/.exec(line);
  const flushed = present(match?.[1], "a record's first line says what is flushed");
  const marked = line.replace(`"flushed":${flushed}`, `"flushed":${String(RECLAIMED).padStart(flushed.length)}`);
  const checked = marked.slice(0, marked.lastIndexOf(',"crc":'));
  record.write(`${checked}${checksumEnd(crc32(record.subarray(body), crc32(checked)))}\n`, 0, body, "latin1");
}

const HEADER =
  /^(\{"commit":(\d{1,16}),"events":(\d{1,16}),"bytes":(\d{1,16}),"flushed":( *\d{1,16})(,"adopted":true)?),"crc":"([0-9a-f]{8})"\}\n/;

export type RecordRead =
  | { readonly kind: "record"; readonly header: RecordHeader }
  /** Nothing was ever written here: the end of the segment or zeros. */
  | { readonly kind: "nothing" }
  /** The buffer ends before the record does; `need` bytes from the record's start would hold it. */
  | { readonly kind: "short"; readonly need: number }
  | { readonly kind: "invalid"; readonly why: string };

/**
 * Reads the record at `offset` of `buffer`, which holds a segment's bytes up to `length`; `base` is the
 * segment's offset of the buffer's first byte.
 */
export function readRecord(buffer: Buffer, offset: number, length: number, base: number): RecordRead {
  if (offset >= length || buffer[offset] === 0) return { kind: "nothing" };
  const text = buffer.toString("latin1", offset, Math.min(length, offset + HEADER_ROOM));
  const match = HEADER.exec(text);
  if (match === null) {
    return text.length < HEADER_ROOM && !text.includes("\n")
      ? { kind: "short", need: HEADER_ROOM }
      : { kind: "invalid", why: "the first line of a commit record is not what we write" };
  }
  const body = offset + match[0].length;
  const end = body + Number(match[4]);
  if (end > length) return { kind: "short", need: end - offset };
  const checksum = crc32(buffer.subarray(body, end), crc32(present(match[1], "a pattern that matches has its groups")));
  if (!isChecksum(match[7], checksum))
    return { kind: "invalid", why: "the checksum of a commit record does not match" };
  return {
    kind: "record",
    header: {
      position: Number(match[2]),
      events: Number(match[3]),
      start: base + offset,
      body: base + body,
      end: base + end,
      flushed: Number(match[5]),
      adopted: match[6] !== undefined,
      isReclaimed: Number(match[5]) === RECLAIMED,
    },
  };
}
