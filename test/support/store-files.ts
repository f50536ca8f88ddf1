import * as fs from "node:fs";
import * as path from "node:path";
import type { StoreFiles } from "eventfold-es/testing";

/** One line of an `app.jsonl`, parsed. */
export interface FileLine {
  readonly type: string;
  readonly data: unknown;
  readonly ts: number;
  readonly id?: string;
  readonly actor?: string;
  readonly meta?: Readonly<Record<string, unknown>>;
  readonly ms?: number;
  readonly pos?: number;
}

export function streamFile(store: string, type: string, id: string): string {
  return path.join(store, "streams", type, id, "app.jsonl");
}

/** The lines of a file. Throws if the last one is incomplete. */
export function linesOf(file: string): string[] {
  const text = fs.readFileSync(file, "utf8");
  if (text !== "" && !text.endsWith("\n")) throw new Error(`${file}: expected a complete last line`);
  return text.split("\n").slice(0, -1);
}

/** Paths of all `app.jsonl` files below `streams/`, by `<type>/<directory>`. */
export function streamFiles(store: string): Map<string, string> {
  const files = new Map<string, string>();
  const streams = path.join(store, "streams");
  for (const type of fs.readdirSync(streams)) {
    for (const name of fs.readdirSync(path.join(streams, type)))
      files.set(`${type}/${name}`, path.join(streams, type, name, "app.jsonl"));
  }
  return files;
}

/** Every event line of the store's streams, parsed, with its `<type>/<directory>`. */
export function allLines(store: string): { readonly stream: string; readonly text: string; readonly line: FileLine }[] {
  return [...streamFiles(store)].flatMap(([stream, file]) =>
    linesOf(file).map((text) => ({ stream, text, line: JSON.parse(text) as FileLine })),
  );
}

/** Paths of the commit log's segments, in order. */
export function logSegments(store: string): string[] {
  const directory = path.join(store, "commit_log");
  return fs
    .readdirSync(directory)
    .sort()
    .map((name) => path.join(directory, name));
}

/** All files below a directory, by their relative paths. */
export function treeOf(directory: string): Map<string, Buffer> {
  const entries = fs.readdirSync(directory, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name));
  return new Map(files.sort().map((file) => [path.relative(directory, file), fs.readFileSync(file)]));
}

/** The numbers from 1 to `count`. */
export function oneTo(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i + 1);
}

/** The first error in numbers that should be `first`, `first + 1` … `last` in some order; "" if there is none. */
export function holes(numbers: readonly number[], last: number, first = 1): string | undefined {
  const sorted = [...numbers].sort((a, b) => a - b);
  const wrong = sorted.findIndex((number, i) => number !== first + i);
  if (wrong >= 0) return `expected ${first + wrong}, found ${sorted[wrong]}`;
  return sorted.length === last - first + 1 ? undefined : `they end with ${sorted.at(-1)}, not with ${last}`;
}

/** The files below a directory, for `checkStoreFiles`. */
export function filesOf(directory: string): StoreFiles {
  return {
    files: () =>
      fs
        .readdirSync(directory, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => path.join(entry.parentPath, entry.name)),
    bytesOf: (file) => (fs.existsSync(file) ? fs.readFileSync(file) : undefined),
  };
}
