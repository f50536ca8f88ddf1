import type { FileSystem } from "../../fs/file-system.ts";
import { segmentHeader, segmentPath } from "../../file-store/log/segment.ts";
import { HEADER_ROOM, readRecord, sealRecord } from "../../file-store/log/record-format.ts";
import { Head } from "../../file-store/log/head.ts";
import { endsBefore } from "../../file-store/log/log-place.ts";
import type { StorePaths } from "../../file-store/disk/store-paths.ts";
import { quarantine } from "../../file-store/disk/quarantine.ts";
import { readWhole, replaceFile } from "../../file-store/disk/whole-file.ts";
import { readMarker } from "../../file-store/recovery/marker.ts";
import type { LogRun } from "../findings.ts";

/**
 * Puts runs of records into the commit log. Where a run is as long as what it replaces, or stands at the end, it is written in
 * place; otherwise the segment is replaced as a whole, and the offsets in it change.
 */
export class LogRepair {
  readonly #fs: FileSystem;
  readonly #paths: StorePaths;
  readonly #runs = new Map<number, LogRun[]>();

  constructor(fs: FileSystem, paths: StorePaths) {
    this.#fs = fs;
    this.#paths = paths;
  }

  add(run: LogRun): void {
    this.#runs.set(run.segment, [...(this.#runs.get(run.segment) ?? []), run]);
  }

  addHeader(segment: number): void {
    const records = Buffer.from(segmentHeader(segment));
    this.add({ segment, from: 0, to: records.length, records, isNew: false });
  }

  /**
   * Returns where the bytes are kept that were replaced. Afterwards `meta/head` says nothing if the log may end elsewhere now, but not
   * before: until then it tells, if we are stopped, that something is missing.
   */
  async carryOut(): Promise<{ readonly file: string; readonly path: string }[]> {
    const kept: { readonly file: string; readonly path: string }[] = [];
    for (const [segment, runs] of this.#runs) {
      const file = segmentPath(this.#paths.commitLog, segment);
      const old = readWhole(this.#fs, file) ?? Buffer.alloc(0);
      for (const { from, to } of runs) {
        const bytes = old.subarray(from, to);
        if (bytes.every((byte) => byte === 0)) continue;
        kept.push({ file, path: await quarantine(this.#fs, this.#paths, `commit_log.${segment}.${from}`, bytes) });
      }
      await this.#rewrite(
        segment,
        old,
        runs.toSorted((a, b) => a.from - b.from),
      );
    }
    if ([...this.#runs.values()].flat().some((run) => !isSameLength(run))) await this.#emptyHead();
    return kept;
  }

  async #emptyHead(): Promise<void> {
    const { head } = this.#paths;
    if (this.#fs.stat(head) === undefined) return;
    // It stays the same file: others may have it open.
    const file = this.#fs.open(head, "update");
    try {
      file.truncate(0);
      await file.flush();
    } finally {
      file.close();
    }
  }

  /**
   * Until the marker is written again, recovery must not begin at an offset that means something else now. That the log was once
   * durable up to there has to remain known until the log is mended: what is damaged would look like a torn tail otherwise.
   */
  async #removeMarker(): Promise<void> {
    const { head, marker } = this.#paths;
    const marked = readMarker(this.#fs, marker);
    if (marked !== undefined) {
      const file = new Head(this.#fs, head);
      try {
        const known = file.read();
        if (known === undefined || endsBefore(known, marked)) {
          file.write(marked);
          await file.flush();
        }
      } finally {
        file.close();
      }
    }
    this.#fs.remove(marker);
    await this.#fs.syncDirectory(this.#paths.meta);
  }

  async #rewrite(segment: number, old: Buffer, runs: readonly LogRun[]): Promise<void> {
    const file = segmentPath(this.#paths.commitLog, segment);
    const marker = readMarker(this.#fs, this.#paths.marker);
    if (marker?.segment === segment && runs.some((run) => !isSameLength(run) && marker.offset > run.from))
      await this.#removeMarker();
    if (runs.some(({ isNew }) => isNew)) {
      const records = runs.map((run) => run.records);
      this.#fs.makeDirectory(this.#paths.commitLog);
      await replaceFile(this.#fs, file, Buffer.concat([Buffer.from(segmentHeader(segment)), ...records]), true);
      await this.#fs.syncDirectory(this.#paths.base);
      return;
    }
    const isLast = ({ to }: LogRun): boolean => old.subarray(to).every((byte) => byte === 0);
    if (runs.every((run) => isSameLength(run) || isLast(run))) {
      await this.#writeInPlace(file, runs, isLast);
      return;
    }
    await this.#removeMarker();
    await replaceFile(this.#fs, file, spliced(old, runs), true);
  }

  async #writeInPlace(path: string, runs: readonly LogRun[], isLast: (run: LogRun) => boolean): Promise<void> {
    const file = this.#fs.open(path, "update");
    try {
      for (const run of runs) {
        file.write(run.records, 0, run.records.length, run.from);
        if (isLast(run)) file.truncate(run.from + run.records.length);
      }
      await file.flush();
    } finally {
      file.close();
    }
  }
}

/** Whether a run takes as much room as what it replaces, so that no offset means something else afterwards. */
function isSameLength({ records, from, to, isNew }: LogRun): boolean {
  return !isNew && records.length === to - from;
}

/** A segment with runs put in. */
function spliced(old: Buffer, runs: readonly LogRun[]): Buffer {
  const parts: Buffer[] = [];
  let length = 0;
  const add = (part: Buffer): void => {
    parts.push(part);
    length += part.length;
  };
  /** `base` is where these records stand in the segment, or were meant to. */
  const addRecords = (bytes: Buffer, base: number): void => {
    for (let at = 0; ;) {
      const read = readRecord(bytes, at, bytes.length, 0);
      if (read.kind !== "record") return;
      const { body, end } = read.header;
      // A record says up to where the segment was durable; that has moved with it.
      add(
        length === base + at
          ? bytes.subarray(at, end)
          : resealed(bytes.subarray(body, end), { ...read.header, flushed: length }),
      );
      at = end;
    }
  };
  const firstLine = runs[0]?.from === 0 ? 0 : old.indexOf("\n") + 1;
  add(old.subarray(0, firstLine));
  let from = firstLine;
  for (const run of runs) {
    addRecords(old.subarray(from, run.from), from);
    if (run.from === 0) add(run.records);
    else addRecords(run.records, run.from);
    from = run.to;
  }
  addRecords(old.subarray(from), from);
  return Buffer.concat(parts);
}

function resealed(body: Buffer, header: Parameters<typeof sealRecord>[2]): Buffer {
  const buffer = Buffer.concat([Buffer.alloc(HEADER_ROOM), body]);
  return buffer.subarray(sealRecord(buffer, buffer.length, header));
}
