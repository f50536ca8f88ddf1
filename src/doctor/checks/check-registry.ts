import { isUtf8 } from "node:buffer";
import type { StreamName } from "../../event-store/event-store.ts";
import { type FullName, fullNameOf } from "../../stream-names.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import { isUnreachableId, keyOfStream, type StreamKey, streamOfKey } from "../../file-store/disk/stream-key.ts";
import type { StorePaths } from "../../file-store/disk/store-paths.ts";
import { readWhole } from "../../file-store/disk/whole-file.ts";
import { lineAt, type LogBytes, type Problem } from "../findings.ts";
import type { SurveyedStream } from "../scan/stream-survey.ts";

interface Entry extends StreamName {
  readonly ts: number;
}

/** Compares the list of streams with the streams; `unsettled` tells which of them recovery still has to add. */
export function checkRegistry(
  fs: FileSystem,
  paths: StorePaths,
  streams: ReadonlyMap<StreamKey, SurveyedStream>,
  unsettled: (place: LogBytes) => boolean,
): Problem[] {
  const raw = readWhole(fs, paths.registry);
  if (raw === undefined && streams.size === 0) return [];
  const bytes = raw ?? Buffer.alloc(0);
  const problems: Omit<Problem, "fix" | "remedy">[] = [];
  const damaged = (offset: number, message: string, severity: Problem["severity"] = "warning"): void => {
    problems.push({
      kind: "registry-damaged",
      severity,
      file: paths.registry,
      line: lineAt(bytes, offset),
      offset,
      message,
    });
  };
  const unreachable: Problem[] = [];
  const known = new Map<FullName, { readonly stream: SurveyedStream; readonly key: StreamKey }>();
  for (const [key, stream] of streams) known.set(fullNameOf(streamOfKey(key)), { stream, key });
  const lines = new Map<FullName, string>();
  for (let start = 0; start < bytes.length;) {
    const stop = bytes.indexOf("\n", start);
    const line = bytes.subarray(start, stop < 0 ? bytes.length : stop);
    const text = line.toString("utf8");
    const offset = start;
    start = stop < 0 ? bytes.length : stop + 1;
    if (text.trim() === "") continue;
    const entry = isUtf8(line) ? parse(text) : undefined;
    if (entry === undefined) {
      if (stop >= 0) damaged(offset, "this line is not the entry of a stream");
      else needsRecovery(problems, paths, "the last line was not written to its end");
      continue;
    }
    const name = fullNameOf(entry);
    const stream = known.get(name)?.stream;
    if (isUnreachableId(entry.id)) {
      // Its line is the last trace of it, so it stays.
      lines.set(name, text);
      unreachable.push({
        kind: "unreachable-id",
        severity: "warning",
        file: paths.registry,
        line: lineAt(bytes, offset),
        offset,
        message: `the Rust crate has used the id ${JSON.stringify(entry.id)} of ${JSON.stringify(entry.type)}, whose file is not a directory's own: its events are not part of this store`,
      });
      continue;
    }
    if (stream === undefined && !hasDirectory(fs, paths, entry)) {
      damaged(offset, `there is no stream ${JSON.stringify(name)}`);
      continue;
    }
    const canonical = lineOf(entry, stream !== undefined && !stream.adopted ? stream.seconds : entry.ts);
    if (canonical !== text) damaged(offset, `this entry of ${JSON.stringify(name)} is not as it was written`, "info");
    if (stop < 0) needsRecovery(problems, paths, "the last line was not written to its end");
    lines.set(name, canonical);
  }
  if (raw === undefined) damaged(0, "the list of streams is missing");
  for (const [name, { key, stream }] of known) {
    if (lines.has(name)) continue;
    lines.set(name, lineOf(streamOfKey(key), stream.seconds));
    if (raw === undefined) continue;
    if (unsettled(stream.first)) needsRecovery(problems, paths, `the stream ${JSON.stringify(name)} is not listed yet`);
    else damaged(bytes.length, `the stream ${JSON.stringify(name)} is missing`);
  }
  const content = [...lines.values()].map((line) => `${line}\n`).join("");
  const fix = { kind: "overwrite", path: paths.registry, content } as const;
  const repairable = problems.map((problem) => ({
    ...problem,
    fix,
    remedy: "write the list of streams again from the commit log",
  }));
  return [...unreachable, ...repairable];
}

function needsRecovery(problems: Omit<Problem, "fix" | "remedy">[], { registry }: StorePaths, message: string): void {
  problems.push({ kind: "needs-recovery", severity: "info", file: registry, message });
}

function lineOf({ id, type }: StreamName, seconds: number): string {
  return JSON.stringify({ id, ts: seconds, type });
}

/** The Rust crate lists a stream when it is opened, before its first event. */
function hasDirectory(fs: FileSystem, paths: StorePaths, stream: StreamName): boolean {
  try {
    return fs.stat(`${paths.streams}/${keyOfStream(fs, paths, stream)}`)?.directory === true;
  } catch {
    return false;
  }
}

function parse(text: string): Entry | undefined {
  try {
    const { id, type, ts } = JSON.parse(text) as {
      readonly id?: unknown;
      readonly type?: unknown;
      readonly ts?: unknown;
    };
    if (typeof id !== "string" || typeof type !== "string" || type.includes("/") || type.startsWith("."))
      return undefined;
    return { id, type, ts: typeof ts === "number" ? ts : 0 };
  } catch {
    return undefined;
  }
}
