import { isAscii } from "node:buffer";
import type { EventTypes, ReadAllOptions, StoredEvent, StreamName } from "../../event-store/event-store.ts";
import type { CommitLog } from "./commit-log.ts";
import { isBefore, type LogPlace } from "./log-place.ts";
import { type RecordVisitor, ScanCursor } from "./log-scanner.ts";
import type { RecordHeader } from "./record-format.ts";
import { eventsReclaimed, isReclaimed } from "./reclaimed-section.ts";
import { type RecordText, readSections, type Section } from "./record-sections.ts";
import { LazyEvent, type LineOrigin, parsePayloads } from "../lines/lazy-event.ts";
import { type LineStart, lineStart, startOf, startOfOurs, START } from "../lines/line-scanner.ts";
import { Slice } from "../../event-loop.ts";
import { isBlank } from "../lines/line-reader.ts";
import { PlaceIndex } from "./place-index.ts";
import type { RecordCache } from "./record-cache.ts";
import { type StreamKey, streamOfKey } from "../disk/stream-key.ts";

/** Events in a batch at least, unless it takes longer than a slice. The objects of so few are garbage while they are young. */
const BATCH = 300;
/** Streams that are kept at hand while reading, about 250 bytes each. */
const MAX_STREAMS = 1 << 17;
/** More types than this are told apart line by line only. */
const MAX_SEARCHED = 8;
const NEWLINE = 0x0a;

/** A stream whose events a reader has found. */
interface Source {
  readonly type: string;
  readonly origin: LineOrigin;
}

/** The streams that readers have found: fifty concurrent readers share them. */
interface Streams {
  readonly sources: Map<StreamKey, Source>;
  readonly keys: Map<string, StreamKey>;
}

/** The wanted events of one type of aggregate. */
interface Wanted {
  /** `undefined` for all. */
  readonly types: ReadonlySet<string> | undefined;
  /** All other types are wanted. */
  readonly isInverse: boolean;
  /** How the lines of these types begin, if they are ours. */
  readonly starts: readonly LineStart[] | undefined;
}

const EVERYTHING: Wanted = { types: undefined, isInverse: false, starts: undefined };

/** One pass over the log. */
interface Pass {
  readonly from: number;
  /** By type of aggregate; nothing for one that is not wanted, and for all if everything is. */
  readonly wanted: ReadonlyMap<string, Wanted> | undefined;
  /** Stands in every record that has a line of ours with a wanted type; nothing if that is not worth looking for. */
  readonly searched: readonly Buffer[] | undefined;
  readonly withDropped: boolean;
  /** Later compactions do not count for the reader. */
  readonly horizon: number;
  /** It does not miss reclaimed events up to here. */
  readonly passed: number;
  readonly streams: Streams;
  /** Beginnings of lines that were come across. */
  readonly known: LineStart[];
}

/** Tells which events no longer count. */
export interface DroppedSections {
  readonly isEmpty: boolean;
  /** Whether a cut up to the position `horizon` has dropped the events of a section. */
  isDropped(section: Section, horizon: number): boolean;
  /** Whether a reader that began when the store ended with the position `horizon` gets nothing of a section. */
  isHidden(section: Section, horizon: number): boolean;
}

/** Reads the commit log front to back: all events of the store in their global order. */
export class LogReader {
  readonly #log: CommitLog;
  readonly #recent: RecordCache;
  readonly #origin: (stream: StreamName, key: StreamKey) => LineOrigin;
  readonly #dropped: DroppedSections;
  readonly #places = new PlaceIndex();
  /** Places that come from checkpoints. */
  readonly #hints = new PlaceIndex();
  /** Of those who are reading now. */
  #streams: Streams | undefined;
  #passes = 0;
  readonly #starts = new WeakMap<ReadonlySet<string>, readonly LineStart[]>();

  constructor(
    log: CommitLog,
    recent: RecordCache,
    dropped: DroppedSections,
    origin: (stream: StreamName, key: StreamKey) => LineOrigin,
  ) {
    this.#log = log;
    this.#dropped = dropped;
    this.#recent = recent;
    this.#origin = origin;
  }

  async *read({
    from = 1,
    to = Infinity,
    wanted,
    undeclared,
    dropped = false,
    horizon,
    passed = 0,
  }: ReadAllOptions): AsyncGenerator<readonly StoredEvent[], void, undefined> {
    const limit = this.#log.end;
    if (from > Math.min(limit.position, to)) return;
    let place = this.start(from);
    if (place === undefined) return;
    const pass = this.#begin(from, wanted, undeclared, dropped, horizon ?? limit.position, passed);
    const cursor = new ScanCursor();
    const slice = new Slice();
    try {
      while (isBefore(place, limit) && place.position < to) {
        const events: LazyEvent[] = [];
        const visit: RecordVisitor = (header, buffer, base) => {
          if (header.position + header.events > from) this.#collect(header, buffer, base, pass, events);
          return events.length < BATCH && header.position + header.events <= to && !slice.isOver;
        };
        let goesOn: boolean | void = true;
        for (
          let cached = this.#recent.at(place);
          cached !== undefined && goesOn !== false && isBefore(place, limit);
          cached = this.#recent.at(place)
        ) {
          goesOn = visit(cached.header, cached.bytes, cached.base, place.segment);
          place = cached.end;
        }
        if (goesOn !== false && isBefore(place, limit)) place = this.#scan(place, limit, visit, cursor);
        this.#places.add(place);
        parsePayloads(events);
        yield place.position > to ? events.filter(({ position }) => position <= to) : events;
        if (slice.isOver && isBefore(place, limit)) await slice.next();
      }
    } finally {
      cursor.close();
      if (--this.#passes === 0) this.#streams = undefined;
    }
  }

  /** Reads records from the log's files. Returns the place after the last one. */
  #scan(place: LogPlace, limit: LogPlace, visit: RecordVisitor, cursor: ScanCursor): LogPlace {
    const { scanner } = this.#log;
    const { end, invalid } = scanner.scan(place, limit, visit, cursor);
    if (invalid !== undefined) throw scanner.corruption(end, invalid);
    if (!isBefore(place, end))
      throw scanner.corruption(end, `the commit log ends here; position ${limit.position} was committed`);
    return end;
  }

  #begin(
    from: number,
    wanted: EventTypes | undefined,
    undeclared: EventTypes | undefined,
    withDropped: boolean,
    horizon: number,
    passed: number,
  ): Pass {
    this.#passes++;
    this.#streams ??= { sources: new Map(), keys: new Map() };
    return {
      from,
      wanted: this.#wanted(wanted, false) ?? this.#wanted(undeclared, true),
      searched: wanted === undefined ? undefined : this.#searched(wanted),
      withDropped,
      horizon,
      passed: Math.max(passed, from - 1),
      streams: this.#streams,
      known: [],
    };
  }

  #wanted(events: EventTypes | undefined, isInverse: boolean): ReadonlyMap<string, Wanted> | undefined {
    if (events === undefined) return undefined;
    return new Map(
      [...events].map(([type, types]) => [type, { types, isInverse, starts: this.#startsOf(types) }] as const),
    );
  }

  /** The last known place at or before a position. */
  place(position: number): LogPlace | undefined {
    return this.#places.find(position);
  }

  /** Remembers a place that another session knew. It is checked before it is used. */
  addHint(place: LogPlace): void {
    this.#hints.add(place);
  }

  /** A place from which a reader finds the event with position `from`; `undefined` if there is no log yet. */
  start(from: number): LogPlace | undefined {
    const known = this.#places.find(from - 1);
    if (known?.position === from - 1) return known;
    const segment = this.#log.scanner.segments().findLast((first) => first <= from);
    if (segment === undefined) return undefined;
    const beginning: LogPlace = { segment, offset: 0, position: segment - 1 };
    const best = known !== undefined && isBefore(beginning, known) ? known : beginning;
    const hint = this.#hints.find(from - 1);
    if (hint === undefined || hint.segment !== segment || hint.position <= best.position || !this.#isPlace(hint))
      return best;
    this.#places.add(hint);
    return hint;
  }

  /** Whether the event at a position was dropped by a cut up to the position `horizon`. */
  isDropped(position: number, horizon: number = Infinity): boolean {
    let isDropped = false;
    const place = this.start(position);
    if (this.#dropped.isEmpty || position > this.#log.end.position || place === undefined) return false;
    const { end, invalid } = this.#log.scanner.scan(place, this.#log.end, (header, buffer, base) => {
      if (header.position + header.events <= position) return true;
      readSections(buffer, header, base, (section) => {
        if (section.position <= position && position < section.position + section.events)
          isDropped = this.#dropped.isDropped(section, horizon);
      });
      return false;
    });
    if (invalid !== undefined) throw this.#log.scanner.corruption(end, invalid);
    return isDropped;
  }

  /** Whether a hint is a place in this log: a record that begins with the next position must be there. */
  #isPlace(hint: LogPlace): boolean {
    let found = false;
    const { invalid } = this.#log.scanner.scan(hint, this.#log.end, () => {
      found = true;
      return false;
    });
    return found && invalid === undefined;
  }

  #collect(header: RecordHeader, buffer: Buffer, base: number, pass: Pass, events: LazyEvent[]): void {
    const { searched } = pass;
    const body = buffer.subarray(header.body - base, header.end - base);
    // One search over a whole record that has nothing of interest is much cheaper than a look at each of its lines.
    if (
      searched !== undefined &&
      !header.adopted &&
      !header.isReclaimed &&
      searched.every((text) => !body.includes(text))
    )
      return;
    const ascii = isAscii(body);
    const visit = (found: Section, record: RecordText): void => {
      let section = found;
      if (!this.#dropped.isEmpty && !pass.withDropped) {
        if (this.#dropped.isHidden(section, pass.horizon)) return;
        if (section.cut === "compacted") section = withoutFirst(section, buffer);
      }
      if (header.isReclaimed && isReclaimed(buffer, section)) {
        if (section.position + section.events - 1 <= pass.passed && !pass.withDropped) return;
        // Of a compaction that does not count for this reader, or that is not visible here yet.
        if (!pass.withDropped) throw eventsReclaimed(section);
      }
      const { type, origin } = this.#source(section.key, pass.streams);
      const wanted = pass.wanted === undefined ? EVERYTHING : pass.wanted.get(type);
      if (wanted === undefined) return;
      const { starts } = wanted;
      if (header.isReclaimed && isReclaimed(buffer, section)) addPlaces(section, pass.from, origin, events);
      else if (section.adopted || !ascii || starts === undefined)
        collectAny(section, buffer, ascii ? "latin1" : "utf8", pass, wanted, origin, events);
      else if (wanted.isInverse) {
        if (!hasOnly(section, record, starts)) collectAny(section, buffer, "latin1", pass, wanted, origin, events);
      } else collectByStart(section, record, pass, starts, origin, events);
    };
    readSections(buffer, header, base, visit, undefined, pass.streams.keys);
  }

  /** What stands in every line of a wanted type, without what stands in all lines: that would make the search slow. */
  #searched(wanted: EventTypes): readonly Buffer[] | undefined {
    const types = [...new Set([...wanted.values()].flatMap((names) => [...names]))];
    return types.length > MAX_SEARCHED ? undefined : types.map((type) => lineStart(type).bytes.subarray(START.length));
  }

  #startsOf(types: ReadonlySet<string>): readonly LineStart[] {
    let starts = this.#starts.get(types);
    if (starts === undefined) this.#starts.set(types, (starts = [...types].map(lineStart)));
    return starts;
  }

  #source(key: StreamKey, { sources, keys }: Streams): Source {
    let source = sources.get(key);
    if (source === undefined) {
      if (sources.size >= MAX_STREAMS) {
        sources.clear();
        keys.clear();
      }
      const stream = streamOfKey(key);
      sources.set(key, (source = { type: stream.type, origin: this.#origin(stream, key) }));
    }
    return source;
  }
}

/** The events of a section of lines that we wrote, of those types whose lines begin with one of `starts`. */
function collectByStart(
  section: Section,
  record: RecordText,
  { from }: Pass,
  starts: readonly LineStart[],
  origin: LineOrigin,
  events: LazyEvent[],
): void {
  const { text, start: base } = record;
  const toVersion = section.version - section.position;
  const first = section.start - base;
  const end = section.end - base;
  let { position } = section;
  for (let at = first; at < end; position++) {
    const stop = text.indexOf("\n", at);
    if (position >= from) {
      const start = startOf(text, at, starts);
      if (start !== undefined) {
        const offset = section.at + at - first;
        events.push(new LazyEvent(text, at, stop, position + toVersion, offset, origin, position, start));
      }
    }
    at = stop + 1;
  }
}

/** Stands for the line of an event that was reclaimed. */
const RECLAIMED = '{"type":"$dropped","data":null,"ts":0}';

/** The places of events whose lines were reclaimed. */
function addPlaces(
  { position, version, events, at }: Section,
  from: number,
  origin: LineOrigin,
  found: LazyEvent[],
): void {
  for (let i = 0; i < events; i++)
    if (position + i >= from)
      found.push(new LazyEvent(RECLAIMED, 0, RECLAIMED.length, version + i, at, origin, position + i));
}

/** A section without its first event. */
function withoutFirst(section: Section, buffer: Buffer): Section {
  const { version, position, events, at, start } = section;
  const next = buffer.indexOf(NEWLINE, start) + 1;
  return {
    ...{ ...section, version: version + 1, position: position + 1, events: events - 1 },
    ...{ at: at + next - start, start: next },
  };
}

/** Whether all lines of a section of lines that we wrote begin with one of `starts`. */
function hasOnly(section: Section, { text, start: base }: RecordText, starts: readonly LineStart[]): boolean {
  const end = section.end - base;
  for (let at = section.start - base; at < end; at = text.indexOf("\n", at) + 1)
    if (startOf(text, at, starts) === undefined) return false;
  return true;
}

function collectAny(
  section: Section,
  buffer: Buffer,
  encoding: "latin1" | "utf8",
  { from, known }: Pass,
  { types, isInverse }: Wanted,
  origin: LineOrigin,
  events: LazyEvent[],
): void {
  let { position, version } = section;
  for (let start = section.start; start < section.end;) {
    const stop = buffer.indexOf(NEWLINE, start);
    const line = start;
    start = stop + 1;
    // The Rust crate may have left blank lines between its events.
    if (section.adopted && isBlank(buffer, line, stop)) continue;
    if (position >= from) {
      const text = buffer.toString(encoding, line, stop);
      const offset = section.at + line - section.start;
      const start = section.adopted ? undefined : startOfOurs(text, 0, text.length, known);
      const event = new LazyEvent(text, 0, text.length, version, offset, origin, position, start);
      if (types === undefined || types.has(event.type) !== isInverse) events.push(event);
    }
    position++;
    version++;
  }
}
