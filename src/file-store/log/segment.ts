import type { FileSystem } from "../../fs/file-system.ts";

/** The number in `"format"` of a segment's first line. */
export const FORMAT = 1;

export function segmentHeader(first: number): string {
  return `{"eventfold-es":"commit log","format":${FORMAT},"first":${first}}\n`;
}

export function segmentPath(directory: string, segment: number): string {
  return `${directory}/${String(segment).padStart(16, "0")}.jsonl`;
}

export function listSegments(fs: FileSystem, directory: string): number[] {
  return fs
    .readDirectory(directory)
    .filter((entry) => !entry.directory && /^\d{16}\.jsonl$/.test(entry.name))
    .map((entry) => Number(entry.name.slice(0, 16)))
    .sort((a, b) => a - b);
}
