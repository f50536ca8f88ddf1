import type { FileSystem } from "../../fs/file-system.ts";
import { systemErrorCode } from "../../fs/file-system.ts";
import { DamagedStreamIndexError, StreamIndexFile } from "../../file-store/streams/stream-index-file.ts";
import type { StreamKey } from "../../file-store/disk/stream-key.ts";
import type { StorePaths } from "../../file-store/disk/store-paths.ts";
import { type Problem, readAt } from "../findings.ts";
import type { SurveyedStream } from "../scan/stream-survey.ts";

/** Bytes of the table's header, and how many of them its checksum and the checksum itself take. */
const HEADER = 64;
const CHECKED_HEADER = 44;

/** Compares the table of the streams' ends with what the log says of them; `isComplete` when the log has no gaps. */
export function checkEnds(
  fs: FileSystem,
  paths: StorePaths,
  streams: ReadonlyMap<StreamKey, SurveyedStream>,
  isComplete: boolean,
): Problem[] {
  const file = paths.streamEnds;
  if (fs.stat(file) === undefined) {
    const message = "there is no table of the streams' ends; it is made again from the commit log";
    return streams.size === 0 ? [] : [{ kind: "needs-recovery", severity: "info", file, message }];
  }
  const damaged = (message: string): Problem[] => [
    {
      kind: "stream-ends-damaged",
      severity: "warning",
      file,
      message: `${message}; it is made again from the commit log`,
      fix: { kind: "remove", path: file },
      remedy: "remove the table of the streams' ends",
    },
  ];
  let ends: StreamIndexFile | undefined;
  try {
    ends = StreamIndexFile.open(fs, file);
  } catch (error) {
    // In a directory that may only be read, the table cannot be checked.
    if (systemErrorCode(error) === undefined) throw error;
    return [];
  }
  if (ends === undefined) return damaged("the table of the streams' ends cannot be read");
  try {
    if (readAt(fs, file, CHECKED_HEADER, HEADER - CHECKED_HEADER).some((byte) => byte !== 0))
      return damaged("the header of the table of the streams' ends is followed by bytes that are not zero");
    for (const _ of ends.slots());
    for (const [key, stream] of isComplete ? streams : []) {
      const end = ends.find(key);
      if (end === undefined || end.version < stream.version) continue;
      if (end.version !== stream.version || end.end !== stream.end || end.crc !== stream.crc)
        return damaged(`the table of the streams' ends has another end for ${key} than the commit log`);
    }
    return [];
  } catch (error) {
    if (!(error instanceof DamagedStreamIndexError)) throw error;
    return damaged(`the table of the streams' ends is damaged (${error.message})`);
  } finally {
    ends.close();
  }
}
