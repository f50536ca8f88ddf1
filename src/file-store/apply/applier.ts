import type { FileSystem } from "../../fs/file-system.ts";
import { quarantineNow } from "../disk/quarantine.ts";
import type { StorePaths } from "../disk/store-paths.ts";
import { type StreamKey, streamOfKey } from "../disk/stream-key.ts";
import { parseLine } from "../lines/parse-line.ts";
import type { CommittedRecord } from "../log/committed-record.ts";
import type { Section } from "../log/record-sections.ts";
import type { ProgressLog } from "../progress/progress-log.ts";
import type { StreamFiles } from "../streams/stream-files.ts";
import { type NewStream, nameOf, type StreamRegistry } from "../streams/stream-registry.ts";
import type { UnappliedRecord } from "../streams/unapplied-records.ts";
import type { DirtyFiles } from "./dirty-files.ts";

export interface ApplierParts {
  readonly fs: FileSystem;
  readonly paths: StorePaths;
  readonly files: StreamFiles;
  readonly registry: StreamRegistry;
  readonly progress: ProgressLog;
  readonly dirty: DirtyFiles;
}

/** Writes the log's records to the streams' files, the registry and the dead letters. Writing a record again changes nothing. */
export class Applier {
  readonly #fs: FileSystem;
  readonly #paths: StorePaths;
  readonly #files: StreamFiles;
  readonly #registry: StreamRegistry;
  readonly #progress: ProgressLog;
  readonly #dirty: DirtyFiles;

  constructor(parts: ApplierParts) {
    this.#fs = parts.fs;
    this.#paths = parts.paths;
    this.#files = parts.files;
    this.#registry = parts.registry;
    this.#progress = parts.progress;
    this.#dirty = parts.dirty;
  }

  /** Writes what a durable record of this process holds to the files that it belongs to. */
  apply({ sections, buffer, created, notes }: UnappliedRecord): void {
    this.#progress.apply(notes);
    this.#write(sections, buffer, created);
  }

  /**
   * Writes a record that may have been written to its files before, in part or in whole. `registered` has the names of the
   * streams that are in the registry; those that the record adds are added to it.
   */
  reapply({ sections, buffer, notes }: CommittedRecord, registered: Set<string>): void {
    const created: NewStream[] = [];
    for (const { key, version, start, end } of sections) {
      const stream = streamOfKey(key);
      const name = nameOf(stream);
      if (version !== 1 || registered.has(name)) continue;
      registered.add(name);
      created.push({ stream, seconds: secondsOf(buffer.toString("utf8", start, end)) });
    }
    this.#progress.apply(notes);
    // What was found in a stream's file may be gone from it: then it, too, comes from the log.
    const missing = sections.map((section) => ({
      ...section,
      adopted: this.#isInFile(section, buffer) && section.adopted,
    }));
    this.#write(missing, buffer, created);
    for (const { key } of sections) this.#dirty.addStream(key, true);
  }

  #write(sections: readonly Section[], buffer: Buffer, created: readonly NewStream[]): void {
    for (const run of runsOf(sections)) {
      const [{ key, at, start, end, adopted }] = run;
      // Adopted lines are in the file already.
      if (adopted) continue;
      const { file, created: isNew } = this.#files.acquire(key);
      if (run.length === 1) file.write(buffer, start, end - start, at);
      else {
        const bytes = Buffer.concat(run.map((section) => buffer.subarray(section.start, section.end)));
        file.write(bytes, 0, bytes.length, at);
      }
      if (isNew) this.#dirty.addStream(key, true);
    }
    if (created.length > 0) this.#registry.append(created);
  }

  /**
   * Whether a section's bytes are in the stream's file. Other bytes in their place, unless they are zeros, were written by
   * another program in between: they go to the quarantine.
   */
  #isInFile(section: Section, buffer: Buffer): boolean {
    const { file } = this.#files.acquire(section.key);
    const found = Buffer.alloc(section.end - section.start);
    const length = file.read(found, 0, found.length, section.at);
    const ours = buffer.subarray(section.start, section.start + length);
    if (found.subarray(0, length).equals(ours)) return length === found.length;
    // In a torn write of ours, every byte is the right one or was never written.
    if (!found.subarray(0, length).every((byte, i) => byte === ours[i] || byte === 0))
      quarantineNow(this.#fs, this.#paths, `${section.key}.${section.at}`, found.subarray(0, length));
    return false;
  }
}

type Run = [Section, ...Section[]];

/** Sections by what one write can do: those that follow each other in one stream's file belong together. */
function runsOf(sections: readonly Section[]): Iterable<Run> {
  const runs: Run[] = [];
  const last = new Map<StreamKey, Run>();
  for (const section of sections) {
    const run = last.get(section.key);
    const before = run?.[run.length - 1];
    if (
      run !== undefined &&
      before !== undefined &&
      before.at + before.end - before.start === section.at &&
      before.adopted === section.adopted
    ) {
      run.push(section);
      continue;
    }
    const fresh: Run = [section];
    runs.push(fresh);
    last.set(section.key, fresh);
  }
  return runs;
}

/** The time of the first event in a section's text; 0 if it cannot be read. */
function secondsOf(text: string): number {
  const line = text.split("\n").find((candidate) => candidate.trim() !== "");
  try {
    return parseLine(line ?? "", (why) => new Error(why)).ts;
  } catch {
    return 0;
  }
}
