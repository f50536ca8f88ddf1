import { crc32 } from "node:zlib";
import { present } from "../../assert-invariant.ts";
import { isChecksum, sealed } from "../disk/checksum.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import type { LogPlace } from "../log/log-place.ts";
import { readWhole, replaceFile } from "../disk/whole-file.ts";

/** A place in the log, with what else is known of the log before it. */
export interface Marker extends LogPlace {
  /** Position of the last cut of a stream; 0 if there is none. */
  readonly cut: number;
  /** The consumers that have notes, so that the store need not search the log for them; unknown in a marker of an earlier version. */
  readonly consumers?: readonly string[];
  /** Some streams' files lack committed lines after this place, because the Rust crate holds them. */
  readonly unsettled?: boolean;
}

/**
 * `meta/marker.json`: up to this place of the log everything is known to be durable in the streams' own
 * files too, so recovery starts here. A missing or damaged marker costs time, never data: recovery then
 * starts at the beginning.
 */
export function readMarker(fs: FileSystem, path: string): Marker | undefined {
  const text = readWhole(fs, path)?.toString("latin1");
  if (text === undefined) return undefined;
  const match =
    /^(\{"segment":(\d{1,16}),"offset":(\d{1,16}),"position":(\d{1,16})(?:,"cut":(\d{1,16}))?(?:,"consumers":(\[[^\]]*\]))?(,"unsettled":true)?),"crc":"([0-9a-f]{8})"\}\n$/.exec(
      text,
    );
  if (match === null || !isChecksum(match[8], crc32(present(match[1], "a pattern that matches has its groups"))))
    return undefined;
  const [segment = 0, offset = 0, position = 0, cut = 0] = match.slice(2, 6).map((digits) => Number(digits ?? 0));
  const place = { segment, offset, position, cut, ...(match[7] === undefined ? {} : { unsettled: true }) };
  if (match[6] === undefined) return place;
  return { ...place, consumers: match[6] === "[]" ? [] : (JSON.parse(match[6]) as readonly string[]) };
}

export async function writeMarker(fs: FileSystem, path: string, marker: LogPlace & Partial<Marker>): Promise<void> {
  const { segment, offset, position, cut = 0, consumers, unsettled = false } = marker;
  const place = `{"segment":${segment},"offset":${offset},"position":${position}${cut === 0 ? "" : `,"cut":${cut}`}`;
  const list = consumers === undefined ? "" : `,"consumers":[${consumers.map(asciiJson).join(",")}]`;
  await replaceFile(fs, path, `${sealed(place + list + (unsettled ? ',"unsettled":true' : ""))}\n`, true);
}

/** Without brackets, which end the list. */
function asciiJson(text: string): string {
  return JSON.stringify(text).replaceAll(/[[\]\u007f-\uffff]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}
