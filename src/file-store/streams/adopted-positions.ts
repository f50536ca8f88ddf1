import type { CommitLog } from "../log/commit-log.ts";
import { readSections, type Section } from "../log/record-sections.ts";
import type { StreamKey } from "../disk/stream-key.ts";

/** First version, first position and number of events of a section whose lines carry no position. */
interface AdoptedSection {
  readonly version: number;
  readonly position: number;
  readonly events: number;
}

/**
 * The positions of the lines that another program wrote: they do not carry them. Made (by reading the whole
 * log) when the first such line is met.
 */
export class LogIndex {
  readonly #streams = new Map<StreamKey, AdoptedSection[]>();

  static build(log: CommitLog): LogIndex {
    const index = new LogIndex();
    log.scanner.read(log.scanner.beginning(), log.end, (header, buffer, base) => {
      readSections(buffer, header, base, (section) => index.add(section));
    });
    return index;
  }

  add({ key, version, position, events, adopted }: Omit<Section, "at" | "start" | "end">): void {
    if (!adopted) return;
    const sections = this.#streams.get(key);
    if (sections === undefined) this.#streams.set(key, [{ version, position, events }]);
    else sections.push({ version, position, events });
  }

  /** The position of an event whose line does not carry one; nothing if the log does not have it either. */
  position(key: StreamKey, version: number): number | undefined {
    const sections = this.#streams.get(key) ?? [];
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
