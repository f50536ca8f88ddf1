import { appendAll } from "../../arrays.ts";
import { isUtf8 } from "node:buffer";
import { crc32 } from "node:zlib";
import type { StreamName } from "../../event-store/event-store.ts";
import type { FileHandle, FileSystem } from "../../fs/file-system.ts";
import type { StorePaths } from "../../file-store/disk/store-paths.ts";
import { readWhole } from "../../file-store/disk/whole-file.ts";
import { decodeId, isPlainName } from "../../stream-names.ts";
import { CHECKPOINT, CRATE_CHECKPOINT } from "../../file-store/caches/checkpoint-files.ts";
import { readCrateCheckpoint } from "../../file-store/caches/crate-checkpoint.ts";
import { loadLineHash } from "../../file-store/caches/snapshot-format.ts";
import { keyOfStream } from "../../file-store/disk/stream-key.ts";
import { correctText, differingBytes } from "../scan/one-byte-correction.ts";
import { lineAt, type Problem } from "../findings.ts";
import type { LoggedLetter, LogNotes, NotePlace } from "../scan/log-notes.ts";

export const CONSUMER_DIRECTORIES = ["projections", "process_managers", "subscriptions", "aggregates"] as const;

type ConsumerDirectory = (typeof CONSUMER_DIRECTORIES)[number] | "meta";

/** A checkpoint that was read. */
export interface FoundCheckpoint {
  readonly path: string;
  readonly kind: ConsumerDirectory;
  readonly name: string;
  /** Nothing for a damaged one. */
  readonly content: { readonly state: unknown; readonly position: number } | undefined;
  readonly bytes: Buffer;
}

/** Our checkpoints of all projections, process managers and subscriptions. */
export function findCheckpoints(fs: FileSystem, paths: StorePaths): FoundCheckpoint[] {
  return [...CONSUMER_DIRECTORIES, "meta" as const].flatMap((kind) =>
    fs
      .readDirectory(`${paths.base}/${kind}`)
      .filter((entry) => entry.directory)
      .flatMap(({ name: directory }) => {
        const path = `${paths.base}/${kind}/${directory}/${CHECKPOINT}`;
        const bytes = readWhole(fs, path);
        // The name of a consumer of the runtime is escaped: it has a colon.
        const name = decodeId(directory);
        return bytes === undefined ? [] : [{ path, kind, name, content: decode(bytes), bytes }];
      }),
  );
}

/** The note that a process manager had seen when it saved its checkpoint; 0 for none. */
export function sequenceOf({ kind, content }: FoundCheckpoint): number {
  const state = kind === "process_managers" ? content?.state : undefined;
  const sequence = (state as { readonly sequence?: unknown } | null | undefined)?.sequence;
  return Number.isSafeInteger(sequence) ? (sequence as number) : 0;
}

/** The problems of a checkpoint in a store whose log ends with `lastPosition`. */
export function checkCheckpoint(
  { path, kind, name, content, bytes }: FoundCheckpoint,
  lastPosition: number,
): Problem[] {
  const isSubscription = kind === "subscriptions";
  const consequence = isSubscription
    ? `the subscription ${name} will begin at the first event`
    : "it will be made again from the events";
  if (content === undefined) {
    const corrected = correctText(bytes);
    const where = { kind: "checkpoint-damaged", severity: "warning", file: path } as const;
    if (corrected !== undefined && decode(corrected) !== undefined) {
      return [
        {
          ...where,
          message: "the checkpoint does not match its checksum",
          fix: { kind: "replace", path, content: corrected },
          remedy: "put the damaged byte of the checkpoint right, which its checksum tells",
        },
      ];
    }
    return [
      {
        ...where,
        message: `the checkpoint cannot be read; ${consequence}`,
        fix: { kind: "remove", path },
        remedy: "remove the checkpoint",
        lossy: isSubscription,
      },
    ];
  }
  if (content.position <= lastPosition) return [];
  return [
    {
      kind: "checkpoint-damaged",
      severity: "warning",
      file: path,
      message: `the checkpoint is at position ${content.position}, and the store ends with ${lastPosition}; ${consequence}`,
      fix: { kind: "remove", path },
      remedy: "remove the checkpoint",
    },
  ];
}

/** The problems of the checkpoints of the Rust crate, which only the crate can make again. */
export async function checkCrateCheckpoints(fs: FileSystem, paths: StorePaths): Promise<Problem[]> {
  const files = { hash: await loadLineHash(), openStream: (stream: StreamName) => openStream(fs, paths, stream) };
  return (["projections", "process_managers"] as const).flatMap((kind) =>
    fs
      .readDirectory(`${paths.base}/${kind}`)
      .filter((entry) => entry.directory)
      .flatMap(({ name }): Problem[] => {
        const file = `${paths.base}/${kind}/${name}/${CRATE_CHECKPOINT}`;
        const bytes = readWhole(fs, file);
        if (bytes === undefined) return [];
        const read = isUtf8(bytes) ? readCrateCheckpoint(bytes, files) : { problem: "it is not UTF-8" };
        if (!("problem" in read)) return [];
        const message = `the Rust crate's checkpoint cannot be trusted: ${read.problem}`;
        return [{ kind: "checkpoint-damaged", severity: "warning", file, message }];
      }),
  );
}

function openStream(fs: FileSystem, paths: StorePaths, stream: StreamName): FileHandle | undefined {
  try {
    return fs.open(`${paths.streams}/${keyOfStream(fs, paths, stream)}/app.jsonl`, "read");
  } catch {
    // It is not there, or cannot be read; another check reports that.
    return undefined;
  }
}

/** Compares dead letters with what the log says; `unsettled` tells what recovery still has to carry over. */
export function checkDeadLetters(
  fs: FileSystem,
  paths: StorePaths,
  notes: LogNotes,
  unsettled: (place: NotePlace) => boolean,
): { readonly problems: Problem[]; readonly count: number } {
  const names = new Set([
    ...notes.consumers.keys(),
    ...fs
      .readDirectory(`${paths.base}/process_managers`)
      .filter((entry) => entry.directory)
      .map(({ name }) => name),
  ]);
  const problems: Problem[] = [];
  let count = 0;
  for (const name of names) {
    if (!isName(name)) continue;
    const path = `${paths.base}/process_managers/${name}/dead_letters.jsonl`;
    const letters = compareLetters(
      path,
      readWhole(fs, path) ?? Buffer.alloc(0),
      notes.consumers.get(name)?.letters ?? new Map(),
      unsettled,
    );
    appendAll(problems, letters.problems);
    count += letters.count;
  }
  return { problems, count };
}

/** A line of `dead_letters.jsonl`, without its LF. */
interface LetterLine {
  readonly bytes: Buffer;
  readonly offset: number;
}

/** Compares bytes, not text: a damaged or cut character decodes to a different one. */
function compareLetters(
  path: string,
  raw: Buffer,
  expected: ReadonlyMap<string, LoggedLetter | undefined>,
  unsettled: (place: NotePlace) => boolean,
): { readonly problems: Problem[]; readonly count: number } {
  const missing = new Map([...expected].flatMap(([key, letter]) => (letter === undefined ? [] : [[key, letter]])));
  const kept: Buffer[] = [];
  const unknown: (LetterLine & { readonly readable: boolean })[] = [];
  const wrong: { readonly offset: number; readonly message: string }[] = [];
  const lines = letterLines(raw).map((line) => ({ ...line, ...keyOf(line.bytes) }));
  const last = new Map(lines.map(({ key, offset }) => [key, offset]));
  const differs = "this dead letter differs from the commit log's";
  for (const { bytes, offset, readable, key } of lines) {
    const letter = key === undefined ? undefined : expected.get(key);
    if (key === undefined || !expected.has(key)) unknown.push({ bytes, offset, readable });
    // A settled letter, or a line that a later one replaces, stays until the file is made smaller.
    else if (letter !== undefined && last.get(key) === offset) {
      if (!bytes.equals(letter.line)) wrong.push({ offset, message: differs });
      if (missing.delete(key)) kept.push(letter.line);
    }
  }
  const problems: Problem[] = [];
  for (const { bytes, offset, readable } of unknown) {
    if ([...missing.values()].some(({ line }) => isRemnant(bytes, line))) {
      wrong.push({ offset, message: differs });
      continue;
    }
    kept.push(bytes);
    if (readable) continue;
    problems.push({
      kind: "dead-letters-damaged",
      severity: "error",
      file: path,
      line: lineAt(raw, offset),
      offset,
      message: "this dead letter cannot be read, and the commit log does not have it",
    });
  }
  const newline = Buffer.from("\n");
  const content = Buffer.concat(
    [...kept, ...[...missing.values()].map(({ line }) => line)].flatMap((line) => [line, newline]),
  );
  const fix = {
    fix: { kind: "replace", path, content },
    remedy: "write the dead letters again from the commit log",
  } as const;
  const damage = { kind: "dead-letters-damaged", severity: "error", file: path, ...fix } as const;
  for (const { offset, message } of wrong) problems.push({ ...damage, line: lineAt(raw, offset), offset, message });
  for (const [key, { place }] of missing) {
    const message = `the dead letter ${key} is missing`;
    problems.push(
      unsettled(place) ? { ...damage, kind: "needs-recovery", severity: "info", message } : { ...damage, message },
    );
  }
  if (problems.length === 0 && raw.length > 0 && raw.at(-1) !== 0x0a)
    problems.push({ ...damage, offset: raw.length, message: "the last line has no end" });
  return { problems, count: kept.length + missing.size };
}

function letterLines(raw: Buffer): LetterLine[] {
  const lines: LetterLine[] = [];
  for (let start = 0; start < raw.length;) {
    const stop = raw.indexOf("\n", start);
    const bytes = raw.subarray(start, stop < 0 ? raw.length : stop);
    if (bytes.toString("utf8").trim() !== "") lines.push({ bytes, offset: start });
    start += bytes.length + 1;
  }
  return lines;
}

/** Whether a line could be another one in which bytes at one place were removed, added or changed. */
function isRemnant(bytes: Buffer, line: Buffer): boolean {
  const shorter = Math.min(bytes.length, line.length);
  let start = 0;
  while (start < shorter && bytes[start] === line[start]) start++;
  let end = 0;
  while (end < shorter && bytes.at(-1 - end) === line.at(-1 - end)) end++;
  return start + end >= shorter || differingBytes(bytes, line) < 9;
}

function keyOf(bytes: Buffer): { readonly readable: boolean; readonly key: string | undefined } {
  try {
    const letter = JSON.parse(bytes.toString("utf8")) as { readonly key?: unknown } | null;
    if (typeof letter !== "object" || letter === null) return { readable: false, key: undefined };
    return { readable: isUtf8(bytes), key: typeof letter.key === "string" ? letter.key : undefined };
  } catch {
    return { readable: false, key: undefined };
  }
}

function isName(name: string): boolean {
  try {
    return isPlainName(name) === "safe";
  } catch {
    return false;
  }
}

function decode(bytes: Buffer): FoundCheckpoint["content"] {
  if (!isUtf8(bytes)) return undefined;
  const text = bytes.toString("utf8");
  const checksum = /,"crc":"([0-9a-f]{8})"\}$/.exec(text.slice(-20));
  try {
    if (checksum === null) return undefined;
    const checked = text.slice(0, -checksum[0].length);
    if (crc32(checked) !== Number.parseInt(checksum[1] ?? "", 16)) return undefined;
    const value = JSON.parse(`${checked}}`) as { readonly state?: unknown; readonly position?: unknown };
    return Number.isSafeInteger(value.position)
      ? { state: value.state, position: value.position as number }
      : undefined;
  } catch {
    return undefined;
  }
}
