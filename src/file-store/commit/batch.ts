import type { Commit, CommitResult } from "../../event-store/event-store.ts";
import { lineOf } from "../lines/parse-line.ts";
import {
  consumerLines,
  type ConsumerSection,
  HEADER_ROOM,
  sealRecord,
  type Section,
  sectionHeader,
} from "../log/record-format.ts";
import type { NewStream } from "../streams/stream-registry.ts";
import { type StreamKey, streamOfKey } from "../disk/stream-key.ts";
import { crcOfSection } from "../streams/stream-index.ts";

/** A commit that waits to be written. */
export interface QueuedCommit {
  readonly commit: Commit;
  /** The streams' keys, in the order of `commit.appends`. */
  readonly keys: readonly StreamKey[];
  /** The JSON of the events' metadata, which whoever gave it may change from now on. */
  readonly metas: readonly (readonly (string | undefined)[])[];
  readonly resolve: (result: CommitResult) => void;
  readonly reject: (error: unknown) => void;
  /** When it was given up to a stream that another program holds, in ms of the monotonic clock. */
  lockedSince?: number;
}

/** What a stream's file looks like to the batch while it is put together. */
export interface PlannedEnd {
  version: number;
  end: number;
  crc: number | undefined;
}

/** A section that is not written yet. */
interface PlannedSection {
  readonly key: StreamKey;
  readonly stream: PlannedEnd;
  /** Of the stream before it. */
  readonly version: number;
  readonly at: number;
  readonly position: number;
  events: number;
  bytes: number;
  text: string | Buffer;
}

/**
 * One record of the commit log in the making: sections are added, then it is sealed. Its bytes are the
 * only serialisation of the events: the streams' files get slices of the same buffer.
 */
export class Batch {
  buffer: Buffer;
  /** Behind the last byte of the body. */
  end: number = HEADER_ROOM;
  events = 0;
  readonly firstPosition: number;
  /** Events of one stream that follow each other are one section, also those of several commits. */
  #open: (PlannedSection & { text: string }) | undefined;
  readonly slices: Section[] = [];
  readonly consumers: ConsumerSection[] = [];
  readonly commits: { readonly queued: QueuedCommit; readonly position: number }[] = [];
  readonly created: NewStream[] = [];
  /** Streams whose file was there before. */
  readonly existing: Set<StreamKey> = new Set<StreamKey>();

  constructor(buffer: Buffer, firstPosition: number) {
    this.buffer = buffer;
    this.firstPosition = firstPosition;
  }

  get isEmpty(): boolean {
    return this.end === HEADER_ROOM && this.#open === undefined;
  }

  get bytes(): number {
    return this.end + (this.#open?.bytes ?? 0);
  }

  /** Adds the events of one append, and moves the stream's end behind them. */
  addAppend(queued: QueuedCommit, index: number, end: PlannedEnd): void {
    const append = queued.commit.appends[index];
    const key = queued.keys[index];
    if (append === undefined || key === undefined) throw new RangeError(`no append ${index}`);
    const firstPosition = this.firstPosition + this.events;
    const metas = queued.metas[index];
    let text = "";
    for (let i = 0; i < append.events.length; i++) {
      const event = append.events[i];
      if (event !== undefined) text += lineOf(event, metas?.[i], firstPosition + i);
    }
    if (end.version === 0) {
      this.created.push({
        stream: append.stream,
        seconds: Math.floor((append.events[0]?.timestamp ?? 0) / 1000),
        mayBeKnown: this.existing.has(key),
      });
    }
    const bytes = Buffer.byteLength(text);
    if (this.#open?.stream !== end) {
      this.#closeSection();
      this.#open = {
        key,
        stream: end,
        version: end.version,
        at: end.end,
        position: firstPosition,
        events: 0,
        bytes: 0,
        text: "",
      };
    }
    this.#open.text += text;
    this.#open.events += append.events.length;
    this.#open.bytes += bytes;
    this.events += append.events.length;
    end.version += append.events.length;
    end.end += bytes;
  }

  /** Adds what a consumer notes. */
  addConsumer(section: ConsumerSection): void {
    this.#closeSection();
    const text = consumerLines(section);
    const bytes = Buffer.byteLength(text);
    this.#reserve(bytes);
    this.buffer.write(text, this.end, bytes, "utf8");
    this.end += bytes;
    this.consumers.push(section);
  }

  /** Adds lines that were found in the stream's file; `adopted` when another program wrote them. */
  addFound(key: StreamKey, end: PlannedEnd, events: number, lines: Buffer, adopted: boolean): void {
    this.#closeSection();
    if (adopted && end.version === 0) this.created.push({ stream: streamOfKey(key), seconds: 0, mayBeKnown: true });
    const { version, end: at } = end;
    const position = this.firstPosition + this.events;
    this.events += events;
    end.version += events;
    end.end += lines.length;
    this.#addSection({ key, stream: end, version, at, position, events, bytes: lines.length, text: lines }, adopted);
  }

  /** Writes the section that further events of the same stream have been added to. */
  #closeSection(): void {
    const open = this.#open;
    if (open === undefined) return;
    this.#open = undefined;
    this.#addSection(open, false);
  }

  #addSection({ key, stream, version, at, position, events, bytes, text }: PlannedSection, adopted: boolean): void {
    const header = sectionHeader({ key, version: version + 1, at, events, adopted }, bytes);
    const headerBytes = Buffer.byteLength(header);
    this.#reserve(headerBytes + bytes);
    this.buffer.write(header, this.end, headerBytes, "utf8");
    const start = this.end + headerBytes;
    if (typeof text === "string") this.buffer.write(text, start, bytes, "utf8");
    else text.copy(this.buffer, start);
    this.end = start + bytes;
    if (stream.crc !== undefined) stream.crc = crcOfSection(this.buffer, start, this.end, adopted, stream.crc);
    const { crc } = stream;
    this.slices.push({ key, version: version + 1, position, events, at, start, end: this.end, adopted, crc });
  }

  /** Ends what can still grow; `bytes` is final then. */
  finish(): void {
    this.#closeSection();
  }

  /** Completes the record, after `finish`; returns where it starts in the buffer. */
  seal(flushed: number): number {
    const { firstPosition: position, events, slices } = this;
    return sealRecord(this.buffer, this.end, {
      ...{ position, events, flushed },
      adopted: slices.some(({ adopted }) => adopted),
    });
  }

  #reserve(bytes: number): void {
    if (this.end + bytes <= this.buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.buffer.length * 2, this.end + bytes));
    this.buffer.copy(larger, 0, 0, this.end);
    this.buffer = larger;
  }
}
