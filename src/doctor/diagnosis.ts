import { appendAll } from "../arrays.ts";
import { EventfoldError } from "../errors.ts";
import { type FileSystem, systemErrorCode } from "../fs/file-system.ts";
import { type LogPlace, endsBefore } from "../file-store/log/log-place.ts";
import { segmentPath } from "../file-store/log/segment.ts";
import { MalformedRecordError, readSections } from "../file-store/log/record-sections.ts";
import { decodeHead } from "../file-store/log/head.ts";
import type { CutRow } from "../file-store/streams/cuts.ts";
import { type StorePaths, storePaths } from "../file-store/disk/store-paths.ts";
import type { StreamKey } from "../file-store/disk/stream-key.ts";
import { readWhole } from "../file-store/disk/whole-file.ts";
import { copyState } from "../file-store/recovery/copy-marker.ts";
import { type Marker, readMarker } from "../file-store/recovery/marker.ts";
import { type LineHash, loadLineHash } from "../file-store/caches/snapshot-format.ts";
import {
  checkCheckpoint,
  checkCrateCheckpoints,
  checkDeadLetters,
  findCheckpoints,
  type FoundCheckpoint,
} from "./checks/check-consumers.ts";
import { checkCuts, lastCut } from "./checks/check-cuts.ts";
import { checkEnds } from "./checks/check-ends.ts";
import { checkKeys } from "./checks/check-keys.ts";
import { checkLayout } from "./checks/check-layout.ts";
import { checkRegistry } from "./checks/check-registry.ts";
import { checkStream } from "./checks/check-streams.ts";
import { findingOf, type Problem, type StoreCounts, type VerifyReport } from "./findings.ts";
import { LogDamage } from "./fixes/log-damage.ts";
import { LogNotes } from "./scan/log-notes.ts";
import { LogSurvey } from "./scan/log-survey.ts";
import { Slice } from "../event-loop.ts";
import {
  type Difference,
  StreamSurvey,
  type SurveyedStream,
  type Uncovered,
  type UncoveredLine,
} from "./scan/stream-survey.ts";
import { messageOf } from "../realm.ts";

/** Runs work with the store's lock held, or without it when it cannot be had; tells which. */
export type HoldLock = (work: () => Promise<void>) => Promise<boolean>;

/** Everything that was found in a store, with what to do about it. */
export class Diagnosis {
  readonly problems: Problem[] = [];
  readonly paths: StorePaths;
  readonly #fs: FileSystem;
  readonly #hash: LineHash;
  readonly #streams: StreamSurvey;
  readonly #notes = new LogNotes();
  readonly #log: LogSurvey;
  readonly #counts = { snapshots: 0, checkpoints: 0, deadLetters: 0 };
  #marker: Marker | undefined;
  #checkpoints: readonly FoundCheckpoint[] = [];
  #lastPosition = 0;
  #locked = false;

  private constructor(fs: FileSystem, paths: StorePaths, hash: LineHash) {
    this.#fs = fs;
    this.paths = paths;
    this.#hash = hash;
    this.#streams = new StreamSurvey(fs, paths);
    this.#log = new LogSurvey(fs, paths.commitLog, (header, buffer, base, segment) => {
      const file = segmentPath(paths.commitLog, segment);
      try {
        readSections(
          buffer,
          header,
          base,
          (section) => this.#streams.add(section, buffer, header, base, { path: file, segment }),
          (section) => this.#notes.add(section, header.position, { segment, offset: header.start }),
        );
      } catch (error) {
        if (!(error instanceof MalformedRecordError)) throw error;
        const message = `${error.message}, although the checksum is right`;
        this.problems.push({ kind: "log-inconsistent", severity: "error", file, offset: header.start, message });
      }
    });
  }

  static async make(fs: FileSystem, directory: string, hold: HoldLock): Promise<Diagnosis> {
    const paths = storePaths(fs.resolve(directory));
    if (fs.stat(paths.base)?.directory !== true)
      throw new EventfoldError("INVALID_ARGUMENT", `there is no directory ${paths.base}`);
    const survey = new Diagnosis(fs, paths, await loadLineHash());
    if (survey.#isCopying()) return survey;
    try {
      // Applied records do not change any more, so the lock is only needed for the rest.
      const head = survey.#readHead();
      if (head !== undefined) await survey.#log.advance(head);
      survey.#locked = await hold(() => survey.#surveyEnd());
      await survey.#surveyRest();
    } finally {
      survey.#streams.close();
    }
    return survey;
  }

  /** The place after the last good record. */
  get end(): LogPlace {
    return this.#log.end;
  }

  /** Where recovery may begin after a repair. */
  get newMarker(): Marker {
    return { ...this.end, cut: lastCut(this.cuts, this.end.position), consumers: this.#consumers };
  }

  /** Where the log cuts streams. */
  get cuts(): readonly CutRow[] {
    return this.#streams.cuts;
  }

  /** Whether parts of the log cannot be read. */
  get hasGaps(): boolean {
    return this.#log.gaps.length > 0;
  }

  /** The consumers that have notes. */
  get #consumers(): string[] {
    return [...this.#notes.consumers.keys()];
  }

  /** The files of all streams that the log knows. */
  get streamFiles(): string[] {
    return [...this.#streams.streams.keys()].map((key) => this.#streams.path(key));
  }

  report(): VerifyReport {
    const rank = { error: 0, warning: 1, info: 2 };
    const findings = this.problems.map(findingOf).sort((a, b) => rank[a.severity] - rank[b.severity]);
    const streams = [...this.#streams.streams.values()];
    const counts: StoreCounts = {
      streams: streams.length,
      events: this.#log.events,
      commits: this.#log.records,
      segments: this.#log.segments.length,
      ...this.#counts,
      bytes: this.#log.bytes + streams.reduce((sum, { end }) => sum + end, 0),
    };
    const clean = findings.every(({ severity }) => severity === "info");
    return { directory: this.paths.base, clean, locked: this.#locked, counts, findings };
  }

  /** Whether the directory is becoming a copy: nothing else can be said of it then. */
  #isCopying(): boolean {
    const state = copyState(this.#fs, this.paths);
    if (state.kind === "settled") return false;
    const isUsable = state.whole !== undefined;
    const message = isUsable
      ? "a copy of the store is being added to, or this was cut off; the next opening or copying completes it"
      : "a copy of a store is being made here, or this was cut off; make the copy again, and it goes on where it ended";
    const severity = isUsable ? "warning" : "error";
    this.problems.push({ kind: "copy-incomplete", severity, file: this.paths.copying, message });
    return true;
  }

  /** What changes while others write: the ends of the log and of the streams, and what follows both at once. */
  async #surveyEnd(): Promise<void> {
    const { paths } = this;
    const fs = this.#fs;
    this.#marker = readMarker(fs, paths.marker);
    const known = [this.#marker, this.#readHead()].filter((place) => place !== undefined);
    await this.#log.advance();
    this.#checkpoints = findCheckpoints(fs, paths);
    const tails = this.#streams.tails();
    const lines = tails.flatMap((tail) => this.#streams.lines(tail).lines);
    if (this.#isUntouched(lines, known)) {
      this.problems.push({
        kind: "foreign-events",
        severity: "info",
        file: paths.streams,
        message: "the Rust crate wrote this directory; the first opening builds a commit log from it",
      });
      return;
    }
    const damage = new LogDamage(
      {
        fs,
        paths,
        log: this.#log,
        streams: this.#streams,
        notes: this.#notes,
        checkpoints: this.#checkpoints,
        known,
      },
      lines,
    );
    this.#lastPosition = damage.lastPosition;
    appendAll(this.problems, damage.problems);
    this.#checkTails(tails, new Set(damage.rest));
    for (const [key, stream] of this.#streams.streams) this.#checkDifferences(key, stream);
    this.#checkMeta();
    const unsettled = (place: { readonly segment: number; readonly offset: number }): boolean =>
      this.#isUnsettled(place);
    const letters = checkDeadLetters(fs, paths, this.#notes, unsettled);
    appendAll(this.problems, letters.problems);
    this.#counts.deadLetters = letters.count;
    appendAll(this.problems, checkRegistry(fs, paths, this.#streams.streams, unsettled));
  }

  /** What stays as it is, or is only ever replaced as a whole. */
  async #surveyRest(): Promise<void> {
    for (const checkpoint of this.#checkpoints)
      appendAll(this.problems, checkCheckpoint(checkpoint, this.#lastPosition));
    appendAll(this.problems, await checkCrateCheckpoints(this.#fs, this.paths));
    this.#counts.checkpoints = this.#checkpoints.filter(({ kind }) => kind !== "aggregates" && kind !== "meta").length;
    appendAll(this.problems, checkLayout(this.#fs, this.paths));
    const slice = new Slice();
    for (const [key, stream] of this.#streams.streams) {
      if (slice.isOver) await slice.next();
      const path = this.#streams.path(key);
      if (stream.differences.length > 0 || stream.holes.length > 0 || this.#streams.unreadable.has(path)) continue;
      try {
        const directory = path.slice(0, path.lastIndexOf("/"));
        const { problems, hasSnapshot } = checkStream(this.#fs, this.#hash, directory, key, stream.end);
        appendAll(this.problems, problems);
        if (hasSnapshot) this.#counts.snapshots++;
      } catch (error) {
        if (systemErrorCode(error) === undefined) throw error;
        this.#streams.unreadable.set(path, error);
      }
    }
    for (const [file, error] of this.#streams.unreadable) {
      const message = `the system does not let us read this file: ${messageOf(error)}`;
      this.problems.push({ kind: "file-unreadable", severity: "error", file, message });
    }
  }

  /** Whether nothing here shows that this library was ever used on the directory. */
  #isUntouched(lines: readonly UncoveredLine[], known: readonly LogPlace[]): boolean {
    return (
      this.#log.segments.length === 0 &&
      this.#fs.stat(this.paths.marker) === undefined &&
      !known.some((place) => endsBefore(this.end, place)) &&
      lines.every(({ position }) => position === undefined)
    );
  }

  /** Lines of the streams' files after the part that the log covers. */
  #checkTails(tails: readonly Uncovered[], rest: ReadonlySet<UncoveredLine>): void {
    const byStream = new Map<string, UncoveredLine[]>();
    for (const line of rest) byStream.set(line.key, [...(byStream.get(line.key) ?? []), line]);
    for (const tail of tails) {
      const { key } = tail;
      const file = this.#streams.path(key);
      const { lines, end } = this.#streams.lines(tail);
      const left = byStream.get(key) ?? [];
      const ahead = left.find(({ position }) => position !== undefined);
      if (ahead !== undefined) {
        this.problems.push({
          kind: "stream-ahead",
          severity: "error",
          file,
          line: this.#streams.line(key, ahead.from),
          offset: ahead.from,
          message: `here are events of ours (position ${ahead.position}) that the commit log does not have`,
          fix: { kind: "cut", path: file, from: ahead.from },
          remedy: "cut off the events that were never committed",
        });
        continue;
      }
      const [first] = left;
      if (first !== undefined && lines.length > 0) {
        const message = `${left.length} events of the Rust crate, which are adopted when the stream is next used`;
        const line = this.#streams.line(key, first.from);
        this.problems.push({ kind: "foreign-events", severity: "info", file, line, offset: first.from, message });
      }
      if (end < tail.to) {
        this.problems.push({
          kind: "needs-recovery",
          severity: "info",
          file,
          line: this.#streams.line(key, end),
          offset: end,
          message: "the last line was not written to its end",
          fix: { kind: "cut", path: file, from: end },
          remedy: "cut off the line that was not written to its end",
        });
      }
    }
  }

  #checkDifferences(key: StreamKey, stream: SurveyedStream): void {
    const file = this.#streams.path(key);
    for (const message of stream.contradictions)
      this.problems.push({ kind: "log-inconsistent", severity: "error", file, message });
    if (stream.reclaimedTo > 0 && this.#log.gaps.length === 0) {
      const message = `the commit log has no lines of ${key} up to version ${stream.reclaimedTo}, as if they were reclaimed, and nothing that has dropped them`;
      this.problems.push({ kind: "log-inconsistent", severity: "error", file, message });
    }
    for (const hole of this.#log.gaps.length > 0 ? [] : stream.holes) {
      const message = `the commit log jumps from version ${hole.firstVersion - 1} of ${key} to ${(hole.lastVersion ?? 0) + 1}`;
      this.problems.push({ kind: "log-inconsistent", severity: "error", file, offset: hole.from, message });
    }
    const [first] = stream.differences;
    if (first === undefined) return;
    const isGone = this.#fs.stat(file) === undefined;
    for (const difference of stream.differences) {
      const { wrong, at, source, version } = difference;
      const isSettled = !difference.unwritten || !this.#isUnsettled(source);
      this.problems.push({
        kind: isSettled ? (isGone ? "stream-missing" : "stream-damaged") : "needs-recovery",
        severity: isSettled ? "error" : "info",
        file,
        ...(isGone ? {} : { line: this.#streams.line(key, wrong), offset: wrong }),
        message: this.#tell(key, difference, isGone, isSettled, version),
        fix: { kind: "restore", path: file, at, source },
        remedy: `write ${source.length} bytes from the commit log (${key} from version ${version} on)`,
      });
    }
  }

  #tell(key: string, { source }: Difference, isGone: boolean, isSettled: boolean, version: number): string {
    const where = `${key} from version ${version} on, ${source.length} bytes`;
    if (!isSettled) return `a commit has not reached this file yet (${where})`;
    return isGone
      ? `the stream's file is missing (${where})`
      : `these are not the bytes that were committed (${where})`;
  }

  #checkMeta(): void {
    const { marker, head } = this.paths;
    const fix = { fix: { kind: "marker" }, remedy: "let recovery start at a place that is right" } as const;
    const isOurs = this.#log.records > 0;
    if (this.#marker === undefined) {
      const isThere = this.#fs.stat(marker) !== undefined;
      const cost = "the next opening reads the whole commit log";
      const message = `${isThere ? "the marker is damaged" : "there is no marker"}; ${cost}`;
      if (isThere) this.problems.push({ kind: "marker-damaged", severity: "warning", file: marker, message, ...fix });
      else if (this.hasGaps)
        this.problems.push({ kind: "needs-recovery", severity: "info", file: marker, message, ...fix });
      else if (isOurs) this.problems.push({ kind: "needs-recovery", severity: "info", file: marker, message });
    } else if (!endsBefore(this.end, this.#marker) && !this.#log.isBoundary(this.#marker)) {
      const message = "the marker does not point between two commits";
      this.problems.push({ kind: "marker-damaged", severity: "error", file: marker, message, ...fix });
    }
    const bytes = readWhole(this.#fs, head);
    const isEmpty = bytes === undefined || bytes.length === 0;
    if (isEmpty ? isOurs : this.#readHead() === undefined) {
      const message = "other processes cannot see how far they may read; the next opening writes it again";
      const severity = isEmpty ? "info" : "warning";
      this.problems.push({ kind: "head-damaged", severity, file: head, message, ...(isEmpty ? {} : fix) });
    }
    if (!this.hasGaps) appendAll(this.problems, checkCuts(this.#fs, this.paths, this.#marker, this.#streams.cuts));
    appendAll(this.problems, checkKeys(this.#fs, this.paths));
    appendAll(this.problems, checkEnds(this.#fs, this.paths, this.#streams.streams, !this.hasGaps));
  }

  /** Whether the next opening still has to carry over what stands at a place of the log. */
  #isUnsettled(place: { readonly segment: number; readonly offset: number }): boolean {
    const marker = this.#marker;
    if (marker === undefined) return true;
    return place.segment > marker.segment || (place.segment === marker.segment && place.offset >= marker.offset);
  }

  #readHead(): LogPlace | undefined {
    for (let tries = 0; tries < 3; tries++) {
      const head = decodeHead(readWhole(this.#fs, this.paths.head) ?? Buffer.alloc(0));
      if (head !== undefined) return head;
    }
    return undefined;
  }
}
