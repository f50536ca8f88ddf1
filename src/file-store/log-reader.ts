import type { StoredEvent, StreamName } from "../event-store/event-store.ts";
import { type CommitLog, isBefore, type LogPlace, logCorruption } from "./commit-log.ts";
import { type RecordHeader, readSections } from "./commit-record.ts";
import { LineEvent, type LineOrigin } from "./event-line.ts";
import { type StreamKey, streamOfKey } from "./stream-directory.ts";

/** Events in a batch at least, unless it takes longer than a slice. */
const BATCH = 1000;
/** Reading for longer than this lets other work run in between. */
const SLICE_MS = 10;
/** Places that are remembered, for readers who come back for what is new. */
const MAX_PLACES = 256;

/** Reads the commit log front to back: all events of the store in their global order. */
export class LogReader {
  readonly #log: CommitLog;
  readonly #origin: (stream: StreamName, key: StreamKey) => LineOrigin;
  /** Places behind a position, most recently used last. */
  readonly #places = new Map<number, LogPlace>();

  constructor(log: CommitLog, origin: (stream: StreamName, key: StreamKey) => LineOrigin) {
    this.#log = log;
    this.#origin = origin;
  }

  async *read(from: number, bookmark: unknown): AsyncGenerator<readonly StoredEvent[], void, undefined> {
    const limit = this.#log.end;
    if (from > limit.position) return;
    let place = this.start(from, bookmark);
    if (place === undefined) return;
    while (isBefore(place, limit)) {
      const events: StoredEvent[] = [];
      const started = performance.now();
      const result = this.#log.scan(place, limit, (header, buffer, base) => {
        if (header.position + header.events > from) this.#collect(header, buffer, base, from, events);
        return events.length < BATCH && performance.now() - started < SLICE_MS;
      });
      const path = this.#log.segmentPath(result.end.segment);
      if (result.invalid !== undefined) throw logCorruption(path, result.end, result.invalid);
      if (!isBefore(place, result.end)) {
        throw logCorruption(path, result.end, `the commit log ends here; position ${limit.position} was committed`);
      }
      place = result.end;
      this.#remember(place);
      if (events.length > 0) yield events;
      if (isBefore(place, limit)) await new Promise<void>((resolve) => setImmediate(resolve));
    }
  }

  /** The place behind a position, as `[segment, offset, position]`. */
  bookmark(position: number): unknown {
    const place = this.#places.get(position);
    return place === undefined ? undefined : [place.segment, place.offset, place.position];
  }

  /** A place from which reading on finds the event with position `from`; nothing if there is no log yet. */
  start(from: number, bookmark: unknown): LogPlace | undefined {
    const position = from - 1;
    const known = this.#places.get(position);
    if (known !== undefined) return known;
    const segment = this.#log.segments().findLast((first) => first <= from);
    if (segment === undefined) return undefined;
    const beginning = { segment, offset: 0, position: segment - 1 };
    if (!Array.isArray(bookmark) || bookmark[0] !== segment || !Number.isSafeInteger(bookmark[1]) || bookmark[1] <= 0)
      return beginning;
    // Only a hint: a record that begins with the right position must stand there.
    const place = { segment, offset: bookmark[1] as number, position };
    let found = false;
    const { invalid } = this.#log.scan(place, undefined, () => {
      found = true;
      return false;
    });
    return found && invalid === undefined ? place : beginning;
  }

  #remember(place: LogPlace): void {
    this.#places.delete(place.position);
    this.#places.set(place.position, place);
    const [oldest] = this.#places.keys();
    if (this.#places.size > MAX_PLACES && oldest !== undefined) this.#places.delete(oldest);
  }

  #collect(header: RecordHeader, buffer: Buffer, base: number, from: number, events: StoredEvent[]): void {
    readSections(buffer, header, base, (section) => {
      const stream = streamOfKey(section.key);
      const { problem } = this.#origin(stream, section.key);
      const origin: LineOrigin = {
        stream,
        problem,
        adoptedPosition: (version) => section.position + version - section.version,
      };
      let { position, version } = section;
      for (let start = section.start; start < section.end;) {
        const stop = buffer.indexOf("\n", start);
        const text = buffer.toString("utf8", start, stop);
        const offset = section.at + start - section.start;
        start = stop + 1;
        // Another program may have left blank lines between its events.
        if (section.adopted && /^[ \t\r]*$/.test(text)) continue;
        if (position >= from) events.push(new LineEvent(text, version, offset, origin));
        position++;
        version++;
      }
    });
  }
}
