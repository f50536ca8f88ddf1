import { crc32 } from "node:zlib";
import type { FileSystem } from "../../fs/file-system.ts";
import { type Layout, readWhole } from "../layout.ts";
import { isPlainName } from "../stream-directory.ts";
import { correctText, differingBytes } from "./correction.ts";
import { lineAt, type Problem } from "./findings.ts";
import type { LoggedLetter, LogNotes, NotePlace } from "./log-notes.ts";

export const CONSUMER_DIRECTORIES = ["projections", "process_managers", "subscriptions"] as const;

type ConsumerDirectory = (typeof CONSUMER_DIRECTORIES)[number];

/** A checkpoint that was read. */
export interface FoundCheckpoint {
  readonly path: string;
  readonly kind: ConsumerDirectory;
  readonly name: string;
  /** Its content with `state` and `position`, `"original"` for one of the Rust crate, nothing for a damaged one. */
  readonly content: { readonly state: unknown; readonly position: number } | "original" | undefined;
  readonly bytes: Buffer;
}

/** The checkpoints of all projections, process managers and subscriptions. */
export function findCheckpoints(fs: FileSystem, layout: Layout): FoundCheckpoint[] {
  return CONSUMER_DIRECTORIES.flatMap((kind) =>
    fs
      .readDirectory(`${layout.base}/${kind}`)
      .filter((entry) => entry.directory)
      .flatMap(({ name }) => {
        const path = `${layout.base}/${kind}/${name}/checkpoint.json`;
        const bytes = readWhole(fs, path);
        return bytes === undefined ? [] : [{ path, kind, name, content: decode(bytes), bytes }];
      }),
  );
}

/** The note that a process manager had seen when it saved its checkpoint; 0 for none. */
export function sequenceOf({ kind, content }: FoundCheckpoint): number {
  const state = kind === "process_managers" && typeof content === "object" ? content.state : undefined;
  const sequence = (state as { readonly sequence?: unknown } | null | undefined)?.sequence;
  return Number.isSafeInteger(sequence) ? (sequence as number) : 0;
}

/** What is wrong with a checkpoint in a store whose log ends with `lastPosition`. */
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
  if (content === "original" || content.position <= lastPosition) return [];
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

/** Compares dead letters with what the log says; `unsettled` tells what recovery still has to carry over. */
export function checkDeadLetters(
  fs: FileSystem,
  layout: Layout,
  notes: LogNotes,
  unsettled: (place: NotePlace) => boolean,
): { readonly problems: Problem[]; readonly count: number } {
  const names = new Set([
    ...notes.consumers.keys(),
    ...fs
      .readDirectory(`${layout.base}/process_managers`)
      .filter((entry) => entry.directory)
      .map(({ name }) => name),
  ]);
  const problems: Problem[] = [];
  let count = 0;
  for (const name of names) {
    if (!isName(name)) continue;
    const path = `${layout.base}/process_managers/${name}/dead_letters.jsonl`;
    const letters = compareLetters(
      path,
      readWhole(fs, path),
      notes.consumers.get(name)?.letters ?? new Map(),
      unsettled,
    );
    problems.push(...letters.problems);
    count += letters.count;
  }
  return { problems, count };
}

function compareLetters(
  path: string,
  bytes: Buffer | undefined,
  expected: ReadonlyMap<string, LoggedLetter | undefined>,
  unsettled: (place: NotePlace) => boolean,
): { readonly problems: Problem[]; readonly count: number } {
  const raw = bytes ?? Buffer.alloc(0);
  const lines: { readonly text: string; readonly bytes: Buffer; readonly offset: number }[] = [];
  for (let start = 0; start < raw.length;) {
    const stop = raw.indexOf("\n", start);
    const end = stop < 0 ? raw.length : stop;
    const text = raw.toString("utf8", start, end);
    if (text.trim() !== "") lines.push({ text, bytes: raw.subarray(start, end), offset: start });
    start = end + 1;
  }
  const missing = new Map([...expected].flatMap(([key, letter]) => (letter === undefined ? [] : [[key, letter]])));
  const kept: string[] = [];
  const unknown: ((typeof lines)[number] & { readonly readable: boolean })[] = [];
  const wrong: { readonly offset: number; readonly message: string }[] = [];
  for (const line of lines) {
    const { readable, key } = keyOf(line.text);
    const letter = key === undefined ? undefined : expected.get(key);
    if (key === undefined || !expected.has(key)) unknown.push({ ...line, readable });
    else if (letter === undefined) wrong.push({ ...line, message: "this dead letter was settled" });
    else {
      if (line.text !== letter.text) wrong.push({ ...line, message: "this dead letter differs from the commit log's" });
      if (missing.delete(key)) kept.push(letter.text);
    }
  }
  const problems: Problem[] = [];
  for (const line of unknown) {
    const original = [...missing.values()].find(
      ({ text }) =>
        text.startsWith(line.text) || line.text.startsWith(text) || differingBytes(Buffer.from(text), line.bytes) < 9,
    );
    if (original !== undefined) wrong.push({ ...line, message: "this dead letter differs from the commit log's" });
    else {
      kept.push(line.text);
      if (line.readable) continue;
      problems.push({
        kind: "dead-letters-damaged",
        severity: "error",
        file: path,
        line: lineAt(raw, line.offset),
        offset: line.offset,
        message: "this dead letter cannot be read, and the commit log does not have it",
      });
    }
  }
  const content = [...kept, ...[...missing.values()].map(({ text }) => text)].map((text) => `${text}\n`).join("");
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

function keyOf(text: string): { readonly readable: boolean; readonly key: string | undefined } {
  try {
    const letter = JSON.parse(text) as { readonly key?: unknown } | null;
    if (typeof letter !== "object" || letter === null) return { readable: false, key: undefined };
    return { readable: true, key: typeof letter.key === "string" ? letter.key : undefined };
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
  const text = bytes.toString("utf8");
  const checksum = /,"crc":"([0-9a-f]{8})"\}$/.exec(text.slice(-20));
  try {
    if (checksum === null) {
      const value = JSON.parse(text) as { readonly state?: unknown; readonly cursors?: unknown } | null;
      const isOriginal = typeof value?.cursors === "object" && value.cursors !== null && value.state !== undefined;
      return isOriginal ? "original" : undefined;
    }
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
