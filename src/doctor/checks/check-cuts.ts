import type { FileSystem } from "../../fs/file-system.ts";
import type { StorePaths } from "../../file-store/disk/store-paths.ts";
import type { Marker } from "../../file-store/recovery/marker.ts";
import { type CutRow, readCuts } from "../../file-store/streams/cuts.ts";
import type { Problem } from "../findings.ts";

/** Compares the list of cuts, and what the marker says of them, with the log. `cuts` are the log's, in its order. */
export function checkCuts(
  fs: FileSystem,
  paths: StorePaths,
  marker: Marker | undefined,
  cuts: readonly CutRow[],
): Problem[] {
  const problems: Problem[] = [];
  const last = lastCut(cuts, marker?.position ?? 0);
  if (marker !== undefined && marker.cut !== last) {
    problems.push({
      kind: "marker-damaged",
      severity: "error",
      file: paths.marker,
      message: `the marker says that position ${marker.cut} is the last one before it at which a stream was cut; in the commit log it is ${last}`,
      fix: { kind: "marker" },
      remedy: "let recovery start at a place that is right",
    });
  }
  if (fs.stat(paths.cuts) === undefined) {
    const message = "there is no list of deleted streams; it is made again from the commit log";
    if (last > 0) problems.push({ kind: "needs-recovery", severity: "info", file: paths.cuts, message });
    return problems;
  }
  const found = readCuts(fs, paths.cuts);
  const known = new Set(cuts.map(textOf));
  if (found?.every((row) => known.has(textOf(row))) === true) return problems;
  const why = found === undefined ? "cannot be read" : "has a cut that the commit log does not have";
  problems.push({
    kind: "cuts-damaged",
    severity: "warning",
    file: paths.cuts,
    message: `the list of deleted streams ${why}; it is made again from the commit log`,
    fix: { kind: "remove", path: paths.cuts },
    remedy: "remove the list of cuts",
  });
  return problems;
}

/** The position of the last cut up to a position; 0 for none. */
export function lastCut(cuts: readonly CutRow[], position: number): number {
  return cuts.findLast(([, cut]) => cut.position <= position)?.[1].position ?? 0;
}

function textOf([key, { version, at, position, kind }]: CutRow): string {
  return JSON.stringify([key, version, at, position, kind]);
}
