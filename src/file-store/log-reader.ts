import { isCount } from "../json.ts";
import { isAscii } from "node:buffer";
import type { EventTypes, ReadAllOptions, StoredEvent, StreamName } from "../event-store/event-store.ts";
import { type CommitLog, isBefore, type LogPlace, type RecordVisitor, ScanCursor } from "./commit-log.ts";
import { type RecordHeader, readSections, type Section } from "./commit-record.ts";
import { LineEvent, type LineOrigin, type LineStart, lineStart, startsWith } from "./event-line.ts";
import { Slice, turn } from "./slice.ts";
import { isBlank } from "./lines.ts";
import type { RecentRecords } from "./recent-records.ts";
import { type StreamKey, streamOfKey } from "./stream-directory.ts";

/** Events in a batch at least, unless it takes longer than a slice. */
const BATCH = 1000;
/** Streams whose names are kept at hand while reading. */
const MAX_ORIGINS = 10_000;
const NEWLINE = 0x0a;
/** Places that are remembered, for readers who come back for what is new. */
const MAX_PLACES = 256;

/** Reads the commit log front to back: all events of the store in their global order. */
export class LogReader {
  readonly #log: CommitLog;
  readonly #recent: RecentRecords;
  readonly #origin: (stream: StreamName, key: StreamKey) => LineOrigin;
  /** Places behind a position, most recently used last. */
  readonly #places = new Map<number, LogPlace>();
  readonly #starts = new WeakMap<ReadonlySet<string>, readonly LineStart[]>();

  constructor(log: CommitLog, recent: RecentRecords, origin: (stream: StreamName, key: StreamKey) => LineOrigin) {
    this.#log = log;
    this.#recent = recent;
    this.#origin = origin;
  }

  async *read({ from = 1, bookmark, wanted }: ReadAllOptions): AsyncGenerator<readonly StoredEvent[], void, undefined> {
    const origins = new Map<StreamKey, LineOrigin>();
    const limit = this.#log.end;
    if (from > limit.position) return;
    let place = this.start(from, bookmark);
    if (place === undefined) return;
    const cursor = new ScanCursor();
    try {
      while (isBefore(place, limit)) {
        const events: StoredEvent[] = [];
        const slice = new Slice();
        const visit: RecordVisitor = (header, buffer, base) => {
          if (header.position + header.events > from)
            this.#collect(header, buffer, base, from, wanted, origins, events);
          return events.length < BATCH && !slice.isOver;
        };
        const recent = this.#recent.at(place);
        if (recent !== undefined) {
          visit(recent.header, recent.bytes, recent.base, place.segment);
          place = recent.end;
          this.#remember(place);
          yield events;
          continue;
        }
        const result = this.#log.scan(place, limit, visit, cursor);
        if (result.invalid !== undefined) throw this.#log.corruption(result.end, result.invalid);
        if (!isBefore(place, result.end))
          throw this.#log.corruption(result.end, `the commit log ends here; position ${limit.position} was committed`);
        place = result.end;
        this.#remember(place);
        yield events;
        if (isBefore(place, limit)) await turn();
      }
    } finally {
      cursor.close();
    }
  }

  /** A known place at or before a position, as near as there is one, as `[segment, offset, position]`. */
  bookmark(position: number): unknown {
    const place = this.#near(position);
    return place === undefined ? undefined : [place.segment, place.offset, place.position];
  }

  /** A place from which reading on finds the event with position `from`; nothing if there is no log yet. */
  start(from: number, bookmark: unknown): LogPlace | undefined {
    const near = this.#near(from - 1);
    if (near?.position === from - 1) return near;
    const segment = this.#log.segments().findLast((first) => first <= from);
    if (segment === undefined) return undefined;
    let best: LogPlace = { segment, offset: 0, position: segment - 1 };
    if (near?.segment === segment && near.position > best.position) best = near;
    const marked = this.#placeOf(bookmark);
    return marked?.segment === segment && marked.position > best.position && marked.position < from ? marked : best;
  }

  #near(position: number): LogPlace | undefined {
    const exact = this.#places.get(position);
    if (exact !== undefined) return exact;
    let near: LogPlace | undefined;
    for (const place of this.#places.values())
      if (place.position < position && place.position > (near?.position ?? -1)) near = place;
    return near;
  }

  /** The place that a bookmark names, if it is one: only a hint, so a record that begins with the right position must stand there. */
  #placeOf(bookmark: unknown): LogPlace | undefined {
    if (!Array.isArray(bookmark)) return undefined;
    const [segment, offset, position] = bookmark as readonly unknown[];
    if (!isCount(segment) || !isCount(offset) || !isCount(position) || offset === 0) return undefined;
    const place = { segment, offset, position };
    let found = false;
    const { invalid } = this.#log.scan(place, this.#log.end, () => {
      found = true;
      return false;
    });
    return found && invalid === undefined ? place : undefined;
  }

  #remember(place: LogPlace): void {
    this.#places.delete(place.position);
    this.#places.set(place.position, place);
    const [oldest] = this.#places.keys();
    if (this.#places.size > MAX_PLACES && oldest !== undefined) this.#places.delete(oldest);
  }

  #collect(
    header: RecordHeader,
    buffer: Buffer,
    base: number,
    from: number,
    wanted: EventTypes | undefined,
    origins: Map<StreamKey, LineOrigin>,
    events: StoredEvent[],
  ): void {
    readSections(buffer, header, base, (section) => {
      const types = wanted?.get(section.key.slice(0, section.key.indexOf("/")));
      if (wanted !== undefined && types === undefined) return;
      const bytes = buffer.subarray(section.start, section.end);
      const starts = types === undefined || section.adopted ? undefined : this.#startsOf(types);
      // One search over a whole section that has nothing of interest is much cheaper than a look at each of its lines.
      if (starts?.every((start) => !bytes.includes(start.bytes)) === true) return;
      const origin = this.#sectionOrigin(origins, section);
      const ascii = isAscii(bytes);
      if (ascii && starts !== undefined) collectByStart(section, buffer, from, starts, origin, events);
      else collectAny(section, buffer, ascii ? "latin1" : "utf8", from, types, origin, events);
    });
  }

  #startsOf(types: ReadonlySet<string>): readonly LineStart[] {
    let starts = this.#starts.get(types);
    if (starts === undefined) this.#starts.set(types, (starts = [...types].map(lineStart)));
    return starts;
  }

  #sectionOrigin(origins: Map<StreamKey, LineOrigin>, { key }: Section): LineOrigin {
    let origin = origins.get(key);
    if (origin === undefined) {
      // A reader of a hundred thousand streams does not need to know them all at once.
      if (origins.size >= MAX_ORIGINS) origins.clear();
      origins.set(key, (origin = this.#origin(streamOfKey(key), key)));
    }
    return origin;
  }
}

/** The events of a section of lines that we wrote, of those types whose lines begin with one of `starts`. */
function collectByStart(
  section: Section,
  buffer: Buffer,
  from: number,
  starts: readonly LineStart[],
  origin: LineOrigin,
  events: StoredEvent[],
): void {
  // The lines are told apart in one string; those that are wanted get one of their own, so that whoever keeps a part of one
  // does not keep them all.
  const text = buffer.toString("latin1", section.start, section.end);
  const toVersion = section.version - section.position;
  let { position } = section;
  for (let at = 0; at < text.length; position++) {
    const stop = text.indexOf("\n", at);
    if (position >= from) {
      for (const start of starts) {
        if (!startsWith(text, at, start)) continue;
        const line = buffer.toString("latin1", section.start + at, section.start + stop);
        events.push(new LineEvent(line, position + toVersion, section.at + at, origin, position, start));
        break;
      }
    }
    at = stop + 1;
  }
}

function collectAny(
  section: Section,
  buffer: Buffer,
  encoding: "latin1" | "utf8",
  from: number,
  types: ReadonlySet<string> | undefined,
  origin: LineOrigin,
  events: StoredEvent[],
): void {
  let { position, version } = section;
  for (let start = section.start; start < section.end;) {
    const stop = buffer.indexOf(NEWLINE, start);
    const line = start;
    start = stop + 1;
    // Another program may have left blank lines between its events.
    if (section.adopted && isBlank(buffer, line, stop)) continue;
    if (position >= from) {
      const text = buffer.toString(encoding, line, stop);
      const offset = section.at + line - section.start;
      const event = new LineEvent(text, version, offset, origin, position);
      if (types === undefined || types.has(event.type)) events.push(event);
    }
    position++;
    version++;
  }
}
