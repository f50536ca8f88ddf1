import { appendAll } from "../../arrays.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import type { StorePaths } from "../../file-store/disk/store-paths.ts";
import { SegmentFiles } from "../../file-store/log/segment-files.ts";
import { decodeId, encodeId, isPlainName, isTypeName } from "../../stream-names.ts";
import { CHECKPOINT, CRATE_CHECKPOINT } from "../../file-store/caches/checkpoint-files.ts";
import { parentOf } from "../../file-store/disk/durable-directory.ts";
import { NAME_LOCK } from "../../file-store/disk/name-lock.ts";
import { CONSUMER_DIRECTORIES } from "./check-consumers.ts";
import type { Problem } from "../findings.ts";

const META = new Set([
  ...["streams.jsonl", "marker.json", "head", "lock", "turn", "reclaim", "stream_ends", "cuts.json"],
  ...["quarantine", "moves", "copying.json"],
  "declared",
]);
const TOP = new Set<string>(["streams", "commit_log", "keys", "meta", ...CONSUMER_DIRECTORIES]);

const AGAIN = "it is made again from the events when needed";

/** Looks for what does not belong into a store, what dead processes left, and directories that stand for one id. */
export function checkLayout(fs: FileSystem, paths: StorePaths): Problem[] {
  const problems: Problem[] = [];
  const check = (directory: string, belongs: (name: string, isDirectory: boolean) => boolean): void =>
    checkIn(fs, directory, belongs);
  const checkIn = (
    files: FileSystem,
    directory: string,
    belongs: (name: string, isDirectory: boolean) => boolean,
  ): void => {
    for (const { name, directory: isDirectory } of files.readDirectory(directory)) {
      if (belongs(name, isDirectory)) continue;
      const file = `${directory}/${name}`;
      if (name === "archive.jsonl.zst" && directory.startsWith(`${paths.streams}/`)) {
        const message = "eventfold has moved the stream's first events here; restoreArchives puts them back";
        problems.push({ kind: "archived-events", severity: "error", file, message });
        continue;
      }
      const original = name.endsWith(".tmp") ? name.slice(0, -4) : undefined;
      if (original !== undefined && !isDirectory && belongs(original, false)) {
        const message = "a file that was not written to its end; nothing reads it";
        const fix = { kind: "remove", path: file } as const;
        problems.push({ kind: "leftover", severity: "info", file, message, fix, remedy: "remove it" });
      } else problems.push({ kind: "unknown-file", severity: "info", file, message: "this is not part of the store" });
    }
  };
  const absent = (file: string, consequence: string): void => {
    if (fs.stat(file) === undefined)
      problems.push({ kind: "cache-missing", severity: "info", file, message: `there is none: ${consequence}` });
  };
  check(
    paths.base,
    (name, isDirectory) => isDirectory && (TOP.has(name) || `${paths.base}/${name}` === paths.newCommitLog),
  );
  if (fs.stat(paths.newCommitLog) !== undefined) {
    problems.push({
      kind: "leftover",
      severity: "info",
      file: paths.newCommitLog,
      message: "a commit log that was being made from the streams and is not complete; nothing reads it",
    });
  }
  check(paths.meta, (name) => META.has(name));
  check(`${paths.meta}/declared`, (name) => name === CHECKPOINT);
  check(
    parentOf(paths.subjectKeys),
    (name, isDirectory) => !isDirectory && `${parentOf(paths.subjectKeys)}/${name}` === paths.subjectKeys,
  );
  checkIn(
    SegmentFiles.on(fs).physical,
    paths.commitLog,
    (name, isDirectory) => !isDirectory && /^\d{16}\.jsonl(\.gz)?$/.test(name),
  );
  for (const kind of CONSUMER_DIRECTORIES) {
    const directory = `${paths.base}/${kind}`;
    check(directory, (name, isDirectory) => isDirectory && (isSafe(name) || encodeId(decodeId(name)) === name));
    for (const { name } of fs.readDirectory(directory).filter((entry) => entry.directory)) {
      check(
        `${directory}/${name}`,
        (file) =>
          file === CHECKPOINT ||
          (file === CRATE_CHECKPOINT && (kind === "projections" || kind === "process_managers")) ||
          (file === "dead_letters.jsonl" && kind === "process_managers") ||
          (file === NAME_LOCK && kind === "subscriptions"),
      );
      absent(`${directory}/${name}/${CHECKPOINT}`, kind === "subscriptions" ? "it begins at the first event" : AGAIN);
    }
  }
  check(paths.streams, (name, isDirectory) => isDirectory && isTypeName(decodeId(name)));
  for (const type of fs.readDirectory(paths.streams).filter((entry) => entry.directory)) {
    const directory = `${paths.streams}/${type.name}`;
    check(directory, (_, isDirectory) => isDirectory);
    const names = fs.readDirectory(directory).flatMap((entry) => (entry.directory ? [entry.name] : []));
    appendAll(problems, checkNames(directory, names));
    for (const name of names) {
      check(`${directory}/${name}`, (file, isDirectory) => file === (isDirectory ? "views" : "app.jsonl"));
      check(`${directory}/${name}/views`, (file, isDirectory) => file === "state.snapshot.json" && !isDirectory);
      if (fs.stat(`${directory}/${name}/views`)?.directory === true)
        absent(`${directory}/${name}/views/state.snapshot.json`, AGAIN);
    }
  }
  return problems;
}

function checkNames(directory: string, names: readonly string[]): Problem[] {
  const problems: Problem[] = [];
  const ids = new Map<string, string>();
  const folded = new Map<string, string>();
  for (const name of names) {
    const file = `${directory}/${name}`;
    const id = decodeId(name);
    const same = ids.get(id);
    if (same !== undefined) {
      const message = `the directories ${JSON.stringify(same)} and ${JSON.stringify(name)} stand for the same id ${JSON.stringify(id)}`;
      problems.push({ kind: "id-ambiguous", severity: "error", file, message });
    }
    ids.set(id, name);
    const key = name.normalize("NFC").toLowerCase();
    const alike = folded.get(key);
    if (alike !== undefined) {
      const message = `the ids ${JSON.stringify(alike)} and ${JSON.stringify(id)} are one directory on some other systems: do not copy the store there`;
      problems.push({ kind: "id-collision", severity: "info", file, message });
    }
    folded.set(key, id);
  }
  return problems;
}

function isSafe(name: string): boolean {
  try {
    return isPlainName(name) === "safe";
  } catch {
    return false;
  }
}
