import { isUtf8 } from "node:buffer";
import type { FileSystem } from "../../fs/file-system.ts";
import { positionOfLine } from "../../file-store/lines/line-scanner.ts";
import { readWhole } from "../../file-store/disk/whole-file.ts";
import { readLines } from "../../file-store/lines/line-reader.ts";
import { versionAfter } from "../../file-store/streams/stream-end.ts";
import { decodeSnapshot, type LineHash, type SnapshotFile } from "../../file-store/caches/snapshot-format.ts";
import type { StreamKey } from "../../file-store/disk/stream-key.ts";
import { correctText } from "../scan/one-byte-correction.ts";
import type { Problem } from "../findings.ts";
import { tryParse } from "../scan/stream-survey.ts";

/** Reads a stream's file, whose bytes are known to be the log's: every line has to be an event, and the snapshot has to fit. */
export function checkStream(
  fs: FileSystem,
  hash: LineHash,
  directory: string,
  key: StreamKey,
  end: number,
): { readonly problems: Problem[]; readonly hasSnapshot: boolean } {
  const path = `${directory}/app.jsonl`;
  const problems: Problem[] = [];
  const ids = new Map<string, number>();
  const snapshotPath = `${directory}/views/state.snapshot.json`;
  const text = readWhole(fs, snapshotPath);
  const snapshot = text === undefined ? undefined : decode(text);
  let fits = false;
  const file = fs.open(path, "read");
  try {
    let version = 0;
    for (const lines of readLines(file, 0, Math.min(end, file.size()))) {
      for (const line of lines) {
        version = versionAfter(version, line.text);
        const where = { file: path, line: version, offset: line.offset };
        const parsed = line.text === undefined ? undefined : tryParse(Buffer.from(line.text));
        if (parsed === undefined) {
          const message = `version ${version} of ${key} cannot be read, and the commit log has the same bytes`;
          problems.push({ kind: "event-lost", severity: "error", ...where, message });
        }
        const id = parsed?.id ?? undefined;
        const twin = id === undefined ? undefined : ids.get(id);
        if (twin !== undefined) {
          const message = `versions ${twin} and ${version} of ${key} have the same id ${JSON.stringify(id)}`;
          problems.push({ kind: "duplicate-event-id", severity: "warning", ...where, message });
        }
        if (id !== undefined) ids.set(id, version);
        if (typeof snapshot === "object" && snapshot.offset === line.end && line.text !== undefined) {
          const position = positionOfLine(line.text) ?? snapshot.position;
          fits =
            snapshot.version === version &&
            snapshot.position === position &&
            hash(Buffer.from(line.text)) === snapshot.hash;
        }
      }
    }
  } finally {
    file.close();
  }
  if (text !== undefined && snapshot !== "foreign" && !fits)
    problems.push(snapshotProblem(snapshotPath, text, snapshot));
  return { problems, hasSnapshot: text !== undefined };
}

/** The snapshot, `"foreign"` for one that the Rust crate wrote, nothing for a damaged one. */
function decode(bytes: Buffer): SnapshotFile | "foreign" | undefined {
  if (!isUtf8(bytes)) return undefined;
  const text = bytes.toString("utf8");
  try {
    const snapshot = decodeSnapshot(text);
    if (snapshot !== undefined) return snapshot;
    return Object.keys(JSON.parse(text) as object).join() === "state,offset,hash" ? "foreign" : undefined;
  } catch {
    return undefined;
  }
}

function snapshotProblem(path: string, bytes: Buffer, snapshot: SnapshotFile | undefined): Problem {
  const where = { kind: "snapshot-damaged", severity: "warning", file: path } as const;
  const corrected = snapshot === undefined ? correctText(bytes) : undefined;
  if (corrected !== undefined && decode(corrected) !== undefined) {
    return {
      ...where,
      message: "the snapshot does not match its checksum",
      fix: { kind: "replace", path, content: corrected },
      remedy: "put the damaged byte of the snapshot right, which its checksum tells",
    };
  }
  return {
    ...where,
    message:
      snapshot === undefined
        ? "the snapshot cannot be read; the state will be made again from the events"
        : "the snapshot does not belong to the stream's events; the state will be made again from them",
    fix: { kind: "remove", path },
    remedy: "remove the snapshot",
  };
}
