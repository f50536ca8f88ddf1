import type { CommitLog, LogPlace } from "./commit-log.ts";
import { readSections, type Section } from "./commit-record.ts";
import { logCorruption } from "./commit-log.ts";
import type { StreamKey } from "./stream-directory.ts";

interface IndexedStream {
  /** Offset behind the last committed byte of the stream's file. */
  end: number;
  version: number;
  /** First version, first position and number of events of each section whose lines carry no position. */
  readonly adopted: { readonly version: number; readonly position: number; readonly events: number }[];
}

/**
 * What the log says about each stream. Needed only for streams with lines that another program wrote, so
 * it is made (by reading the whole log) when the first of these is met.
 */
export class LogIndex {
  readonly #streams = new Map<StreamKey, IndexedStream>();

  static build(log: CommitLog): LogIndex {
    const index = new LogIndex();
    const first = log.segments()[0];
    if (first === undefined) return index;
    const start: LogPlace = { segment: first, offset: 0, position: first - 1 };
    const result = log.scan(start, log.end, (header, buffer, base) => {
      readSections(buffer, header, base, (section) => index.add(section));
    });
    if (result.invalid !== undefined)
      throw logCorruption(log.segmentPath(result.end.segment), result.end, result.invalid);
    return index;
  }

  add(section: Pick<Section, "key" | "version" | "position" | "events" | "adopted" | "at" | "start" | "end">): void {
    let stream = this.#streams.get(section.key);
    if (stream === undefined) this.#streams.set(section.key, (stream = { end: 0, version: 0, adopted: [] }));
    stream.end = section.at + section.end - section.start;
    stream.version = section.version + section.events - 1;
    if (section.adopted)
      stream.adopted.push({ version: section.version, position: section.position, events: section.events });
  }

  /** What is committed of a stream. */
  stream(key: StreamKey): { readonly version: number; readonly end: number } {
    return this.#streams.get(key) ?? { version: 0, end: 0 };
  }

  /** The position of an event whose line does not carry one; nothing if the log does not have it either. */
  position(key: StreamKey, version: number): number | undefined {
    const sections = this.#streams.get(key)?.adopted ?? [];
    let low = 0;
    let high = sections.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const section = sections[middle];
      if (section !== undefined && section.version + section.events <= version) low = middle + 1;
      else high = middle;
    }
    const section = sections[low];
    return section === undefined || version < section.version
      ? undefined
      : section.position + version - section.version;
  }
}
