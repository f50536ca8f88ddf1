import { largest } from "../arrays.ts";
import { EventfoldError } from "../errors.ts";
import { type FileHandle, type FileSystem, systemErrorCode } from "../fs/file-system.ts";
import { openNodeFileSystem } from "../fs/node-file-system.ts";
import { Head } from "../file-store/log/head.ts";
import { ioError } from "../file-store/disk/io-error.ts";
import { type StorePaths, storePaths } from "../file-store/disk/store-paths.ts";
import { quarantine } from "../file-store/disk/quarantine.ts";
import { readWhole, replaceFile } from "../file-store/disk/whole-file.ts";
import { writeCuts } from "../file-store/streams/cuts.ts";
import { writeMarker } from "../file-store/recovery/marker.ts";
import { SegmentFiles } from "../file-store/log/segment-files.ts";
import { isReclaimed } from "../file-store/log/reclaimed-section.ts";
import { StoreLock } from "../file-store/disk/store-lock.ts";
import {
  type Finding,
  findingOf,
  type Fix,
  type LogBytes,
  readAt,
  type RepairAction,
  type RepairOptions,
  type RepairReport,
} from "./findings.ts";
import { LogRepair } from "./fixes/log-repair.ts";
import { Diagnosis } from "./diagnosis.ts";

/** How often a repair may reveal new problems: the log comes first, then the files that are compared with it. */
const MAX_ROUNDS = 6;

/**
 * Fixes what `verify` finds. A damaged event is restored from its other copy, in the commit log or in the stream's file; a damaged
 * cache is removed. Replaced bytes move to `meta/quarantine/`. No other process may have the store open. A killed
 * repair can be run again. Throws like `verify`, and `STREAM_LOCKED`, `STORE_BUSY`, `DISK_FULL`, `IO_ERROR`.
 */
export async function repair(directory: string, options: RepairOptions = {}): Promise<RepairReport> {
  const fs = SegmentFiles.on(options.fileSystem ?? (await openNodeFileSystem()));
  const paths = storePaths(fs.resolve(directory));
  if (fs.stat(paths.base)?.directory !== true)
    throw new EventfoldError("INVALID_ARGUMENT", `there is no directory ${paths.base}`);
  try {
    fs.makeDirectory(paths.meta);
    const lock = StoreLock.open(fs, paths.lock, { turn: paths.turn });
    try {
      return await lock.hold(() => new Repair(fs, paths).run(options.dryRun === true));
    } finally {
      lock.close();
    }
  } catch (error) {
    throw ioError(error, `repairing the store in ${paths.base}`);
  }
}

class Repair {
  readonly #fs: FileSystem;
  readonly #paths: StorePaths;
  readonly #actions: RepairAction[] = [];

  constructor(fs: FileSystem, paths: StorePaths) {
    this.#fs = fs;
    this.#paths = paths;
  }

  async run(dryRun: boolean): Promise<RepairReport> {
    let diagnosis = await this.#diagnose();
    const before = diagnosis.report();
    const lost = new Map<string, Finding>();
    for (let round = 0; ; round++) {
      for (const problem of diagnosis.problems) {
        if (problem.kind !== "event-lost" && problem.kind !== "notes-lost") continue;
        const finding = findingOf(problem);
        lost.set(`${finding.file} ${finding.message}`, finding);
      }
      if (dryRun || round === MAX_ROUNDS || !diagnosis.problems.some(({ fix }) => fix !== undefined)) break;
      await this.#carryOut(diagnosis);
      diagnosis = await this.#diagnose();
    }
    if (dryRun) {
      for (const { fix, remedy, file } of diagnosis.problems)
        if (fix !== undefined) this.#actions.push({ file, message: remedy ?? "" });
    }
    const actions = this.#actions;
    return {
      directory: this.#paths.base,
      dryRun,
      actions,
      lost: [...lost.values()],
      before,
      after: diagnosis.report(),
    };
  }

  #diagnose(): Promise<Diagnosis> {
    // We hold the lock already.
    return Diagnosis.make(this.#fs, this.#paths.base, async (work) => {
      await work();
      return true;
    });
  }

  async #carryOut(diagnosis: Diagnosis): Promise<void> {
    const fixes = diagnosis.problems.flatMap(({ fix, remedy = "", file }) =>
      fix === undefined ? [] : [{ fix, remedy, file }],
    );
    const ofLog = fixes.filter(({ fix }) => fix.kind === "log" || fix.kind === "log-header");
    if (ofLog.length > 0) {
      // Everything else is compared with the log, so that comes first, and then another look at the rest.
      const repair = new LogRepair(this.#fs, this.#paths);
      for (const { fix, remedy, file } of ofLog) {
        if (fix.kind === "log") repair.add(fix.run);
        else if (fix.kind === "log-header") repair.addHeader(fix.segment);
        this.#actions.push({ file, message: remedy });
      }
      for (const quarantined of await repair.carryOut())
        this.#actions.push({
          file: quarantined.file,
          message: "move replaced bytes to quarantine",
          quarantined: quarantined.path,
        });
      return;
    }
    const restores = new Map<string, { readonly at: number; readonly source: LogBytes }[]>();
    const done = new Set<string>();
    for (const { fix, remedy, file } of fixes) {
      if (fix.kind === "restore") {
        restores.set(fix.path, [...(restores.get(fix.path) ?? []), fix]);
        continue;
      }
      if (fix.kind === "marker") continue;
      // Several findings in one file can have one remedy.
      if (done.has(`${fix.kind} ${file}`)) continue;
      done.add(`${fix.kind} ${file}`);
      this.#note(
        file,
        remedy,
        await this.#apply(fix as Exclude<Fix, { readonly kind: "log" | "log-header" | "restore" | "marker" }>),
      );
    }
    for (const [path, parts] of restores) {
      const bytes = parts.reduce((sum, { source }) => sum + source.length, 0);
      this.#note(path, `write ${bytes} bytes from the commit log`, await this.#restore(path, parts));
    }
    const marker = fixes.find(({ fix }) => fix.kind === "marker");
    if (marker !== undefined) this.#note(marker.file, marker.remedy, await this.#moveMarker(diagnosis));
  }

  #note(file: string, message: string, quarantined: string | undefined): void {
    this.#actions.push(quarantined === undefined ? { file, message } : { file, message, quarantined });
  }

  /** Returns where the replaced bytes are kept. */
  async #apply(
    fix: Exclude<Fix, { readonly kind: "log" | "log-header" | "restore" | "marker" }>,
  ): Promise<string | undefined> {
    const fs = this.#fs;
    const { path } = fix;
    const directory = path.slice(0, path.lastIndexOf("/"));
    if (fix.kind === "cut") {
      const kept = await this.#keep(path, fix.from, Infinity);
      await withFile(fs.open(path, "update"), async (file) => {
        this.#lockStream(file);
        file.truncate(fix.from);
        await file.flush();
      });
      return kept;
    }
    if (fix.kind === "remove" && fs.stat(path)?.directory === true) {
      fs.makeDirectory(this.#paths.quarantine);
      const kept = `${this.#paths.quarantine}/${path.slice(path.lastIndexOf("/") + 1)}`;
      fs.remove(kept);
      fs.rename(path, kept);
      return kept;
    }
    const kept = await this.#keep(path, undefined, Infinity);
    if (fix.kind === "remove") {
      fs.remove(path);
      await fs.syncDirectory(directory);
    } else if (fix.kind === "replace") {
      fs.makeDirectory(directory);
      await replaceFile(fs, path, fix.content, true);
    } else {
      const bytes = Buffer.from(fix.content);
      await withFile(fs.open(path, "create"), async (file) => {
        file.write(bytes, 0, bytes.length, 0);
        file.truncate(bytes.length);
        await file.flush();
      });
      await fs.syncDirectory(directory);
    }
    return kept;
  }

  /** Writes parts of a stream's file again; it stays the same file, since others may have it open. */
  async #restore(
    path: string,
    parts: readonly { readonly at: number; readonly source: LogBytes }[],
  ): Promise<string | undefined> {
    const from = parts.reduce((first, { at }) => Math.min(first, at), Infinity);
    const to = largest(
      parts.map(({ at, source }) => at + source.length),
      0,
    );
    const kept = await this.#keep(path, from, to);
    const directory = path.slice(0, path.lastIndexOf("/"));
    this.#fs.makeDirectory(directory);
    await withFile(this.#fs.open(path, "create"), async (file) => {
      this.#lockStream(file);
      for (const { at, source } of parts) {
        const bytes = readAt(this.#fs, source.path, source.offset, source.length);
        // A stream's file has empty lines in the place of reclaimed ones.
        if (isReclaimed(bytes, { start: 0, end: bytes.length })) bytes.fill("\n");
        file.write(bytes, 0, bytes.length, at);
      }
      await file.flush();
    });
    for (
      let parent = directory;
      parent.length >= this.#paths.base.length;
      parent = parent.slice(0, parent.lastIndexOf("/"))
    )
      await this.#fs.syncDirectory(parent);
    return kept;
  }

  #lockStream(file: FileHandle): void {
    if (!file.tryLock())
      throw new EventfoldError(
        "STREAM_LOCKED",
        `${file.path} is locked by another process; close that process and run repair again`,
      );
  }

  async #moveMarker(diagnosis: Diagnosis): Promise<string | undefined> {
    const { marker, head, meta } = this.#paths;
    const kept = await this.#keep(marker, undefined, Infinity);
    if (diagnosis.hasGaps) {
      // Recovery cannot read past the gap, so it has to begin after it.
      for (const path of diagnosis.streamFiles) await flushIfThere(this.#fs, path);
      // For the same reason, the cuts cannot be found in the log.
      if (diagnosis.cuts.length > 0) await writeCuts(this.#fs, this.#paths.cuts, diagnosis.cuts);
      await writeMarker(this.#fs, marker, diagnosis.newMarker);
    } else {
      this.#fs.remove(marker);
      await this.#fs.syncDirectory(meta);
    }
    const file = new Head(this.#fs, head);
    try {
      file.write(diagnosis.end);
      // If the power fails, the old place must not come back: it may lie after the log's end.
      await file.flush();
    } finally {
      file.close();
    }
    return kept;
  }

  /** Moves a part of a file to quarantine, unless it is empty. */
  async #keep(path: string, from: number | undefined, to: number): Promise<string | undefined> {
    const bytes = readWhole(this.#fs, path)?.subarray(from ?? 0, to);
    if (bytes === undefined || bytes.every((byte) => byte === 0)) return undefined;
    return quarantine(this.#fs, this.#paths, quarantineName(this.#paths, path, from), bytes);
  }
}

function quarantineName(paths: StorePaths, path: string, from: number | undefined): string {
  const offset = from === undefined ? "" : `.${from}`;
  if (path.startsWith(`${paths.streams}/`) && path.endsWith("/app.jsonl"))
    return `${path.slice(paths.streams.length + 1, -"/app.jsonl".length)}${offset}`;
  return `${path.slice(paths.base.length + 1)}${offset}`;
}

async function withFile(file: FileHandle, work: (file: FileHandle) => Promise<void>): Promise<void> {
  try {
    await work(file);
  } finally {
    file.close();
  }
}

async function flushIfThere(fs: FileSystem, path: string): Promise<void> {
  try {
    await withFile(fs.open(path, "update"), (file) => file.flush());
  } catch (error) {
    if (systemErrorCode(error) !== "ENOENT") throw error;
  }
}
