import { crc32 } from "node:zlib";
import type { CutKind } from "../../cut.ts";
import type { FileSystem } from "../../fs/file-system.ts";
import { isCount } from "../../json.ts";
import { isChecksum, sealed } from "../disk/checksum.ts";
import { storedKey, type StreamKey } from "../disk/stream-key.ts";
import { readWhole, replaceFile } from "../disk/whole-file.ts";
import type { CommitLog } from "../log/commit-log.ts";
import type { CommitObserver, CommittedRecord } from "../log/committed-record.ts";
import type { LogPlace } from "../log/log-place.ts";
import { readSections, type Section } from "../log/record-sections.ts";
import { STREAM_START, type StreamEnd } from "./stream-end.ts";

/** Where a stream was cut: events with smaller versions do not count. */
export interface Cut {
  /** Version of the cut's first event. */
  readonly version: number;
  /** Offset of its line in the stream's file. */
  readonly at: number;
  readonly position: number;
  readonly kind: CutKind;
}

/** The cuts of all streams, in memory, and in `meta/cuts.json` as far as the marker needs them. */
export class Cuts implements CommitObserver {
  readonly #fs: FileSystem;
  readonly #path: string;
  readonly #log: CommitLog;
  /** By stream, in the order of their versions. A deletion makes all earlier cuts of its stream superfluous. */
  readonly #streams = new Map<StreamKey, Cut[]>();
  /** Position of the last cut that the file on disk has. */
  #saved = 0;
  #lastPosition = 0;

  constructor(fs: FileSystem, path: string, log: CommitLog) {
    this.#fs = fs;
    this.#path = path;
    this.#log = log;
  }

  get isEmpty(): boolean {
    return this.#streams.size === 0;
  }

  /** Loads the cuts before the marker; `last` is the position of the last of them. Those after it come with recovery. */
  open(marker: LogPlace, last: number): void {
    if (last === 0) return;
    const rows = readCuts(this.#fs, this.#path);
    if (rows !== undefined && rows.some(([, cut]) => cut.position === last)) {
      for (const [key, cut] of rows) if (cut.position <= marker.position) this.#add(key, cut);
      this.#saved = last;
    } else {
      const { scanner } = this.#log;
      scanner.read(scanner.beginning(), marker, (header, buffer, base) => {
        readSections(buffer, header, base, (section) => this.#addSection(section));
      });
    }
  }

  onCommitted({ sections }: CommittedRecord): void {
    for (const section of sections) this.#addSection(section);
  }

  /** Position of the last cut of any stream; 0 for none. */
  get lastPosition(): number {
    return this.#lastPosition;
  }

  /** The cuts of a stream, the last one last. */
  of(key: StreamKey): readonly Cut[] {
    return this.#streams.get(key) ?? [];
  }

  last(key: StreamKey): Cut | undefined {
    return this.#streams.get(key)?.at(-1);
  }

  /** Where the events of a stream begin that still count. */
  startOf(key: StreamKey): StreamEnd {
    const cut = this.last(key);
    return cut === undefined ? STREAM_START : { version: cut.version - 1, end: cut.at, crc: 0 };
  }

  /**
   * Whether a cut up to the position `last` has dropped the events of a section for readers that begin at `horizon` or later, and for
   * those that have begun before and have passed the position `after`.
   */
  isDroppedFor(
    { key, version, position, events }: Section,
    last: number,
    { horizon, after }: { readonly horizon: number; readonly after: number },
  ): boolean {
    const isPassed = position + events - 1 <= after;
    return this.of(key).some(
      (cut) =>
        version < cut.version &&
        cut.position <= last &&
        (cut.kind === "deleted" || (cut.position <= horizon && (isPassed || cut.position <= after))),
    );
  }

  /** The last cut of each stream up to a position. */
  *lastUpTo(position: number): Generator<CutRow, void, undefined> {
    for (const [key, cuts] of [...this.#streams]) {
      const cut = cuts.findLast((each) => each.position <= position);
      if (cut !== undefined) yield [key, cut];
    }
  }

  /** Whether a stream with this version has nothing after its deletion. */
  isDeleted(key: StreamKey, version: number): boolean {
    const cut = this.last(key);
    return cut?.kind === "deleted" && cut.version === version;
  }

  /** Whether a cut up to the position `horizon` has dropped the events of a section. No section reaches over a cut. */
  isDropped({ key, version }: Section, horizon: number = Infinity): boolean {
    return this.of(key).some((cut) => version < cut.version && cut.position <= horizon);
  }

  /**
   * Whether a reader that began when the store ended with the position `horizon` gets nothing of a section: its events were dropped
   * by a deletion, or by a compaction up to there; or it is a later compaction, of which this reader gets the old events.
   */
  isHidden({ key, version, position, cut: kind }: Section, horizon: number): boolean {
    if (kind === "compacted" && position > horizon) return true;
    const cuts = this.#streams.get(key);
    if (cuts === undefined || version >= (cuts.at(-1)?.version ?? 0)) return false;
    return cuts.some((cut) => version < cut.version && (cut.kind === "deleted" || cut.position <= horizon));
  }

  /** Writes the cuts up to a place, durably, if the file lacks some. Returns the position of the last one. Needs the store's lock. */
  async save({ position }: LogPlace): Promise<number> {
    const rows = [...this.#streams].flatMap(([key, cuts]) =>
      cuts.filter((cut) => cut.position <= position).map((cut) => [key, cut] as const),
    );
    const last = rows.reduce((most, [, cut]) => Math.max(most, cut.position), 0);
    if (last === this.#saved) return last;
    await writeCuts(this.#fs, this.#path, rows);
    this.#saved = last;
    return last;
  }

  #addSection({ key, version, at, position, cut: kind }: Section): void {
    if (kind !== undefined) this.#add(key, { version, at, position, kind });
  }

  #add(key: StreamKey, cut: Cut): void {
    this.#lastPosition = Math.max(this.#lastPosition, cut.position);
    const known = this.#streams.get(key);
    if (known !== undefined && (known.at(-1)?.version ?? 0) >= cut.version) return;
    if (known === undefined || cut.kind === "deleted") this.#streams.set(key, [cut]);
    else known.push(cut);
  }
}

/** A cut of a stream. */
export type CutRow = readonly [key: StreamKey, cut: Cut];

/** Writes `meta/cuts.json`, durably. */
export async function writeCuts(fs: FileSystem, path: string, rows: readonly CutRow[]): Promise<void> {
  const cuts = rows.map(([stream, { version, at, position, kind }]) => ({
    ...{ stream, version, at, position, cut: kind },
  }));
  await replaceFile(fs, path, `${sealed(JSON.stringify({ cuts }).slice(0, -1))}\n`, true);
}

/** The cuts in an intact file. */
export function readCuts(fs: FileSystem, path: string): readonly CutRow[] | undefined {
  const text = readWhole(fs, path)?.toString("utf8") ?? "";
  const match = /,"crc":"([0-9a-f]{8})"\}\n$/.exec(text.slice(-21));
  if (match === null || !isChecksum(match[1], crc32(text.slice(0, -match[0].length)))) return undefined;
  const { cuts } = JSON.parse(text) as { readonly cuts: readonly (Cut & { stream: string; cut: CutKind })[] };
  return cuts
    .filter(({ version, at, position }) => [version, at, position].every(isCount))
    .map(({ stream, version, at, position, cut }) => [storedKey(stream), { version, at, position, kind: cut }]);
}
