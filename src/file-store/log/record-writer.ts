import type { CutKind } from "../../cut.ts";
import { crcOfSection } from "../lines/line-reader.ts";
import type { StreamKey } from "../disk/stream-key.ts";
import { HEADER_ROOM, sealRecord } from "./record-format.ts";
import { noteLines, type NoteSection, type Section, sectionHeader } from "./record-sections.ts";

/** Where a stream ends while a record is written. The writer moves it past the lines that it adds. */
export interface WrittenEnd {
  version: number;
  /** Size of the stream's file in bytes. */
  end: number;
  /** CRC-32 of the stream's lines; `undefined` if it is not tracked. */
  crc: number | undefined;
}

/** A section whose header is not written yet, because more events may join it. */
interface OpenSection {
  readonly key: StreamKey;
  readonly stream: WrittenEnd;
  /** The stream's version before the section. */
  readonly version: number;
  readonly at: number;
  readonly position: number;
  readonly cut?: CutKind | undefined;
  events: number;
  bytes: number;
  text: string | Buffer;
}

/**
 * Writes one record of the commit log: first sections, then `seal`. The record's bytes are the only
 * serialisation of its events; the streams' files receive slices of the same buffer.
 */
export class RecordWriter {
  buffer: Buffer;
  /** Offset after the last byte of the body. */
  end: number = HEADER_ROOM;
  events = 0;
  readonly firstPosition: number;
  readonly sections: Section[] = [];
  readonly notes: NoteSection[] = [];
  /** Consecutive events of one stream share one section, even if they come from several commits. */
  #open: (OpenSection & { text: string }) | undefined;

  constructor(buffer: Buffer, firstPosition: number) {
    this.buffer = buffer;
    this.firstPosition = firstPosition;
  }

  get isEmpty(): boolean {
    return this.end === HEADER_ROOM && this.#open === undefined;
  }

  /** Length of the record so far, header room included; final after `finish`. */
  get bytes(): number {
    return this.end + (this.#open?.bytes ?? 0);
  }

  /** Position of the next event. */
  get nextPosition(): number {
    return this.firstPosition + this.events;
  }

  /** Adds lines of our own, with the positions from `nextPosition` on. Lines for the same `stream` object in a row become one section. */
  addEvents(key: StreamKey, stream: WrittenEnd, events: number, lines: string): void {
    const bytes = Buffer.byteLength(lines);
    if (this.#open?.stream !== stream) {
      this.finish();
      const { version, end: at } = stream;
      this.#open = { key, stream, version, at, position: this.nextPosition, events: 0, bytes: 0, text: "" };
    }
    this.#open.text += lines;
    this.#open.events += events;
    this.#open.bytes += bytes;
    this.#advance(stream, events, bytes);
  }

  /** Adds the lines of a cut, as a section of their own. */
  addCut(key: StreamKey, stream: WrittenEnd, events: number, lines: string, cut: CutKind): void {
    this.addLines(key, stream, events, Buffer.from(lines), { cut });
  }

  /** Adds lines that already are in the stream's file; `adopted` if the Rust crate wrote them, `cut` if they are a cut. */
  addLines(
    key: StreamKey,
    stream: WrittenEnd,
    events: number,
    lines: Buffer,
    { adopted = false, cut }: { readonly adopted?: boolean; readonly cut?: CutKind | undefined },
  ): void {
    this.finish();
    const { version, end: at } = stream;
    const position = this.nextPosition;
    this.#advance(stream, events, lines.length);
    this.#write({ key, stream, version, at, position, cut, events, bytes: lines.length, text: lines }, adopted);
  }

  /** Adds what a consumer notes. */
  addNote(section: NoteSection): void {
    this.finish();
    const text = noteLines(section);
    const bytes = Buffer.byteLength(text);
    this.#reserve(bytes);
    this.buffer.write(text, this.end, bytes, "utf8");
    this.end += bytes;
    this.notes.push(section);
  }

  /** Writes the section that is still open. */
  finish(): void {
    const open = this.#open;
    if (open === undefined) return;
    this.#open = undefined;
    this.#write(open, false);
  }

  /** Writes the record's header; call `finish` first. Returns where the record starts in the buffer. */
  seal(flushed: number): number {
    const { firstPosition: position, events, sections } = this;
    return sealRecord(this.buffer, this.end, {
      ...{ position, events, flushed },
      adopted: sections.some(({ adopted }) => adopted),
    });
  }

  #advance(stream: WrittenEnd, events: number, bytes: number): void {
    this.events += events;
    stream.version += events;
    stream.end += bytes;
  }

  #write({ key, stream, version, at, position, cut, events, bytes, text }: OpenSection, adopted: boolean): void {
    const header = sectionHeader({ key, version: version + 1, at, events, adopted, cut }, bytes);
    const headerBytes = Buffer.byteLength(header);
    this.#reserve(headerBytes + bytes);
    this.buffer.write(header, this.end, headerBytes, "utf8");
    const start = this.end + headerBytes;
    if (typeof text === "string") this.buffer.write(text, start, bytes, "utf8");
    else text.copy(this.buffer, start);
    this.end = start + bytes;
    // A stream's checksum begins at its last cut.
    if (cut !== undefined) stream.crc = 0;
    if (stream.crc !== undefined) stream.crc = crcOfSection(this.buffer, start, this.end, adopted, stream.crc);
    const { crc } = stream;
    this.sections.push({ key, version: version + 1, position, events, at, start, end: this.end, adopted, cut, crc });
  }

  #reserve(bytes: number): void {
    if (this.end + bytes <= this.buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.buffer.length * 2, this.end + bytes));
    this.buffer.copy(larger, 0, 0, this.end);
    this.buffer = larger;
  }
}
