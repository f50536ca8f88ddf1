import type { StreamKey } from "../disk/stream-key.ts";
import type { CommitLog } from "../log/commit-log.ts";
import type { CommitObserver, CommittedRecord } from "../log/committed-record.ts";
import { readSections, type Section } from "../log/record-sections.ts";

/** First version, first position and number of events of a section whose lines carry no position. */
interface AdoptedSection {
  readonly version: number;
  readonly position: number;
  readonly events: number;
}

/** The positions of foreign lines, which do not carry them. Reads the whole log when the first such line is met. */
export class AdoptedPositions implements CommitObserver {
  readonly #log: CommitLog;
  #streams: Map<StreamKey, AdoptedSection[]> | undefined;

  constructor(log: CommitLog) {
    this.#log = log;
  }

  /** The position of an event whose line does not carry one; `undefined` if the log does not have it either. */
  find(key: StreamKey, version: number): number | undefined {
    const sections = (this.#streams ??= this.#readLog()).get(key) ?? [];
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

  onCommitted({ sections }: CommittedRecord): void {
    if (this.#streams === undefined) return;
    for (const section of sections) addSection(this.#streams, section);
  }

  #readLog(): Map<StreamKey, AdoptedSection[]> {
    const streams = new Map<StreamKey, AdoptedSection[]>();
    this.#log.scanner.read(this.#log.scanner.beginning(), this.#log.end, (header, buffer, base) => {
      readSections(buffer, header, base, (section) => addSection(streams, section));
    });
    return streams;
  }
}

function addSection(streams: Map<StreamKey, AdoptedSection[]>, section: Section): void {
  if (!section.adopted) return;
  const { key, version, position, events } = section;
  const sections = streams.get(key);
  if (sections === undefined) streams.set(key, [{ version, position, events }]);
  else sections.push({ version, position, events });
}
