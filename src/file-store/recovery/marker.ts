import { crc32 } from "node:zlib";
import { present } from "../../assert-invariant.ts";
import { isChecksum, sealed } from "../disk/checksum.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import type { LogPlace } from "../log/log-place.ts";
import { readWhole, replaceFile } from "../disk/whole-file.ts";

/**
 * `meta/marker.json`: up to this place of the log everything is known to be durable in the streams' own
 * files too, so recovery starts here. A missing or damaged marker costs time, never data: recovery then
 * starts at the beginning.
 */
export function readMarker(fs: FileSystem, path: string): LogPlace | undefined {
  const text = readWhole(fs, path)?.toString("latin1");
  if (text === undefined) return undefined;
  const match = /^(\{"segment":(\d{1,16}),"offset":(\d{1,16}),"position":(\d{1,16})),"crc":"([0-9a-f]{8})"\}\n$/.exec(
    text,
  );
  if (match === null || !isChecksum(match[5], crc32(present(match[1], "a pattern that matches has its groups"))))
    return undefined;
  return { segment: Number(match[2]), offset: Number(match[3]), position: Number(match[4]) };
}

export async function writeMarker(fs: FileSystem, path: string, place: LogPlace): Promise<void> {
  const text = `{"segment":${place.segment},"offset":${place.offset},"position":${place.position}`;
  await replaceFile(fs, path, `${sealed(text)}\n`, true);
}
