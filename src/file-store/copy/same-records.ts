import { crc32 } from "node:zlib";
import type { FileSystem } from "../../fs/file-system.ts";
import type { LogPlace } from "../log/log-place.ts";
import { LogScanner } from "../log/log-scanner.ts";
import { isReclaimed } from "../log/reclaimed-section.ts";
import { noteLines, readSections } from "../log/record-sections.ts";

/** A part of a record: where it belongs, and the checksum of its lines; nothing for lines that were reclaimed. */
interface Part {
  readonly place: string;
  readonly crc: number | undefined;
}

/** Whether two logs have the same records in a segment up to a place, but for lines that were reclaimed in one of them. */
export function haveSameRecords(fs: FileSystem, one: string, other: string, end: LogPlace): boolean {
  const [left, right] = [partsOf(fs, one, end), partsOf(fs, other, end)];
  return (
    left !== undefined &&
    left.length === right?.length &&
    left.every(({ place, crc }, i) => {
      const part = right[i];
      return part?.place === place && (part.crc === crc || part.crc === undefined || crc === undefined);
    })
  );
}

/** The parts of a segment's records up to a place; nothing if no record ends there. */
function partsOf(fs: FileSystem, directory: string, end: LogPlace): readonly Part[] | undefined {
  const parts: Part[] = [];
  const { segment } = end;
  const from = { segment, offset: 0, position: segment - 1 };
  const found = new LogScanner(fs, directory).scan(from, end, (header, buffer, base) => {
    const { start, position, events } = header;
    parts.push({ place: `${start} ${position} ${events}`, crc: 0 });
    readSections(
      buffer,
      header,
      base,
      (section) => {
        const { key, version, at, start: first, end: last } = section;
        const crc = isReclaimed(buffer, section) ? undefined : crc32(buffer.subarray(first, last));
        parts.push({ place: `${key} ${version} ${at} ${last - first}`, crc });
      },
      (note) => {
        // It may lack dead letters.
        const crc = header.isReclaimed ? undefined : crc32(noteLines(note));
        parts.push({ place: `${note.name} ${note.sequence}`, crc });
      },
    );
  });
  return found.invalid === undefined && found.end.segment === segment && found.end.offset === end.offset
    ? parts
    : undefined;
}
