import { type FullName, fullNameOf } from "../../stream-names.ts";
import type { FileHandle } from "../../fs/file-system.ts";
import { type StreamKey, streamOfKey } from "../disk/stream-key.ts";
import { parseLine } from "../lines/parse-line.ts";
import type { CommittedRecord } from "../log/committed-record.ts";
import { isReclaimed } from "../log/reclaimed-section.ts";
import type { Section } from "../log/record-sections.ts";
import type { ProgressLog } from "../progress/progress-log.ts";
import type { StreamFiles } from "../streams/stream-files.ts";
import type { NewStream, StreamRegistry } from "../streams/stream-registry.ts";
import type { UnappliedRecord } from "../streams/unapplied-records.ts";
import type { DirtyFiles } from "./dirty-files.ts";
import type { UnsettledStreams } from "./unsettled-streams.ts";

export interface ApplierParts {
  readonly files: StreamFiles;
  readonly registry: StreamRegistry;
  readonly progress: ProgressLog;
  readonly dirty: DirtyFiles;
  readonly unsettled: UnsettledStreams;
}

/** Writes the log's records to the streams' files, the registry and the dead letters. Writing a record again changes nothing. */
export class Applier {
  readonly #files: StreamFiles;
  readonly #registry: StreamRegistry;
  readonly #progress: ProgressLog;
  readonly #dirty: DirtyFiles;
  readonly #unsettled: UnsettledStreams;

  constructor(parts: ApplierParts) {
    this.#files = parts.files;
    this.#registry = parts.registry;
    this.#progress = parts.progress;
    this.#dirty = parts.dirty;
    this.#unsettled = parts.unsettled;
  }

  /** Writes what a durable record of this process holds to the files that it belongs to. Their streams are locked and end before it. */
  apply({ sections, buffer, created, notes }: UnappliedRecord): void {
    this.#progress.apply(notes);
    this.#write(sections, buffer);
    if (created.length > 0) this.#registry.append(created);
  }

  /** Does the same later: since then, the streams have not been locked. Call `settleAll` of the unsettled streams afterwards. */
  applyLate(record: UnappliedRecord): void {
    this.#progress.apply(record.notes);
    this.#writeMissing(record, () => false);
    if (record.created.length > 0) this.#registry.append(record.created);
  }

  /**
   * Writes a record that may have been written to its files before, in part or in whole. `registered` has the names of the
   * streams that are in the registry; those that the record adds are added to it. Call it in `whileAppending` of the unsettled streams,
   * and their `settleAll` afterwards.
   */
  reapply(record: CommittedRecord, registered: Set<FullName>): void {
    const { sections, buffer, notes } = record;
    const created: NewStream[] = [];
    for (const { key, version, start, end } of sections) {
      const stream = streamOfKey(key);
      const name = fullNameOf(stream);
      if (version !== 1 || registered.has(name)) continue;
      registered.add(name);
      created.push({ stream, seconds: secondsOf(buffer.toString("utf8", start, end)) });
    }
    this.#progress.apply(notes);
    this.#writeMissing(record, (section, lines) => this.#unsettled.append(section, lines));
    if (created.length > 0) this.#registry.append(created);
    for (const { key } of sections) this.#dirty.addStream(key, true);
  }

  #write(sections: readonly Section[], buffer: Buffer): void {
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
  }

  /** Adds the sections of a committed record that are not in their files to the unsettled streams. Writes nothing. */
  findMissing({ sections, buffer, place }: CommittedRecord): void {
    for (const section of sections)
      if (
        !isReclaimed(buffer, section) &&
        (this.#unsettled.has(section.key) ||
          foundInFile(this.#files.acquire(section.key).file, section, buffer) === undefined)
      )
        this.#unsettled.add(section, buffer, place);
  }

  /**
   * Writes the sections again that are in their files: after a failed flush, only bytes that were written again can be trusted.
   * The Rust crate may have appended to the other files, or do so now. Those that `append` does not write become unsettled.
   */
  #writeMissing(
    { sections, buffer, place }: CommittedRecord,
    append: (section: Section, lines: Buffer) => boolean,
  ): void {
    for (const section of sections) {
      const { key, start, end, at } = section;
      const { file } = this.#files.acquire(key);
      if (isReclaimed(buffer, section)) {
        // Whatever the file has there does not count, but what follows needs its place.
        const blank = Buffer.alloc(end - start, "\n");
        if (file.size() < at + blank.length && !append(section, blank)) file.write(blank, 0, blank.length, at);
        this.#unsettled.met(section);
        continue;
      }
      if (!this.#unsettled.has(key)) {
        const found = foundInFile(file, section, buffer);
        if (found !== undefined) {
          this.#unsettled.met(section);
          // Lines that were reclaimed must not be written again.
          if (!section.adopted && found === "lines") file.write(buffer, start, end - start, at);
          continue;
        }
        if (append(section, buffer.subarray(start, end))) continue;
      }
      this.#unsettled.add(section, buffer, place);
    }
  }
}

/** What a stream's file has in the place of a section: its lines, or blank ones, because they were dropped and reclaimed here. */
function foundInFile(file: FileHandle, { start, end, at }: Section, buffer: Buffer): "lines" | "blank" | undefined {
  const found = Buffer.alloc(end - start);
  if (file.read(found, 0, found.length, at) < found.length) return undefined;
  if (buffer.compare(found, 0, found.length, start, end) === 0) return "lines";
  return found.every((byte) => byte === LF) ? "blank" : undefined;
}

const LF = 0x0a;

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
    return Math.min(parseLine(line ?? "", (why) => new Error(why)).ts, Number.MAX_SAFE_INTEGER);
  } catch {
    return 0;
  }
}
