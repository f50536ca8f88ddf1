import { isZero } from "../disk/simulated-content.ts";
import { gunzip } from "./gunzip.ts";
import type { SimulatedDisk } from "../disk/simulated-disk.ts";
import { nameOf, type SeenEvent } from "./check-events.ts";

/** Files by their paths, of a simulated disk or of a real one. */
export type StoreFiles = Pick<SimulatedDisk, "files" | "bytesOf">;

const decoder = new TextDecoder();

/**
 * Reads the commit log and the streams' files byte by byte, without the store's code, and compares them with each other
 * and with the events that the store returned. The store must have no pending work. Returns the events that the log has and the
 * store did not return: those of deleted instances, and the deletions.
 */
export function checkStoreFiles(disk: StoreFiles, directory: string, events: readonly SeenEvent[]): SeenEvent[] {
  const log = `${directory}/commit_log/`;
  const files = disk.files();
  const ends = new Map<string, { at: number; version: number }>();
  const streams = new Map<string, Uint8Array>();
  const logged: LoggedEvent[] = [];
  const cuts = new Map<string, number>();
  let position = 0;
  const segments = files.filter((file) => file.startsWith(log) && /\.jsonl(\.gz)?$/.test(file)).sort();
  for (const path of segments) {
    // A process has died before it removed the file that it had compressed.
    if (segments.includes(path.replace(/\.gz$/, "")) && path.endsWith(".gz")) continue;
    const found = disk.bytesOf(path) ?? new Uint8Array();
    const bytes = path.endsWith(".gz") ? gunzip(found) : found;
    let at = 0;
    const line = (): string => {
      const end = bytes.indexOf(NEWLINE, at);
      if (end < 0) throw new Error(`${path}, byte ${at}: expected a line that ends with LF`);
      const text = decoder.decode(bytes.subarray(at, end));
      at = end + 1;
      return text;
    };
    const name = Number(path.slice(log.length, log.length + 16));
    // A segment whose first line was cut off: the store writes it again before the first record.
    if (bytes.length === 0 || bytes[0] === 0 || bytes.indexOf(NEWLINE) < 0) {
      if (name !== position + 1)
        throw new Error(`${path}: expected a segment that begins with position ${position + 1}, found an empty one`);
      continue;
    }
    const first = (JSON.parse(line()) as { readonly first: number }).first;
    if (first !== name || first !== position + 1)
      throw new Error(`${path}: expected a segment that begins with position ${position + 1}, found ${first}`);
    while (at < bytes.length && bytes[at] !== 0) {
      const record = JSON.parse(line()) as { readonly commit: number; readonly events: number; readonly bytes: number };
      if (record.commit !== position + 1)
        throw new Error(`${path}: expected the commit at position ${position + 1}, found ${record.commit}`);
      const end = at + record.bytes;
      while (at < end) {
        const section = JSON.parse(line()) as Section;
        if (section.stream === undefined) {
          at += section.bytes;
          continue;
        }
        const stream = streamBytes(disk, directory, section.stream, streams);
        const known = ends.get(section.stream) ?? { at: 0, version: 0 };
        if (section.at !== known.at || section.version !== known.version + 1)
          throw new Error(
            `${path}: expected a section after byte ${known.at}, version ${known.version}, found ${JSON.stringify(section)}`,
          );
        const inLog = bytes.subarray(at, at + section.bytes);
        const inStream = stream.subarray(section.at, section.at + section.bytes);
        const isReclaimed = inLog[0] === SPACE && inLog.subarray(0, -1).every((byte) => byte === SPACE);
        const isBlank = inStream.every((byte) => byte === NEWLINE);
        if (inStream.length < section.bytes || !(isReclaimed || isBlank || equal(inLog, inStream)))
          throw new Error(
            `the copies of ${section.stream} from version ${section.version}, byte ${section.at} on differ`,
          );
        if (section.cut !== undefined) cuts.set(section.stream, section.version);
        for (let i = 0; i < section.events; i++) {
          const place = { stream: section.stream, version: section.version + i, position: ++position };
          logged.push({ line: isReclaimed ? undefined : line(), isBlank, ...place });
        }
        if (isReclaimed) at += section.bytes;
        ends.set(section.stream, { at: section.at + section.bytes, version: known.version + section.events });
      }
      if (at !== end)
        throw new Error(`${path}: expected the record of position ${record.commit} to end at byte ${end}, found ${at}`);
    }
    if (!isZero(bytes, at)) throw new Error(`${path}: expected zeros after byte ${at}`);
  }
  const others = compareAll(logged, cuts, events);
  for (const path of files) {
    if (!path.startsWith(`${directory}/streams/`) || !path.endsWith("/app.jsonl")) continue;
    const key = path.slice(directory.length + "/streams/".length, -"/app.jsonl".length);
    const size = streamBytes(disk, directory, key, streams).length;
    if (size !== (ends.get(key)?.at ?? 0))
      throw new Error(`${path}: expected ${ends.get(key)?.at ?? 0} bytes, as in the commit log, found ${size}`);
  }
  return others;
}

/** An event as the log has it. */
interface LoggedEvent {
  /** `undefined` if it was reclaimed. */
  readonly line: string | undefined;
  /** There are blank lines in its place in the stream's file. */
  readonly isBlank: boolean;
  readonly stream: string;
  readonly version: number;
  readonly position: number;
}

/** Compares the log's events with those that the store returned; `cuts` has the version of each stream's last cut. Returns the others. */
function compareAll(
  logged: readonly LoggedEvent[],
  cuts: ReadonlyMap<string, number>,
  events: readonly SeenEvent[],
): SeenEvent[] {
  const others: SeenEvent[] = [];
  let next = 0;
  for (const { line, isBlank, stream, version, position } of logged) {
    const isDropped = version < (cuts.get(stream) ?? 0);
    if ((line === undefined || isBlank) && !isDropped)
      throw new Error(`${stream}: expected version ${version}, which was not dropped, found that it was reclaimed`);
    const written = JSON.parse(line ?? '{"type":"$dropped"}') as WrittenLine;
    const event = events[next];
    if (event?.position === position) {
      if (isDropped) throw new Error(`expected ${nameOf(event)} to be dropped; the store returned it`);
      compare(line ?? "", written, event, stream);
      next++;
      continue;
    }
    // What says that a stream was cut need not be among its events.
    if (!isDropped && !written.type.startsWith("$"))
      throw new Error(`${stream}: the store did not return the event ${line ?? "that was reclaimed"}`);
    const slash = stream.indexOf("/");
    others.push({
      ...{ aggregate: idOf(stream.slice(0, slash)), id: idOf(stream.slice(slash + 1)), version, position },
      ...{ type: written.type, data: written.data, correlationId: written.meta?.correlation_id },
    });
  }
  const more = events[next];
  if (more !== undefined)
    throw new Error(`the store returned ${nameOf(more)}, which the commit log does not have in this place`);
  return others;
}

/** The id that a directory's name stands for. */
function idOf(name: string): string {
  return name.startsWith("%") ? decodeURIComponent(name.slice(1)) : name;
}

interface WrittenLine {
  readonly type: string;
  readonly data: unknown;
  readonly pos?: number;
  readonly meta?: { readonly correlation_id?: string };
}

const NEWLINE = 0x0a;
const SPACE = 0x20;

interface Section {
  /** Missing in a section that holds a note of a process manager. */
  readonly stream?: string;
  readonly version: number;
  readonly at: number;
  readonly events: number;
  readonly bytes: number;
  readonly cut?: string;
}

function streamBytes(disk: StoreFiles, directory: string, key: string, known: Map<string, Uint8Array>): Uint8Array {
  let bytes = known.get(key);
  if (bytes === undefined)
    known.set(key, (bytes = disk.bytesOf(`${directory}/streams/${key}/app.jsonl`) ?? new Uint8Array()));
  return bytes;
}

function compare(line: string, written: WrittenLine, event: SeenEvent, stream: string): void {
  if (
    written.type !== event.type ||
    (written.pos ?? event.position) !== event.position ||
    JSON.stringify(written.data) !== JSON.stringify(event.data ?? null)
  )
    throw new Error(`${stream}: expected the event ${line}, the store returned ${nameOf(event)}`);
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
