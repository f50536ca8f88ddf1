import { largest } from "../../arrays.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import { isBefore, type LogPlace, endsBefore } from "../../file-store/log/log-place.ts";
import { segmentHeader, segmentPath } from "../../file-store/log/segment.ts";
import type { StorePaths } from "../../file-store/disk/store-paths.ts";
import { type FoundCheckpoint, sequenceOf } from "../checks/check-consumers.ts";
import { type Fix, lineAt, type Problem, readAt } from "../findings.ts";
import { correctGap, fillGap } from "./gap-plan.ts";
import type { LostNotes, LogNotes } from "../scan/log-notes.ts";
import type { LogGap, LogSurvey } from "../scan/log-survey.ts";
import type { StreamSurvey, UncoveredLine } from "../scan/stream-survey.ts";

export interface LogDamageParts {
  readonly fs: FileSystem;
  readonly paths: StorePaths;
  readonly log: LogSurvey;
  readonly streams: StreamSurvey;
  readonly notes: LogNotes;
  readonly checkpoints: readonly FoundCheckpoint[];
  /** The places of the marker and the head: up to there, the log was once durable. */
  readonly known: readonly LogPlace[];
}

/** Finds damage in the commit log, and the copies from which it can be repaired. */
export class LogDamage {
  readonly problems: Problem[] = [];
  /** Lines of the streams' files that belong into none of the gaps. */
  rest: readonly UncoveredLine[];
  /** Last position of the log when everything is repaired. */
  lastPosition: number;
  readonly #parts: LogDamageParts;

  /** `tailLines`: lines of the streams' files after the part that the log covers. */
  constructor(parts: LogDamageParts, tailLines: readonly UncoveredLine[]) {
    this.#parts = parts;
    this.#checkTail(tailLines);
    this.lastPosition = parts.log.end.position;
    const holes = [...parts.streams.streams.values()].flatMap((stream) => stream.holes);
    this.rest = [...holes.flatMap((hole) => parts.streams.lines(hole).lines), ...tailLines];
    for (const segment of parts.log.badHeaders) {
      this.problems.push({
        kind: "log-damaged",
        severity: "error",
        file: this.#path(segment),
        line: 1,
        offset: 0,
        message: "the segment's first line is not what was written",
        fix: { kind: "log-header", segment },
        remedy: "write the segment's first line again",
      });
    }
    for (const segment of parts.log.strays) {
      const message = "this segment's name does not follow from the one before it; nothing reads it";
      this.problems.push({ kind: "log-inconsistent", severity: "warning", file: this.#path(segment), message });
    }
    this.#checkNotes();
    for (const gap of parts.log.gaps) this.#check(gap);
  }

  #path(segment: number): string {
    return segmentPath(this.#parts.paths.commitLog, segment);
  }

  /** Decides what follows the last record: nothing, a torn tail, or damage. */
  #checkTail(lines: readonly UncoveredLine[]): void {
    const { fs, paths, log, streams, notes, checkpoints, known } = this.#parts;
    const { end, tail } = log;
    const gap = tail ?? log.nothingMore(known);
    const corrected = correctGap(fs, paths, streams, gap);
    // What others know is written only when the log is durable up to there.
    const isKnown =
      known.some((place) => endsBefore(end, place)) ||
      lines.some(({ position = 0 }) => position > end.position) ||
      checkpoints.some((found) => notes.lackedUpTo(found.name, sequenceOf(found)) !== undefined);
    if (corrected !== undefined) log.closeTail({ ...gap, to: gap.from + corrected.record.length });
    else if (isKnown) log.closeTail(gap);
    else if (tail !== undefined) {
      this.problems.push({
        kind: "needs-recovery",
        severity: "info",
        ...this.#where(tail),
        message: `a commit was not written to its end (${tail.why}); it was never acknowledged`,
        fix: { kind: "cut", path: this.#path(tail.segment), from: tail.from },
        remedy: "cut off the commit that was not written to its end",
      });
    }
  }

  /** Missing notes without a gap were commits without events at the end of a segment: the positions do not show them. */
  #checkNotes(): void {
    const { log, notes } = this.#parts;
    const [hole] = notes.missing;
    if (hole === undefined || (log.gaps[0]?.lastPosition ?? Infinity) < hole.before) return;
    const segments = log.segments.filter((segment) => segment >= hole.after && segment < hole.until);
    const [first] = segments;
    const last = segments.at(-1);
    if (first === undefined || last === undefined) return;
    const orBefore = first === last ? "" : `, or one before it from ${this.#path(first)} on,`;
    log.reopen(last, `notes of process managers are missing: this file${orBefore} ends too early`);
  }

  #check(gap: LogGap): void {
    const { fs, paths, streams } = this.#parts;
    const corrected = correctGap(fs, paths, streams, gap);
    if (corrected === undefined) {
      this.#fill(gap);
      return;
    }
    const { record, lastPosition } = corrected;
    const run = { segment: gap.segment, from: gap.from, to: gap.from + record.length, records: record, isNew: false };
    this.#report(gap, { kind: "log", run }, "put the damaged byte right, which the record's checksum tells");
    this.rest = this.rest.filter(({ position = 0 }) => position < gap.firstPosition || position > lastPosition);
    this.lastPosition = Math.max(this.lastPosition, lastPosition);
  }

  #fill(found: LogGap): void {
    const { fs, paths, streams, known } = this.#parts;
    const notes = this.#lostNotes(found);
    const { gap, runs, lost, used, mostBytes } = fillGap(fs, paths, streams, found, this.rest, notes);
    this.rest = this.rest.filter((line) => !used.has(line));
    const isLast = gap.lastPosition === undefined;
    const missing = [...lost];
    if (isLast) {
      const last = gap.firstPosition + used.size + lost.length - 1;
      const lastKnown = largest(
        known.map(({ position }) => position),
        0,
      );
      for (let position = last + 1; position <= lastKnown; position++) missing.push(position);
      this.lastPosition = Math.max(this.lastPosition, last);
    }
    const lacksNotes = isLast && missing.length === 0 && this.#bytesGone() > mostBytes;
    const isLossy = missing.length > 0 || notes.length > 0 || lacksNotes;
    const remedy = "write its events into the commit log again, from the streams' files";
    for (const run of runs) {
      const isEmpty = run.records.length === 0;
      if (isEmpty && run.from === run.to) continue;
      this.#report(gap, { kind: "log", run }, isEmpty ? "cut off bytes that are not a commit" : remedy, isLossy);
    }
    if (runs.every(({ records, from, to }) => records.length === 0 && from === to)) {
      if (isLast) this.#report(gap, { kind: "marker" }, "let the store end here", isLossy);
      else this.#report(gap);
    }
    for (const position of missing)
      this.problems.push({
        kind: "event-lost",
        severity: "error",
        ...this.#where(gap),
        message: `no copy of the event with position ${position} is left`,
      });
    for (const { name, from, to } of notes)
      this.problems.push({
        kind: "notes-lost",
        severity: "error",
        ...this.#where(gap),
        message: `notes ${from} to ${to}${isLast ? " (and perhaps more)" : ""} of process manager ${name} stood in a damaged part of the commit log, and only there: what it scheduled with them may not happen`,
      });
    if (lacksNotes && notes.length === 0)
      this.problems.push({
        kind: "notes-lost",
        severity: "error",
        ...this.#where(gap),
        message:
          "commits without events are gone from the end of the commit log: what process managers noted with them is lost, and what they scheduled may not happen",
      });
  }

  /** The least number of bytes that the log had after its last good record. */
  #bytesGone(): number {
    const { log, known } = this.#parts;
    const { end } = log;
    const gone = known.map((place) => {
      if (!isBefore(end, place)) return 0;
      const isHere = place.segment === end.segment && end.offset > 0;
      return place.offset - (isHere ? end.offset : segmentHeader(place.segment).length);
    });
    return largest(gone, 0);
  }

  #lostNotes(gap: LogGap): LostNotes[] {
    const { fs, log, notes, checkpoints } = this.#parts;
    const { lastPosition, segment, from, to } = gap;
    if (lastPosition === undefined) {
      // The numbers end here. Checkpoints that include later notes tell of them, and perhaps the damaged bytes.
      const last = notes.remnants(from === to ? Buffer.alloc(0) : readAt(fs, this.#path(segment), from, to - from));
      for (const found of checkpoints) last.set(found.name, Math.max(last.get(found.name) ?? 0, sequenceOf(found)));
      return [...last].flatMap(([name, sequence]) => notes.lackedUpTo(name, sequence) ?? []);
    }
    // A hole in the numbers belongs to the last gap before it.
    const next = log.gaps.find((other) => other.firstPosition > gap.firstPosition)?.firstPosition ?? Infinity;
    return notes.missing
      .filter(({ before }) => before > lastPosition && before < next)
      .map(({ notes: missing }) => missing);
  }

  #where({ segment, from, isMissing }: LogGap): {
    readonly file: string;
    readonly line?: number;
    readonly offset?: number;
  } {
    const file = this.#path(segment);
    if (isMissing) return { file };
    return { file, line: lineAt(readAt(this.#parts.fs, file, 0, from), from), offset: from };
  }

  #report(gap: LogGap, fix?: Fix, remedy?: string, lossy = false): void {
    const { firstPosition, lastPosition, why } = gap;
    const positions =
      lastPosition === undefined
        ? `from position ${firstPosition} on`
        : lastPosition < firstPosition
          ? `before position ${firstPosition}`
          : `from position ${firstPosition} to ${lastPosition}`;
    const isGone = gap.from === gap.to;
    this.problems.push({
      kind: isGone ? "log-missing" : "log-damaged",
      severity: "error",
      ...this.#where(gap),
      message: `${why} (${positions})`,
      ...(fix === undefined ? {} : { fix }),
      ...(remedy === undefined ? {} : { remedy }),
      lossy,
    });
  }
}
